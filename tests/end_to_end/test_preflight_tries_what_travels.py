"""What would be missing in a session is missing in its preflight, which says what to write into section.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.model import load_section
from kaggle_manager.sections.new_training import Training
from kaggle_manager.sections.scaffold import Needs, new_section
from kaggle_manager.sessions import image_view
from kaggle_manager.sessions.env_needs import needs_of
from kaggle_manager.sessions.preflight import check_section

pytestmark = pytest.mark.slow

PLAIN = Training("PPO", 8)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    new_section("mine", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KM_PROJECT", str(tmp_path))
    # As where the project is installed in the environment it is worked on in, or on Python's path.
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def begins_with(project: Path, source: str) -> None:
    file = project / "sections/mine/environment.py"
    rest = file.read_text().split("from __future__ import annotations\n", 1)
    file.write_text(f"{rest[0]}from __future__ import annotations\n{source}\n{rest[1]}")


def last(project: Path, **options: Any) -> dict[str, Any]:
    section = load_section(project / "sections/mine/section.toml")
    result = check_section(project, section, quick=True, **options)
    assert result["ok"] == all(check["ok"] for check in result["checks"])
    return dict(result["checks"][-1])


LACKING = {
    "data": "import json, pathlib\njson.loads((pathlib.Path(__file__).parent / 'demand.json').read_text())",
    "module": "def _later():\n    import my_helpers\n\n\n_later()",  # which its text does not give away
    "package": "import hypothesis.strategies",
}


def test_data_a_module_of_the_projects_root_and_a_package_of_this_machine_are_missing(project: Path) -> None:
    for file in ("sections/mine/demand.json", "my_helpers.py"):
        (project / file).write_text("{}")
    toml = project / "sections/mine/section.toml"
    scenario = toml.read_text().partition("\n[scenarios.mine]")[2]
    for name, source in LACKING.items():
        (project / f"sections/mine/{name}.py").write_text(f"{source}\n\nEnvironment = None\n")
        its_own = f"[scenarios.mine]{scenario}".replace("scenarios.mine", f"scenarios.{name}")
        its_own = its_own.replace("mine.environment:", f"mine.{name}:").replace("data/models", f"data/{name}")
        toml.write_text(toml.read_text() + its_own)
    told: list[dict[str, Any]] = []
    result = check_section(project, load_section(toml), [*LACKING], quick=True, on_result=told.append)
    assert told == result["checks"], "each is told as soon as it is known"
    data, module, package = result["checks"]
    assert [check["ok"] for check in told] == [False] * 3
    assert 'add "sections/mine/demand.json" to `include` in section.toml' in data["detail"]
    assert "sections/mine/data.py, line " in data["detail"]
    assert 'add "my_helpers.py" to `include`' in module["detail"]
    assert 'add "hypothesis==' in package["detail"]


def test_what_is_included_pinned_or_optional_is_no_failure_and_a_file_read_where_it_lies_is_warned_of(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project))
    monkeypatch.setenv("MY_TOKEN", "of this machine")
    for name in ("sections/mine/demand.json", "my_helpers.py", "far.csv"):
        (project / name).write_text("")
    source = "import os\nassert 'MY_TOKEN' not in os.environ\nassert os.listdir(os.path.expanduser('~')) == []\n"
    source += "import pathlib, hypothesis, my_helpers\ntry:\n    import moto\nexcept ImportError:\n    moto = None\n"
    source += "(pathlib.Path(__file__).parent / 'demand.json').read_text()\n"
    begins_with(project, f"{source}open({str(project / 'far.csv')!r}).close()")
    toml = project / "sections/mine/section.toml"
    included = toml.read_text().replace("include = []", 'include = ["sections/mine/demand.json", "my_helpers.py"]')
    toml.write_text(included.replace("packages = [", 'packages = [\n  "hypothesis==1.0",'))
    told: list[dict[str, Any]] = []
    assert last(project, on_result=told.append)["ok"]
    [found] = [check for check in told if check["name"] == "mine: files"]
    assert found["detail"].startswith("WARNING: it reads far.csv in")


ARM = """
import json
import re
from pathlib import Path
import gymnasium as gym
import numpy as np
import my_helpers

class Arm(gym.Env):
    observation_space = gym.spaces.Dict({"joint": gym.spaces.Box(-1, 1, (2,))})
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        import km_simulator
        json.loads((Path(__file__).parent / "demand.json").read_text())
        (Path(__file__).parent / "log.csv").write_text("1")
        (Path(__file__).parent / "log.csv").read_text()
        return self.observation_space.sample(), {}
"""


def test_a_new_section_is_told_what_its_environment_imports_and_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, packages = tmp_path / "project", tmp_path / "packages"
    (packages / "km_simulator-1.5.dist-info").mkdir(parents=True)
    (packages / "km_simulator-1.5.dist-info/METADATA").write_text("Name: km-simulator\nVersion: 1.5\n")
    (packages / "km_simulator-1.5.dist-info/top_level.txt").write_text("km_simulator\n")
    (packages / "km_simulator.py").write_text("")
    (packages / "of_others-1.0.dist-info").mkdir()  # a package whose module has the name of the user's
    (packages / "of_others-1.0.dist-info/METADATA").write_text("Name: of-others\nVersion: 1.0\n")
    (packages / "of_others-1.0.dist-info/top_level.txt").write_text("my_helpers\n")
    (project / "robots").mkdir(parents=True)
    (project / "my_helpers.py").write_text("")
    (project / "robots/demand.json").write_text("{}")
    (project / "robots/arm.py").write_text(ARM)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    monkeypatch.syspath_prepend(str(packages))
    for cached in (image_view._here, image_view._modules):
        cached.cache_clear()
    needs = needs_of(project, "robots.arm:Arm", {}, [], PLAIN)
    files = ("my_helpers.py", "robots/arm.py", "robots/demand.json")  # and not what it writes
    assert needs == Needs("MultiInputPolicy", ("km-simulator==1.5",), files)
    with pytest.raises(ConfigError, match=r"cannot be imported: module 'robots\.arm' has no attribute 'Leg'"):
        needs_of(project, "robots.arm:Leg", {}, [], PLAIN)


IMAGES = """
import gymnasium as gym
import numpy as np

class Camera(gym.Env):
    observation_space = gym.spaces.Box(0, 255, (40, 40, 3), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}
"""


def test_a_new_section_for_images_gets_the_policy_for_them(tmp_path: Path) -> None:
    (tmp_path / "camera.py").write_text(IMAGES)  # torch, which is then imported, has modules of an odd kind
    assert needs_of(tmp_path, "camera:Camera", {}, [], PLAIN).policy == "CnnPolicy"
    recurrent = Training("RecurrentPPO", 8, keys={"env_wrapper": "gymnasium.wrappers:FlattenObservation"})
    assert needs_of(tmp_path, "camera:Camera", {}, [], recurrent).policy == "MlpLstmPolicy"


ALGORITHM = """
from helpers import BOLD
from stable_baselines3 import SAC

class Bolder(SAC):
    def __init__(self, policy, env, learning_rate=1e-3, buffer_size=1000, boldness=BOLD, **others):
        super().__init__(policy, env, learning_rate, buffer_size, **others)
"""


def test_a_new_section_for_an_algorithm_of_ones_own_trains_as_the_one_it_is_derived_from(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ALGORITHM)
    (tmp_path / "helpers.py").write_text("BOLD = 1.0\n")
    made = new_section("bold", tmp_path, algorithm="mine:Bolder", look=needs_of)
    assert set(made.section.kernel.include) == {"mine.py", "helpers.py"}
    scenario = made.section.scenario()
    assert (scenario.algorithm, scenario.hyperparameters["buffer_size"]) == ("mine:Bolder", 100_000)
    assert {"mine.py", "helpers.py"} <= {*scenario.environment_files}, "a change of it is noticed"
    assert "Box(" in (made.section.folder / "environment.py").read_text(), "its actions are those that SAC takes"
    quick = check_section(tmp_path, made.section, quick=True)["checks"]
    assert all(check["ok"] for check in quick), quick
    with pytest.raises(ConfigError, match="'mine:Nothing' cannot be imported") as refused:
        new_section("other", tmp_path, algorithm="mine:Nothing", environment="CartPole-v1", look=needs_of)
    assert "--algo" in refused.value.next_step
    assert not (tmp_path / "sections/other").exists()


def test_what_a_build_function_reads_and_its_callbacks_are_named_where_no_fingerprint_is_made_of_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "train.py").write_text(
        "from pathlib import Path\nfrom stable_baselines3 import PPO\nimport imported\n\n"
        "def build(context):\n    Path(__file__).with_name('net.json').read_text()\n"
        "    return PPO('MlpPolicy', context.make_vec_env('CartPole-v1'), n_steps=8, batch_size=8)\n"
    )
    (tmp_path / "imported.py").write_text("A = 1\n")
    (tmp_path / "net.json").write_text("{}")
    made = new_section("mine", tmp_path, environment="CartPole-v1")
    toml = made.section.folder / "section.toml"
    pins = toml.read_text().partition("packages = [")[2].partition("]")[0]
    toml.write_text(
        'name = "mine"\ntitle = "Mine"\ntrains = true\ndefault_scenario = "one"\n[kernel]\n'
        f'include = ["train.py", "imported.py", "net.json"]\npackages = [{pins}]\n'
        '[scenarios.one]\nbuild = "train:build"\ntimesteps = 16\nmodels = "m"\nquick.models = "q"\n'
    )
    checks = check_section(tmp_path, load_section(toml), quick=True)["checks"]
    assert all(check["ok"] for check in checks), checks
    [warned] = [check["detail"] for check in checks if check["name"].endswith("its files are fingerprinted")]
    assert warned.endswith('environment_files = ["net.json"]'), "what build imports is followed"
    assert "net.json (training script)" in warned


def test_a_file_that_no_fingerprint_is_made_of_is_named_for_each_scenario(project: Path) -> None:
    begins_with(
        project,
        "import robots.reward, sections.mine.limits\nopen('robots/demand.json').close()\n"
        "open('robots/log.csv', 'w').close()",
    )
    (project / "sections/mine/limits.py").write_text("HIGH = 1")
    robots = project / "robots"
    robots.mkdir()
    for name, text in (("__init__", ""), ("reward", "from . import physics"), ("physics", "G = 9.81"), ("other", "")):
        (robots / f"{name}.py").write_text(text)
    (robots / "demand.json").write_text("{}")
    toml = project / "sections/mine/section.toml"
    text = toml.read_text().replace("include = []", 'include = ["robots"]')
    text += text[text.index("[scenarios.mine]") :].replace("scenarios.mine", "scenarios.second").replace("models", "m2")
    toml.write_text(text.replace("data/m2", "data/models_second").replace("m2 =", "models ="))

    def warned() -> list[str]:
        checks = check_section(project, load_section(toml), quick=True)["checks"]
        assert all(check["ok"] for check in checks)
        return [check["detail"] for check in checks if check["name"].endswith("its files are fingerprinted")]

    first, second = warned()
    assert "robots/physics.py (environment)" in first
    imported = '"robots/physics.py", "robots/reward.py", "limits.py"]'
    line = f'environment_files = ["environment.py", "robots/demand.json", {imported}'
    assert first.endswith(line)
    assert second.endswith(imported), "the first scenario has imported them already"
    before = toml.read_text()
    ignored = 'ignored_files = ["robots/physics.py", "limits.py"]'
    toml.write_text(before.replace("algorithm =", f"{ignored}\nalgorithm ="))
    assert not any("physics" in each or "limits" in each for each in warned()), "what is said not to count"
    toml.write_text(before.replace('environment_files = ["environment.py"]', line))
    assert warned() == []
