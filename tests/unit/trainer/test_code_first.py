"""A function of the user's makes environments and model; all the rest is as with any section."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from crash_disks import Died, DyingDisk
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnvWrapper, VecFrameStack, VecNormalize
from trainer_runs import SCENARIO, Gusty, Holding, Opaque, origin_of, session, settings

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.identity import environment_files, identity_of
from kaggle_manager.sections.model import ScenarioConfig, load_section
from kaggle_manager.sessions.bundle import build_bundle
from kaggle_manager.trainer import Build, Context
from kaggle_manager.trainer.runtime.as_in_session import try_out
from kaggle_manager.trainer.sb3 import determinism
from kaggle_manager.trainer.sb3.code_first import tried
from kaggle_manager.trainer.sb3.preflight import preflight
from kaggle_manager.trainer.sb3.selftest import curves
from kaggle_manager.trainer.sb3.state_digest import differing
from kaggle_manager.trainer.sb3.training_config import TrainingConfig, from_scenario

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/code_first.md").read_text(encoding="utf-8")
SMALL: dict[str, Any] = {"n_steps": 20, "batch_size": 20, "n_epochs": 1, "policy_kwargs": {"net_arch": [4]}}


HEAD = """
name = "mine"
title = "Mine"
trains = true
default_scenario = "one"
[scenarios.one]
build = "train:build"
timesteps = 10
models = "m"
quick.models = "q"
"""


class Decay(BaseCallback):
    """Lowers the entropy's weight, and says how far it is."""

    def __init__(self) -> None:
        super().__init__()
        self.level = 0.1

    def _on_step(self) -> bool:
        self.level *= 0.99
        self.model.ent_coef = self.level  # type: ignore[attr-defined]
        return True

    def state(self) -> dict[str, Any]:
        return {"level": self.level}

    def load_state(self, state: dict[str, Any]) -> None:
        self.level = state["level"]


class Halved(VecEnvWrapper):
    """A wrapper of the user's own, with state for each environment."""

    def reset(self) -> Any:
        self.steps = np.zeros(self.num_envs)
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        self.steps += 1
        return observations, rewards / 2, dones, infos


def gusty(pay: float = 1.0) -> gym.Env[Any, Any]:
    return gym.wrappers.TransformReward(Gusty(), Scaled(pay))


class Scaled:
    def __init__(self, pay: float) -> None:
        self.pay = pay

    def __call__(self, reward: Any) -> float:
        return self.pay * float(reward)


def build(context: Context) -> Build:
    env = context.make_vec_env(
        gusty,
        n_envs=2,
        env_kwargs={"pay": 2.0},
        wrapper_class=gym.wrappers.TimeLimit,
        wrapper_kwargs={"max_episode_steps": 15},
    )
    env = VecFrameStack(VecNormalize(Halved(env)), 2)
    return Build(PPO("MlpPolicy", env, seed=context.seed, device=context.device, **SMALL), callbacks=[Decay()])


def of_replay(context: Context) -> DQN:
    env = context.make_vec_env("CartPole-v1")
    return DQN("MlpPolicy", env, seed=context.seed, **context.hyperparameters)


def with_eval_env(context: Context) -> Build:
    env = context.make_vec_env("CartPole-v1", n_envs=2)
    eval_env = context.make_vec_env(Cheap, monitor_kwargs={"allow_early_resets": True})
    return Build(PPO("MlpPolicy", env, **SMALL), eval_env)


class Cheap(gym.Wrapper[Any, Any, Any, Any]):
    """Episodes of two steps that pay 7."""

    def __init__(self) -> None:
        super().__init__(gym.make("CartPole-v1"))
        self._steps = 0

    def reset(self, **given: Any) -> Any:
        self._steps = 0
        return super().reset(**given)

    def step(self, action: Any) -> Any:
        self._steps += 1
        observation, _, _, _, info = super().step(action)
        return observation, 3.5, self._steps == 2, False, info


def chosen(tree: Path, function: Callable[..., Any], **changes: Any) -> TrainingConfig:
    name = f"{__name__}:{function.__name__}"
    return settings(tree, **{"build": name, "algorithm": name, "hyperparameters": {}, "total": 240, **changes})


def end_of(config: TrainingConfig) -> dict[str, str]:
    return {**session(config).digests, **curves(TrainingTree(config.tree, SCENARIO))}


@pytest.mark.slow
@pytest.mark.parametrize("function", [build, of_replay])
def test_a_training_by_code_is_resumed_bit_for_bit_after_a_kill(function: Callable[..., Any], tmp_path: Path) -> None:
    given = {"learning_starts": 20, "buffer_size": 100, "batch_size": 8} if function is of_replay else {}
    whole = end_of(chosen(tmp_path / "whole", function, hyperparameters=given))
    cut = chosen(tmp_path / "cut", function, hyperparameters=given)
    session(cut, max_steps=70)
    with pytest.raises(Died):
        session(cut, disk=DyingDisk(30))
    assert differing(end_of(cut), whole) == []
    final = CheckpointStore(TrainingTree(cut.tree, SCENARIO)).final()
    assert final is not None
    assert final.manifest.exact["exact"] == "pickle"


@pytest.mark.slow
def test_the_script_of_the_page_and_its_changed_lines_train_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = (code for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
    [toml] = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "train.py").write_text(after)
    path = tmp_path / "sections/pendulum/section.toml"
    path.parent.mkdir(parents=True)
    path.write_text(toml)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    section = load_section(path)
    config = from_scenario(
        "pendulum",
        section.scenario().for_quick(),
        total=1024,
        tree=tmp_path / "tree",
        lineage=Lineage("run", 1, None, 0),
        identity=identity_of(section, "pendulum", tmp_path, quick=True),
    )
    assert session(replace(config, evaluation_episodes=1, evaluate_every=1024)).kind == "completed"
    determinism.make_deterministic("cpu")
    exec(compile(before.replace("100_000", "1_024"), "train", "exec"), {"__name__": "__main__"})
    final = CheckpointStore(TrainingTree(config.tree, "pendulum")).final()
    assert final is not None
    (tmp_path / "final.zip").write_bytes(final.read("model"))
    ours, theirs = (_weights(tmp_path / name) for name in ("final.zip", "pendulum.zip"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    (tmp_path / "ours.pkl").write_bytes(final.read("statistics"))
    plain = make_vec_env("Pendulum-v1")
    statistics = [VecNormalize.load(str(tmp_path / name), plain).obs_rms for name in ("ours.pkl", "vecnormalize.pkl")]
    assert np.array_equal(statistics[0].mean, statistics[1].mean)  # type: ignore[union-attr]


def _weights(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as file, file.open("policy.pth") as policy:
        found: dict[str, Any] = torch.load(policy, weights_only=True)
    return found


@pytest.mark.slow
def test_evaluations_play_in_the_environment_that_is_given_for_them(tmp_path: Path) -> None:
    session(chosen(tmp_path, with_eval_env, total=80, evaluate_every=80))
    best = CheckpointStore(TrainingTree(tmp_path, SCENARIO)).best()
    assert best is not None
    assert best.manifest.score == 7.0


def no_callback(context: Context) -> Any:
    return PPO("MlpPolicy", context.make_vec_env("CartPole-v1"), seed=context.seed, device="cpu", **SMALL)


def one_callback(context: Context) -> Build:
    return Build(no_callback(context), callbacks=[Decay()])


def alone(context: Context) -> Build:
    return Build(no_callback(context), callbacks=Decay())


def counted(scope: dict[str, Any], names: dict[str, Any]) -> bool:
    scope["self"].vf_coef *= 0.999
    return True


def of_a_function(context: Context) -> Build:
    return Build(no_callback(context), callbacks=counted)


def with_a_function(context: Context) -> Build:
    return Build(no_callback(context), callbacks=[Decay(), counted])


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (alone, ["Decay"]),
        (of_a_function, ["ConvertCallback"]),
        (with_a_function, ["Decay", "ConvertCallback"]),
        (no_callback, []),
    ],
)
def test_callbacks_are_what_learn_takes(function: Callable[..., Any], names: list[str]) -> None:
    with tried(scenario(build=f"{__name__}:{function.__name__}"), 1) as built:
        assert [type(each).__name__ for each in built.callbacks] == names


@pytest.mark.slow
def test_a_function_is_a_callback_as_with_stable_baselines3(tmp_path: Path) -> None:
    assert session(chosen(tmp_path, of_a_function, total=40)).kind == "completed"
    point = origin_of(tmp_path)
    assert [each["kind"][0] for each in point.items["callbacks"]["users"]["each"]] == ["callback counted"]
    assert point.items["settings"] == {"vf_coef": pytest.approx(0.5 * 0.999**40)}


def no_callbacks_at_all(context: Context) -> Build:
    return Build(no_callback(context), callbacks=[Decay])  # type: ignore[list-item]


def another_callback(context: Context) -> Build:
    return Build(no_callback(context), callbacks=[StopTrainingOnMaxEpisodes(10**6), Decay()])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (one_callback, another_callback, ["StopTrainingOnMaxEpisodes"]),
        (another_callback, one_callback, ["StopTrainingOnMaxEpisodes"]),
        (one_callback, no_callback, ["Decay"]),
    ],
)
def test_callbacks_may_be_changed_on_purpose_and_the_others_keep_their_state(
    before: Callable[..., Any], after: Callable[..., Any], said: list[str], tmp_path: Path
) -> None:
    def settled(function: Callable[..., Any], **changes: Any) -> TrainingConfig:
        identity = {"environment_fingerprint": function.__name__, "reward_fingerprint": "test"}
        return chosen(tmp_path, function, algorithm="train:build", identity=identity, **changes)

    session(settled(before), max_steps=70)
    session(settled(after, accept_changes=True), max_steps=70)
    point = origin_of(tmp_path)
    assert point.record is not None
    broken = [known["why"] for known in point.record.broken]
    assert [f"the callback {name} was added or taken out" for name in said] == broken[1:]
    kept = [each["own"]["level"] for each in point.items["callbacks"]["users"]["each"] if each["own"]]
    assert kept == ([] if after is no_callback else [pytest.approx(0.1 * 0.99**point.step)])


def untrained(context: Context) -> Any:
    return PPO("MlpPolicy", make_vec_env("CartPole-v1"), device="cpu", **SMALL)


def nothing(context: Context) -> None:
    context.make_vec_env("CartPole-v1")


def no_model(context: Context) -> Build:
    return Build(model=context.make_vec_env("CartPole-v1"))  # type: ignore[arg-type]


def trained_already(context: Context) -> Any:
    return PPO("MlpPolicy", context.make_vec_env("CartPole-v1"), device="cpu", **SMALL).learn(40)


def other_vec_env(context: Context) -> Any:
    return context.make_vec_env("CartPole-v1", vec_env_cls=VecNormalize)  # type: ignore[arg-type]


def evaluation_first(context: Context) -> Build:
    eval_env = context.make_vec_env(Holding, env_kwargs={"held": 1})
    return Build(PPO("MlpPolicy", context.make_vec_env(Opaque), device="cpu", **SMALL), eval_env)


def evaluated_elsewhere(context: Context) -> Build:
    model = PPO("MlpPolicy", context.make_vec_env("CartPole-v1"), device="cpu", **SMALL)
    return Build(model, context.make_vec_env("Pendulum-v1"))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (untrained, "is not on environments of context.make_vec_env"),
        (nothing, "nothing returns None; accepted: Build(model=...), or the model alone"),
        (no_model, "no_model returns is a DummyVecEnv; accepted: one of Stable-Baselines3"),
        (trained_already, "has been trained for 40 timesteps already: learn() is called by the trainer"),
        (other_vec_env, "make_vec_env(vec_env_cls=stable_baselines3.common.vec_env.vec_normalize:VecNormalize)"),
        (evaluation_first, "is not on environments like those that were made first"),
        (evaluated_elsewhere, "eval_env has observations Box("),
        (no_callbacks_at_all, "the callbacks that test_code_first:no_callbacks_at_all returns: given"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_words(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused, tried(scenario(build=f"{__name__}:{function.__name__}"), 1):
        pass
    assert said in refused.value.message


def test_a_function_that_is_not_there_is_named_with_its_key() -> None:
    nowhere = tried(scenario(build="no_such_module_here:build"), 1)
    with pytest.raises(ConfigError, match="build: given 'no_such_module_here:build'"), nowhere:
        pass


def scenario(**changes: Any) -> ScenarioConfig:
    return ScenarioConfig.model_validate({"timesteps": 10, "models": "m", "quick": {"models": "q"}, **changes})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("algorithm", "PPO"),
        ("environment", "gymnasium:make"),
        ("environment_kwargs", {"id": "CartPole-v1"}),
        ("policy", "CnnPolicy"),
        ("n_envs", 4),
        ("vec_env", "subproc"),
        ("normalize", True),
        ("noise", {"type": "normal", "std": 0.1}),
    ],
)
def test_what_the_function_says_itself_is_refused_beside_it(key: str, value: Any, tmp_path: Path) -> None:
    written = _inline(value) if isinstance(value, dict) else json.dumps(value)
    path = tmp_path / "mine/section.toml"
    path.parent.mkdir()
    path.write_text(f"{HEAD}{key} = {written}\n")
    with pytest.raises(ConfigError) as refused:
        load_section(path)
    assert re.search(rf"scenarios\.one\.{key}: given .*; accepted: nothing beside build", refused.value.message)


def _inline(table: dict[str, Any]) -> str:
    return "{ " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in table.items()) + " }"


def test_its_quick_variant_is_one_as_well_and_hyperparameters_are_merged() -> None:
    whole = scenario(
        build="train:build",
        hyperparameters={"n_steps": 512, "gamma": 0.9},
        quick={"models": "q", "hyperparameters": {"n_steps": 8}},
    )
    assert whole.for_quick().hyperparameters == {"n_steps": 8, "gamma": 0.9}
    assert whole.for_quick().build == "train:build"


def test_the_script_and_what_it_imports_travel_and_are_essential(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import nets\n")
    (tmp_path / "nets.py").write_text("SIZE = 64\n")
    path = tmp_path / "sections/mine/section.toml"
    path.parent.mkdir(parents=True)
    path.write_text(HEAD)
    section = load_section(path)
    assert environment_files(section.scenario(), tmp_path) == ["train.py", "nets.py"]
    assert {"train.py", "nets.py"} <= {name for name, _ in build_bundle(tmp_path, section).files}
    before = identity_of(section, "one", tmp_path)
    (tmp_path / "nets.py").write_text("SIZE = 32\n")
    after = identity_of(section, "one", tmp_path)
    assert before["build"] == after["build"] == before["algorithm"] == "train:build"
    assert before["environment_fingerprint"] != after["environment_fingerprint"]


def of_a_socket(context: Context) -> Any:
    return PPO("MlpPolicy", context.make_vec_env(Opaque), seed=context.seed, device="cpu", **SMALL)


@pytest.mark.slow
def test_an_environment_that_cannot_be_put_back_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session(chosen(tmp_path, of_a_socket, total=60))
    record = origin_of(tmp_path).record
    assert record is not None
    assert record.exactness.mode == "none"
    assert "resumes of this training cannot be exact: pickling does not restore it" in capsys.readouterr().out


SCRIPT = """
from stable_baselines3 import PPO

def build(context):
    env = context.make_vec_env("CartPole-v1", n_envs=2)
    return PPO("MlpPolicy", env, n_steps=8, batch_size=16, n_epochs=1, seed=context.seed, device=context.device)
"""


def too_large(context: Context) -> DQN:
    env = context.make_vec_env("CartPole-v1")
    return DQN("MlpPolicy", env, seed=context.seed, buffer_size=7 * 10**8)


def test_a_replay_buffer_that_no_session_holds_is_refused_before_the_push(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(try_out, "memory_bytes", 30 * 10**9)
    path = tmp_path / "sections/mine/section.toml"
    path.parent.mkdir(parents=True)
    path.write_text(
        HEAD.replace("train:build", f"{__name__}:too_large").replace("timesteps = 10", f"timesteps = {7 * 10**8}")
    )
    [*_, last] = preflight(tmp_path, load_section(path))
    assert (last.name, last.ok) == ("one: fits a session", False)
    assert "a session has 30 GB" in last.detail


@pytest.mark.slow
@pytest.mark.parametrize(("script", "ok"), [(SCRIPT, True), (SCRIPT.replace("context.make", "make"), False)])
def test_the_preflight_makes_it_kills_it_and_proves_its_resume(
    script: str, ok: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"script_{ok}".lower()
    (tmp_path / f"{name}.py").write_text(script)
    path = tmp_path / "sections/mine/section.toml"
    path.parent.mkdir(parents=True)
    text = HEAD.replace("train:build", f"{name}:build").replace("timesteps = 10", "timesteps = 1000")
    path.write_text(text.replace("[scenarios.one]", 'kernel.accelerator = "NvidiaTeslaT4"\n[scenarios.one]'))
    monkeypatch.syspath_prepend(tmp_path)
    found = list(preflight(tmp_path, load_section(path)))
    assert all(result.ok for result in found) is ok, found
    if ok:
        assert found[0].name == f"one: {name}:build makes a training"
        assert found[0].detail.startswith("a PPO on 2 environments")
        assert "it ends the same in all" in found[-1].detail
        said = {result.name.partition(": ")[2]: result.detail for result in found}
        assert said["fits a session"] == "it has no replay buffer"
        assert "of the time of one processor" in said["what evaluations take"]
        assert "times the speed of this CPU at most" in said["what the accelerator can gain"]
        assert re.search(r"2 together, .*dummy [\d,]+, subproc [\d,]+", said["how its environments step"])
    else:
        assert "name 'make_vec_env' is not defined" in found[-1].detail
