"""A project may be anybody's folder: its sections are found, its code and this program's travel together."""

from __future__ import annotations

import io
import os
import tarfile
import tomllib
from pathlib import Path

import pytest
from small_trees import plant
from typer.testing import CliRunner

from kaggle_manager.cli.commands import app
from kaggle_manager.config import build_config
from kaggle_manager.errors import ConfigError
from kaggle_manager.sections import environment_ids
from kaggle_manager.sections.hyperparameters import NAMES, SB3_CONTRIB
from kaggle_manager.sections.identity import identity_of
from kaggle_manager.sections.model import load_section
from kaggle_manager.sections.project import find_project
from kaggle_manager.sections.scaffold import TESTED, Needs, NewSection, new_section, project_for_new
from kaggle_manager.sessions import env_needs, known_before
from kaggle_manager.sessions.bundle import build_bundle, order_of, render_script

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "docs/examples"
OURS = "section_7_6_rl_performance"


@pytest.fixture
def mine(tmp_path: Path) -> NewSection:
    return new_section("my_robot", tmp_path)


def test_a_command_is_about_the_nearest_project_with_its_section(mine: NewSection, tmp_path: Path) -> None:
    below = tmp_path / "notebooks/today"
    below.mkdir(parents=True)
    assert find_project(below, "my_robot") == tmp_path
    assert find_project(below, OURS) == tmp_path  # whose sections the message then lists
    assert find_project(ROOT / "docs", OURS) == ROOT
    with pytest.raises(ConfigError, match="No project is here"):
        find_project(tmp_path.parent, OURS)


def test_pyproject_names_another_folder_for_the_sections(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.kaggle-manager]\nsections = "experiments/rl"\n')
    made = new_section("my_robot", tmp_path)
    assert made.section.folder == tmp_path / "experiments/rl/my_robot"
    assert made.section.scenario().environment == "experiments.rl.my_robot.environment:Environment"
    assert find_project(made.section.folder, "my_robot") == tmp_path
    assert "experiments/rl/my_robot/environment.py" in dict(build_bundle(tmp_path, made.section).files)
    for wrong in ('sections = "../outside"', "sections = 3", "[["):
        (tmp_path / "pyproject.toml").write_text(f"[tool.kaggle-manager]\n{wrong}\n")
        with pytest.raises(ConfigError, match=r"pyproject\.toml cannot be used"):
            find_project(tmp_path)


def test_sections_that_are_no_text_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.kaggle-manager]\nsections = 3\n")
    with pytest.raises(ConfigError, match="`sections` must be a folder name in quotes"):
        find_project(tmp_path)


def test_a_policy_that_the_algorithm_does_not_have_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'CnnnPolicy'.* did you mean CnnPolicy"):
        new_section("my_robot", tmp_path, policy="CnnnPolicy")
    assert not any(tmp_path.iterdir())


def test_what_is_wrong_above_a_project_does_not_touch_it(mine: NewSection, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    new_section("deeper", inner)
    (tmp_path / "pyproject.toml").write_text("not TOML [")
    assert find_project(inner, "deeper") == inner
    (inner / "pyproject.toml").write_bytes(b"\xef\xbb\xbf[project]\nname = 'x'\n")  # as an editor of Windows saves it
    assert find_project(inner, "deeper") == inner


def test_a_variable_names_the_project_for_commands_called_from_elsewhere(mine: NewSection, tmp_path: Path) -> None:
    assert find_project(ROOT, "my_robot", {"KM_PROJECT": str(tmp_path)}) == tmp_path
    with pytest.raises(ConfigError, match="KM_PROJECT names"):
        find_project(ROOT, "my_robot", {"KM_PROJECT": str(tmp_path / "nowhere")})


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives a folder away")
def test_a_strangers_folder_is_not_taken_for_a_project(mine: NewSection, tmp_path: Path) -> None:
    below = tmp_path / "home"
    below.mkdir()
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(ConfigError, match="No project is here"):
        find_project(below, "my_robot")


def test_a_run_is_configured_from_the_folder_one_stands_in(
    mine: NewSection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = build_config("my_robot", environ={})
    assert config.project_root == tmp_path
    assert config.tree == tmp_path / "sections/my_robot/data/models"
    monkeypatch.chdir(ROOT / "docs")
    assert build_config(OURS, environ={}).project_root == ROOT


def test_the_kernel_gets_the_projects_section_and_this_programs_code(mine: NewSection, tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()  # one of the user's own, which must not be taken for this program's
    (tmp_path / "kernels/cuda.py").touch()
    bundle = build_bundle(tmp_path, mine.section)
    with tarfile.open(fileobj=io.BytesIO(bundle.archive)) as tar:
        names = set(tar.getnames())
        main = tar.extractfile("kaggle_manager/trainer/main.py")
        assert main is not None
        assert main.read() == (ROOT / "kaggle_manager/trainer/main.py").read_bytes()
    own = {"__init__.py", "my_robot/__init__.py", "my_robot/section.toml", "my_robot/environment.py"}
    assert {f"sections/{name}" for name in own} <= names
    assert "kaggle_manager/checkpoints/store.py" in names
    assert "kernels/cuda.py" not in names
    order = {"run_id": "r", "generation": 1}
    assert order_of(render_script(bundle, order)) == order


def test_the_examples_are_what_init_writes(tmp_path: Path) -> None:
    new_section("cartpole_ppo", tmp_path, environment="CartPole-v1", algorithm="PPO", timesteps=50_000)
    new_section("custom_environment", tmp_path, algorithm="SAC")
    written = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.*")}
    shown = EXAMPLES.rglob("*.*")
    assert written == {p.relative_to(EXAMPLES): p.read_text() for p in shown if "__pycache__" not in p.parts}


@pytest.mark.parametrize("algorithm", sorted(NAMES))
def test_a_new_section_is_valid_for_every_algorithm(algorithm: str, tmp_path: Path) -> None:
    made = new_section("mine", tmp_path, algorithm=algorithm)
    quick = made.section.scenario().for_quick()
    assert quick.algorithm == algorithm
    assert 2 * quick.rollout <= quick.timesteps <= 60
    if "buffer_size" in NAMES[algorithm]:
        assert quick.hyperparameters["buffer_size"] <= 100, "all rows of the buffer are in the file of a final model"
    assert (algorithm in SB3_CONTRIB) == any("sb3-contrib==" in pin for pin in made.section.kernel.packages)
    identity_of(made.section, "mine", tmp_path)


@pytest.mark.parametrize(
    ("algorithm", "timesteps", "n_steps"),
    [("PPO", 2, 2), ("PPO", 400, 64), ("PPO", 8192, 2048), ("PPO", 50_000, 2048), ("A2C", 3, 3), ("A2C", 400, 5)],
)
def test_a_new_section_has_rollouts_that_fit_its_timesteps(
    algorithm: str, timesteps: int, n_steps: int, tmp_path: Path
) -> None:
    scenario = new_section("mine", tmp_path, algorithm=algorithm, timesteps=timesteps).section.scenario()
    assert scenario.rollout == n_steps
    assert scenario.hyperparameters.get("batch_size", n_steps) in (64, n_steps)
    assert scenario.overshoot(timesteps) == ""
    assert f"{n_steps:,} are trained" in scenario.overshoot(n_steps - 1)


def test_pins_are_the_tested_versions() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = {**TESTED, **environment_ids.TESTED}
    assert {f"{name.replace('_', '-')}=={version}" for name, version in tested.items()} <= set(pins)


def test_an_algorithm_of_ones_own_that_nobody_could_look_at_begins_with_its_own_defaults(tmp_path: Path) -> None:
    made = new_section("mine", tmp_path, algorithm="robots.algorithms:Mine")
    scenario = made.section.scenario()
    assert (scenario.algorithm, scenario.hyperparameters) == ("robots.algorithms:Mine", {})
    assert scenario.quick.timesteps == 256
    with pytest.raises(ConfigError, match="'Mine' is not known") as refused:
        new_section("other", tmp_path, algorithm="Mine")
    assert "a class of your own, module:Class" in refused.value.next_step


def test_an_environment_of_the_project_travels_and_is_fingerprinted(tmp_path: Path) -> None:
    package = tmp_path / "robots/arm"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "env.py").write_text("REWARD = 1\n")
    made = new_section("arm", tmp_path, environment="robots.arm.env:ArmEnv", algorithm="TD3")
    assert "robots/arm/env.py" in {name for name, _ in build_bundle(tmp_path, made.section).files}
    before = identity_of(made.section, "arm", tmp_path)
    (package / "env.py").write_text("REWARD = 1  # only a comment\n")
    assert identity_of(made.section, "arm", tmp_path) == before
    (package / "env.py").write_text("REWARD = 2\n")
    assert identity_of(made.section, "arm", tmp_path)["environment_fingerprint"] != before["environment_fingerprint"]


def test_what_an_environment_was_seen_to_need_is_in_its_section(tmp_path: Path) -> None:
    (tmp_path / "robots").mkdir()
    (tmp_path / "robots/arm.py").write_text("")
    for file in ("robots/demand.json", "helpers.py", "limits.csv"):
        (tmp_path / file).write_text("")
    asked: list[object] = []

    def look(*about: object) -> Needs:
        asked.extend(about)
        return Needs("MultiInputPolicy", ("mujoco==3.3.0",), ("helpers.py", "limits.csv", "robots/arm.py"))

    section = new_section("arm", tmp_path, environment="robots.arm:Arm", look=look).section
    assert asked[:3] == [tmp_path, "robots.arm:Arm", {}]
    assert section.kernel.include == ["robots", "helpers.py", "limits.csv"]
    assert section.kernel.packages[0] == "mujoco==3.3.0"
    scenario = section.scenario()
    assert scenario.policy == "MultiInputPolicy"
    assert scenario.environment_files == ["robots/arm.py", "helpers.py", "limits.csv"]
    given = new_section("mine", tmp_path, environment="robots.arm:Arm", policy="mine:Policy", look=look).section
    assert given.scenario().policy == "mine:Policy", "what is asked for is written"


@pytest.mark.parametrize("environment", ["robots.arm:Arm", "robots.arm:Arm-v0"])
def test_without_libraries_imports_are_followed_and_what_is_guessed_is_said(
    environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "robots").mkdir()
    (tmp_path / "robots/arm.py").write_text(
        "import gymnasium, helpers, hypothesis\nfrom robots import reward\nimport nowhere_to_be_had"
    )
    (tmp_path / "robots/reward.py").write_text("")
    (tmp_path / "helpers.py").write_text("")
    here = env_needs.importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "gymnasium" else here(name))
    monkeypatch.setattr(known_before, "_is_installed", lambda name: False)
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(app, ["init", "arm", "--env", environment]).stdout
    section = load_section(tmp_path / "sections/arm/section.toml")
    scenario = section.scenario()
    assert {*scenario.environment_files} == {"robots/arm.py", "robots/reward.py", "helpers.py"}
    assert {*scenario.reward_files} == {*scenario.environment_files}
    assert "helpers.py" in section.kernel.include
    assert any(pin.startswith("hypothesis==") for pin in section.kernel.packages), "no session has it"
    assert "robots/arm.py: imports nowhere_to_be_had, which is not pinned" in said
    assert "imports hypothesis" not in said
    assert 'policy = "MlpPolicy" is a guess' in said
    given = CliRunner().invoke(app, ["init", "b", "--env", environment, "--policy", "CnnPolicy"]).stdout
    assert "could not be played" in given
    assert "is a guess" not in given


def test_it_says_before_that_another_project_gets_the_section_and_how_to_have_one_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_section("theirs", tmp_path)
    (here := tmp_path / "mine").mkdir()
    monkeypatch.setattr(known_before, "_is_installed", lambda name: False)
    monkeypatch.chdir(here)
    said = CliRunner().invoke(app, ["init", "arm"]).stderr
    assert f"{here} is in the project {tmp_path}" in said
    (here / "pyproject.toml").write_text("[tool.kaggle-manager]\n")
    assert "[tool.kaggle-manager]" in said
    assert CliRunner().invoke(app, ["init", "arm"]).stderr == ""
    assert (here / "sections/arm/section.toml").is_file()


@pytest.mark.parametrize(
    "id", ["CartPole-v1", "ale_py:ALE/Breakout-v5", "ALE/Pong-v5", "minigrid:MiniGrid-Empty-8x8-v0"]
)
def test_an_id_of_gymnasium_is_written_as_its_make_takes_it(id: str, tmp_path: Path) -> None:
    scenario = new_section("mine", tmp_path, environment=id).section.scenario()
    registered = id if ":" in id or "/" not in id else f"ale_py:{id}"  # else gymnasium does not know it
    assert (scenario.environment, scenario.environment_kwargs) == ("gymnasium:make", {"id": registered})


def test_observations_that_no_algorithm_takes_get_the_wrapper_that_was_seen_to_help(tmp_path: Path) -> None:
    wrapper = "minigrid.wrappers:FlatObsWrapper"
    assert env_needs.family_of("minigrid:MiniGrid-Empty-5x5-v0").wrapper == wrapper  # type: ignore[union-attr]
    seen = Needs("MlpPolicy", wrapper=wrapper)
    made = new_section("grid", tmp_path, environment="MiniGrid-Empty-5x5-v0", look=lambda *_: seen)
    scenario = made.section.agent()
    assert (made.wrapped, scenario.env_wrapper, scenario.policy) == (wrapper, [wrapper], "MlpPolicy")
    assert scenario.environment_kwargs == {"id": "minigrid:MiniGrid-Empty-5x5-v0"}
    assert any(pin.startswith("minigrid==") for pin in made.section.kernel.packages)


def test_an_environment_of_a_package_is_pinned(tmp_path: Path) -> None:
    made = new_section("poles", tmp_path, environment="gymnasium.envs.classic_control.cartpole:CartPoleEnv")
    packages = [package for package in made.section.kernel.packages if package.startswith("gymnasium==")]
    assert len(packages) == 1
    assert made.section.scenario().environment_files == []


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("My Robot", {}, "cannot be the name"),
        ("../up", {}, "cannot be the name"),
        ("taken", {}, "exists already"),
        ("x", {"algorithm": "dqn"}, "choose one of: A2C, ARS, CrossQ, DDPG, DQN"),
        ("x", {"environment": "nowhere.at_all:Env"}, "no module 'nowhere'"),
        ("x", {"environment": "Pendulum"}, "module:Class"),
    ],
)
def test_what_cannot_be_made_is_said_and_nothing_is_written(
    name: str, options: dict[str, str], words: str, tmp_path: Path
) -> None:
    (tmp_path / "sections/taken").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError) as refused:
        new_section(name, tmp_path, **options)  # type: ignore[arg-type]
    assert words in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_of_several_sections_none_is_guessed_and_a_folder_that_is_named_needs_none(
    mine: NewSection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_section("my_car", tmp_path)
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    for line in ("run", "stop", "checkpoints ls", "checkpoints verify", "checkpoints show", "checkpoints prune"):
        asked = run(app, line.split())
        assert asked.exit_code == 2
        assert "several sections, and none was named: my_car, my_robot" in asked.stderr
        assert "Next: name one of them, such as my_car" in asked.stderr
    plant(tmp_path / "copied")
    assert "every byte as its manifest says" in run(app, ["checkpoints", "verify", "--folder", "copied"]).stdout


def test_a_new_project_begins_where_one_stands(mine: NewSection, tmp_path: Path) -> None:
    assert project_for_new(tmp_path / "sections") == tmp_path
    elsewhere = tmp_path.parent / f"{tmp_path.name}_elsewhere"
    elsewhere.mkdir()
    assert project_for_new(elsewhere) == elsewhere
    assert project_for_new(ROOT / "docs/examples") == ROOT / "docs/examples"
    assert project_for_new(ROOT / "tests") == ROOT


@pytest.mark.parametrize("key", ["environment_files", "reward_files"])
def test_an_environment_that_travels_must_name_its_sources(key: str, mine: NewSection, tmp_path: Path) -> None:
    path = tmp_path / "sections/my_robot/section.toml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith(key)]
    path.write_text("\n".join(lines))
    assert key not in tomllib.loads(path.read_text())["scenarios"]["my_robot"]
    with pytest.raises(ConfigError, match=f"{key}: is required"):
        load_section(path)


@pytest.mark.parametrize(("suggested", "written"), [(5_000, 5_000), (None, None)])
def test_a_new_section_says_how_often_it_evaluates_where_that_is_advised(
    tmp_path: Path, suggested: int | None, written: int | None
) -> None:
    made = new_section("mine", tmp_path)
    made.evaluate(suggested)
    scenario = load_section(made.section.folder / "section.toml").scenario()
    assert (scenario.evaluation.every, scenario.evaluation.episodes) == (written, 10)
    assert scenario.for_quick().evaluation.every == 1
