"""The fingerprint of an experiment follows its meaning: not its comments, its line ends, its folder or its Python."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from kaggle_manager.checkpoints import Level, compare
from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.identity import identity_of
from kaggle_manager.sections.meaning import meaning_of
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
        "\ufeff" + ENV,
        '"""A docstring."""\n' + ENV.replace("(x):\n", '(x):\n    """What a step is."""\n    pass\n'),
        ENV.replace("(x)", "(\n    x,\n)"),
    ],
)
def test_comments_docstrings_layout_and_a_byte_order_mark_do_not_count(root: Path, text: str) -> None:
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
    assert {key for key in before if before[key] != after[key]} == {"reward_fingerprint", "source_files"}


def test_of_a_text_file_its_mark_and_line_ends_do_not_count_and_of_another_every_byte_does(root: Path) -> None:
    before = identity(root)
    edit(root, "net.xml", "\ufeff<net/>\r\n")
    assert identity(root) == before
    for content in (b"\0\r\n", b"\0\n", b"\xff\r\n", b"\xff\n"):
        (root / "sections" / "s" / "net.xml").write_bytes(content)
        assert identity(root) != before, content
        before = identity(root)


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


EVERYTHING = (
    "from __future__ import annotations\n"
    "import a.b as c\n"
    "def f(x, /, y: int = 1, *args, z=f'{1!r:>{2}} {{}} {x=}' 'more' f'', **others) -> None:\n"
    "    match x:\n"
    "        case [1, *rest] if rest: yield {**others, 'k': (x := ...)}\n"
    "        case None | C(a=True): raise E from None\n"
    "class C(B, metaclass=M):\n"
    "    async def g(self): return [i async for i in self if not i], 10**9\n"
    "    h = lambda: 1e400j, b'\\xff', '\\u2028\\ud800'\n"
)


def test_every_python_finds_the_same_meaning() -> None:
    """The digest was made by Python 3.11, 3.12 and 3.13, which have other syntax trees of an f-string."""
    digest = hashlib.sha256(meaning_of("everything.py", EVERYTHING.encode())).hexdigest()
    assert digest == "202da03fd40fcbf6643fca3016826990b2e7a0cff6fda51404aef2a92ad00c3f"
    assert meaning_of("e.py", EVERYTHING.encode()) != meaning_of("e.py", EVERYTHING.replace("10**9", "10**8").encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('hyperparameters.learning_rate = "lin_1e-3"', 'hyperparameters.learning_rate = "lin_0.001"'),
        ('hyperparameters.learning_rate = "lin_1e-3"', "hyperparameters.learning_rate = { linear = [1e-3, 0] }"),
        (
            "hyperparameters.learning_rate = { linear = [1, 0.5] }",
            "hyperparameters.learning_rate = { piecewise = [[0, 1], [1, 0.5]] }",
        ),
        ('env_wrapper = "m:W"', 'env_wrapper = [{ "m:W" = {} }]'),
        ('callbacks = ["m:C"]', 'callbacks = { "m:C" = {} }'),
        ("normalize = true", "normalize = { gamma = 0.9, norm_obs = true }"),
        ("normalize = true\nhyperparameters.gamma = 0.9", "normalize = { gamma = 0.9 }\nhyperparameters.gamma = 0.9"),
        ('algorithm = "DQN"', 'algorithm = "stable_baselines3:DQN"'),
        ('algorithm = "PPO"', 'algorithm = "stable_baselines3.ppo:PPO"'),
        ('algorithm = "TQC"', 'algorithm = "sb3_contrib.tqc.tqc:TQC"'),
    ],
)
def test_what_means_the_same_is_the_same_experiment(one: str, other: str, root: Path) -> None:
    found = [said_with(root, keys) for keys in (one, other)]
    assert compare(found[0], found[1]).differences == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('hyperparameters.learning_rate = "lin_1e-3"', "hyperparameters.learning_rate = 1e-3"),
        (
            "hyperparameters.learning_rate = { linear = [1, 0] }",
            "hyperparameters.learning_rate = { cosine = [1, 0] }",
        ),
        ('env_wrapper = "m:W"', 'env_wrapper = { "m:W" = { by = 1 } }'),
        ("normalize = true", "normalize = { gamma = 0.8 }"),
        ('algorithm = "DQN"', 'algorithm = "mine:DQN"'),
        (
            "hyperparameters.policy_kwargs.activation_fn = 'm:A'",
            "hyperparameters.policy_kwargs.activation_fn = {'m:A'={}}",
        ),
    ],
)
def test_what_means_something_else_is_another_experiment(one: str, other: str, root: Path) -> None:
    found = [said_with(root, keys) for keys in (one, other)]
    assert compare(found[0], found[1]).refused


def said_with(root: Path, keys: str) -> dict[str, object]:
    """The identity where these keys stand for what the section has."""
    given = {line.partition(" =")[0].partition(".")[0] for line in keys.splitlines()}
    kept = [line for line in TOML.splitlines() if line.partition(" =")[0] not in given]
    place = kept.index("[scenarios.a]") + 1
    edit(root, "section.toml", "\n".join([*kept[:place], *keys.splitlines(), *kept[place:]]))
    return identity(root)


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


@pytest.mark.parametrize(
    ("before_naming", "edited", "level", "said"),
    [
        ("", "", Level.WARN, "helper.py newly named"),
        ("", "a = 1  # a comment\n", Level.WARN, "helper.py newly named"),
        ("", "a = 2\n", Level.REFUSE, "changed"),
        ("net.xml", "", Level.REFUSE, "changed"),
    ],
)
def test_a_file_that_is_named_later_is_no_change_unless_one_is_known(
    root: Path, before_naming: str, edited: str, level: Level, said: str
) -> None:
    edit(root, "env.py", "import sections.s.helper\n" + ENV)
    edit(root, "helper.py", "a = 1\n")
    toml = TOML.replace('"m:Env"', '"sections.s.env:Env"')
    edit(root, "section.toml", toml)
    then = identity(root)
    if before_naming:  # what is named was changed as well
        edit(root, before_naming, "<other/>\n")
    if edited:
        edit(root, "helper.py", edited)
    edit(root, "section.toml", toml.replace('"env.py", ', '"env.py", "helper.py", '))
    verdict = compare(then, identity(root), accept_changes=False)
    assert verdict.level is level
    assert said in str(verdict.differences[0])
    assert not verdict.accepted
    assert level is Level.REFUSE or "from now on" in str(verdict.differences[0])


def test_data_that_nothing_imports_is_newly_named_too_and_the_next_change_of_it_is_refused(root: Path) -> None:
    edit(root, "table.csv", "1\n")
    then = identity(root)
    edit(root, "section.toml", TOML.replace('["reward.py"]', '["reward.py", "table.csv"]'))
    named = identity(root)
    assert compare(then, named).level is Level.WARN
    edit(root, "table.csv", "2\n")
    assert compare(named, identity(root)).refused
