"""A section is tried once for each state of its code before it costs a session, and refused when it does not hold."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from kaggle_manager import cli
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import ConfigError, VerificationError
from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.sections.scaffold import new_section
from kaggle_manager.sessions.preflight import check_section, run_preflight
from kaggle_manager.trainer.sb3 import preflight

ROOT = Path(__file__).resolve().parents[2]
OWN = """
import json, pathlib, sys
pathlib.Path("ran").open("a").write("x")
print("an environment may say something")
ok = {ok}
checks = [{{"name": "queues", "ok": ok, "detail": "look at demand.py"}}]
print(json.dumps({{"schema": 1, "ok": ok, "checks": checks}}, indent=2))
print("and something more")
sys.exit(0 if ok else 1)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose section has a preflight of its own: a few lines, and no torch."""
    new_section("mine", tmp_path)
    write_own(tmp_path, OWN.format(ok=True))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_own(project: Path, source: str) -> None:
    (project / "sections/mine/preflight.py").write_text(source)


def config() -> RunConfig:
    return build_config("mine", environ={})


def said_by_preflight() -> str:
    told = io.StringIO()
    run_preflight(config(), Reporter(told))
    return told.getvalue()


def times_run(project: Path) -> int:
    return len((project / "ran").read_text()) if (project / "ran").exists() else 0


def test_it_runs_once_and_again_when_anything_it_depends_on_changes(project: Path) -> None:
    assert "1 check passed" in said_by_preflight()
    assert said_by_preflight() == ""
    assert times_run(project) == 1
    environment = project / "sections/mine/environment.py"
    environment.write_text(environment.read_text() + "\nCHANGED = 1\n")
    said_by_preflight()
    assert times_run(project) == 2
    write_own(project, OWN.format(ok=True) + "# another\n")
    said_by_preflight()
    assert times_run(project) == 3
    (config().state / "preflight.json").write_text("{broken")
    said_by_preflight()
    assert times_run(project) == 4


def test_a_target_smaller_than_one_rollout_is_said_with_the_figures(project: Path) -> None:
    told = io.StringIO()
    run_preflight(build_config("mine", timesteps=400, environ={}), Reporter(told))
    assert "400 timesteps are fewer than one rollout (n_steps = 2,048): 2,048 are trained" in told.getvalue()
    assert "rollout" not in said_by_preflight()


def test_a_run_does_not_repeat_what_the_command_has_done(project: Path) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["preflight", "mine"])
    assert left.value.code == 0
    assert said_by_preflight() == ""
    assert times_run(project) == 1


def test_what_does_not_hold_is_named_and_asked_again_next_time(project: Path) -> None:
    write_own(project, OWN.format(ok=False))
    for _ in range(2):
        with pytest.raises(VerificationError) as refused:
            said_by_preflight()
        assert "queues: look at demand.py" in refused.value.message
        assert "nothing was pushed" in refused.value.safe
        assert "kaggle-manager preflight mine" in refused.value.next_step
    assert times_run(project) == 2


def test_a_folder_with_the_name_of_this_program_is_named_before_it_is_imported(project: Path) -> None:
    (project / "kaggle_manager").mkdir()
    with pytest.raises(ConfigError, match="has the name of this program"):
        check_section(project, config().section)


def test_a_preflight_that_dies_is_no_pass(project: Path) -> None:
    write_own(project, "raise RuntimeError('the simulator is gone')")
    with pytest.raises(VerificationError, match="the simulator is gone"):
        said_by_preflight()


def test_without_the_libraries_it_is_skipped_and_says_so(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = project / "sections/mine/section.toml"
    toml.write_text(toml.read_text().replace("packages = [", 'packages = [\n  "no-such-package==1.0",'))
    assert "preflight skipped: no-such-package" in said_by_preflight()
    assert times_run(project) == 0
    with pytest.raises(SystemExit) as left:
        cli.main(["preflight", "mine"])
    assert left.value.code == 2
    assert "no-such-package" in capsys.readouterr().err


def test_the_command_tells_each_check_and_ends_with_3_when_one_fails(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own(project, OWN.format(ok=False))
    with pytest.raises(SystemExit) as left:
        cli.main(["preflight", "mine", "--json"])
    assert left.value.code == 3
    shown = json.loads(capsys.readouterr().out)
    assert (shown["schema"], shown["ok"], shown["checks"][0]["name"]) == (1, False, "queues")


class Strange(gym.Env[np.ndarray, int]):
    """An environment with one thing wrong."""

    def __init__(self, wrong: str = "") -> None:
        if wrong == "made":
            raise RuntimeError("no licence")
        self.wrong = wrong
        self.observation_space = gym.spaces.Box(-1, 1, (2,), dtype=np.float32)
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3 if self.wrong == "shape" else 2, np.float32), {}

    def step(self, action):
        if self.wrong == "step":
            raise KeyError("joint")
        reward = float("nan") if self.wrong == "nan" else float(self.wrong != "flat" and action)
        return np.zeros(2, np.float32), reward, False, self.wrong != "endless", {}


@pytest.mark.parametrize(
    ("wrong", "algorithm", "check", "words"),
    [
        ("made", "PPO", "environment can be made", "RuntimeError: no licence"),
        ("shape", "PPO", "resets and steps", "shape (3,)"),
        ("nan", "PPO", "resets and steps", "a reward is nan"),
        ("step", "PPO", "resets and steps", "KeyError: 'joint'"),
        ("endless", "PPO", "an episode ends", "TimeLimit"),
        ("", "SAC", "SAC takes the environment", "Discrete(2)"),
    ],
)
def test_what_is_wrong_with_an_environment_is_found_without_training(
    wrong: str, algorithm: str, check: str, words: str
) -> None:
    failed = [result for result in preflight.check_environment(scenario(wrong, algorithm)) if not result.ok]
    assert [result.name for result in failed] == [check]
    assert words in failed[0].detail


@pytest.mark.parametrize("environment", ["gymnasium:make", "gymnasium:Nope", "nowhere:Env"])
def test_an_environment_that_is_not_there_is_told_apart_from_one_that_does_not_work(environment: str) -> None:
    kwargs = {"id": "NoSuch-v9"} if environment == "gymnasium:make" else {}
    absent = scenario("", "PPO").model_copy(update={"environment": environment, "environment_kwargs": kwargs})
    assert [result.name for result in preflight.check_environment(absent)] == ["environment can be imported"]


def test_rewards_that_never_vary_are_told_but_not_judged() -> None:
    first, *_ = preflight.check_environment(scenario("flat", "DQN"))
    assert first.ok
    assert "look at the reward" in first.detail
    first, *_ = preflight.check_environment(scenario("", "DQN"))
    assert "2 distinct rewards" in first.detail
    assert "look at" not in first.detail


def scenario(wrong: str, algorithm: str) -> ScenarioConfig:
    return ScenarioConfig.model_validate(
        {
            "environment": f"{__name__}:Strange",
            "environment_kwargs": {"wrong": wrong},
            "algorithm": algorithm,
            "hyperparameters": {"buffer_size": 100} if algorithm != "PPO" else {},
            "timesteps": 10,
            "models": "data/models",
            "quick": {"models": "data/models_quick"},
        }
    )


@pytest.mark.slow
def test_a_trainer_that_saves_nothing_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = new_section("mine", tmp_path)
    environment = tmp_path / "sections/mine/environment.py"
    broken = "self._step += 1\n        if self.spec_ended():\n            raise OSError('the licence server is gone')"
    source = environment.read_text().replace("self._step += 1", broken)
    # Only a training goes on for long enough to see it.
    source += "\n    _calls = 0\n\n    def spec_ended(self) -> bool:\n"
    source += "        Environment._calls += 1\n        return Environment._calls > 210\n"
    environment.write_text(source)
    toml = tmp_path / "sections/mine/section.toml"
    toml.write_text(
        toml.read_text().replace("timesteps = 32", "timesteps = 512").replace("n_steps = 16", "n_steps = 256")
    )
    monkeypatch.chdir(tmp_path)
    result = check_section(tmp_path, made.section)
    assert not result["ok"]
    assert "the licence server is gone" in result["checks"][-1]["detail"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGTERM is POSIX's")
@pytest.mark.parametrize("to", ["the command", "the checks alone"])
def test_sigterm_during_the_trial_training_leaves_no_trainer_and_no_folder(tmp_path: Path, to: str) -> None:
    new_section("mine", tmp_path)
    environment = tmp_path / "sections/mine/environment.py"
    hangs = "import os, pathlib, sys, time\nif 'train_dqn' in sys.argv[0]:\n"
    hangs += "    pathlib.Path('trainer').write_text(str(os.getpid()))\n    time.sleep(120)\n"
    environment.write_text(environment.read_text() + hangs)
    (tmp_path / "temporary").mkdir()
    words = ["kaggle_manager.cli", "preflight"] if to == "the command" else ["kaggle_manager.trainer.sb3.preflight"]
    environ = {**os.environ, "TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *words, "mine"]
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.DEVNULL) as preflight_command:
        told, deadline = tmp_path / "trainer", time.monotonic() + 120
        while not (told.is_file() and told.read_text()):
            assert preflight_command.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        preflight_command.terminate()
        assert preflight_command.wait(60) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
    assert list((tmp_path / "temporary").glob("km_preflight_*")) == []
