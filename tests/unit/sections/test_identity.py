"""The fingerprint of an experiment follows its meaning: not its comments, its line ends, its folder or its Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.identity import identity_of
from kaggle_manager.sections.project import get_section

TOML = """
name = "s"
title = "S"
trains = true
default_scenario = "a"
kernel = { accelerator = "NvidiaTeslaT4", include = ["kernels"] }
[scenarios.a]
environment = "m:Env"
environment_files = ["env.py", "net.xml"]
reward_files = ["reward.py"]
algorithm = "DQN"
timesteps = 10
seed = 1
models = "data/models"
environment_kwargs = { horizon = 600 }
hyperparameters = { gamma = 0.9, policy_kwargs = { net_arch = [8, 8] } }
quick = { models = "data/quick", environment_kwargs = { horizon = 60 } }
"""
ENV = 'def step(x):\n    text = f"""{x}\n\n  # kept"""\n    return text  # said\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "sections" / "s"
    folder.mkdir(parents=True)
    (folder / "section.toml").write_text(TOML, encoding="utf-8")
    (folder / "env.py").write_text(ENV, encoding="utf-8")
    (folder / "reward.py").write_text("def reward(x):\n    return -x\n", encoding="utf-8")
    (folder / "net.xml").write_text("<net/>\n", encoding="utf-8")
    return tmp_path / "project"


def identity(root: Path, *, quick: bool = False) -> dict[str, object]:
    return dict(identity_of(get_section(root, "s"), "a", root, quick=quick))


def edit(root: Path, name: str, text: str) -> None:
    (root / "sections" / "s" / name).write_bytes(text.encode())


def test_it_names_what_training_depends_on(root: Path) -> None:
    found = identity(root)
    assert found["algorithm"] == "DQN"
    assert found["policy"] == "MlpPolicy"
    assert found["policy_architecture"] == [8, 8]
    assert found["hyperparameters"] == {"gamma": 0.9, "policy_kwargs": {"net_arch": [8, 8]}}
    assert found["environment_kwargs"] == {"horizon": 600}
    assert found["seed"] == 1


@pytest.mark.parametrize(
    "text",
    [
        ENV.replace("\n", "\r\n"),
        "# a comment\n\n" + ENV.replace("  # said", "   "),
        ENV.replace("    return", "\n    # why\n    return") + "\n\n",
        ENV.rstrip("\n"),
    ],
)
def test_comments_blank_lines_and_line_ends_do_not_count(root: Path, text: str) -> None:
    before = identity(root)
    edit(root, "env.py", text)
    assert identity(root) == before


@pytest.mark.parametrize(
    "text", [ENV.replace("return text", "return x"), ENV.replace("# kept", "# other"), ENV.replace("\n\n", "\n", 1)]
)
def test_code_and_text_inside_strings_count(root: Path, text: str) -> None:
    before = identity(root)
    assert text != ENV
    edit(root, "env.py", text)
    after = identity(root)
    assert after["environment_fingerprint"] != before["environment_fingerprint"]
    assert after["reward_fingerprint"] == before["reward_fingerprint"]


def test_a_changed_reward_changes_the_reward_fingerprint_alone(root: Path) -> None:
    before = identity(root)
    edit(root, "reward.py", "def reward(x):\n    return -2 * x\n")
    after = identity(root)
    assert {key for key in before if before[key] != after[key]} == {"reward_fingerprint"}


def test_arguments_and_data_files_count(root: Path) -> None:
    before = identity(root)
    assert identity(root, quick=True)["environment_fingerprint"] != before["environment_fingerprint"]
    edit(root, "net.xml", "<net a='1'/>\n")
    assert identity(root)["environment_fingerprint"] != before["environment_fingerprint"]


def test_the_folder_of_the_project_does_not_count(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "elsewhere")
    assert identity(tmp_path / "elsewhere") == identity(root)


def test_a_missing_or_broken_source_is_a_config_error(root: Path) -> None:
    edit(root, "env.py", "def broken(:\n  '''")
    with pytest.raises(ConfigError, match=r"env\.py cannot be fingerprinted"):
        identity(root)
    (root / "sections" / "s" / "env.py").unlink()
    with pytest.raises(ConfigError, match=r"env\.py cannot be fingerprinted"):
        identity(root)


def test_another_python_finds_the_same_lines(root: Path) -> None:
    """Python 3.12 tokenises f-strings differently; the kernel's Python need not be the laptop's."""
    other = next((path for name in ("python3.12", "python3.13") if (path := shutil.which(name))), None)
    source = Path(sys.modules[identity_of.__module__].__file__ or "").read_text(encoding="utf-8")
    function = source[source.index("def _meaningful_lines") :]
    program = f"import io, tokenize, sys\n{function}\nsys.stdout.write(_meaningful_lines(sys.stdin.read()))"
    outputs = []
    for python in (sys.executable, other or pytest.skip("no second Python on this machine")):
        done = subprocess.run(
            [python, "-c", program], input=ENV + source, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            pytest.skip(f"{python} does not run here")
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert "# said" not in outputs[0]


def test_what_is_declared_about_judging_counts_but_not_as_the_environment(root: Path) -> None:
    before = identity(root)
    path = root / "sections" / "s" / "section.toml"
    path.write_text(path.read_text(encoding="utf-8") + "\n[study]\nmargin_s = 2.0\n", encoding="utf-8")
    after = identity(root)
    assert {key for key in before if before[key] != after[key]} == {"study_fingerprint"}


def test_a_seed_of_ones_own_is_the_only_difference(root: Path) -> None:
    section = get_section(root, "s")
    before, after = identity_of(section, "a", root), identity_of(section, "a", root, seed=7)
    assert {key for key in before if before[key] != after[key]} == {"seed"}
    assert after["seed"] == 7
