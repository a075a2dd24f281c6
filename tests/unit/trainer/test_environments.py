"""What is around an environment, in the order of Stable-Baselines3 and the Zoo, and what of it evaluations have."""

from __future__ import annotations

import random
import re
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import is_wrapped, make_atari_env
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnvWrapper,
    VecFrameStack,
    VecNormalize,
)
from trainer_runs import CARTPOLE, session, settings

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.trainer.sb3 import env_state, preflight
from kaggle_manager.trainer.sb3.algorithms import build_model
from kaggle_manager.trainer.sb3.env_check import NO_PAST, check_environment
from kaggle_manager.trainer.sb3.env_probe import probe
from kaggle_manager.trainer.sb3.env_state import EntryPoint, StatefulEnv
from kaggle_manager.trainer.sb3.env_statistics import depends_on_the_past, statistics_in
from kaggle_manager.trainer.sb3.environments import Environments, environments_of
from kaggle_manager.trainer.sb3.evaluation import Evaluator
from kaggle_manager.trainer.sb3.training_config import TrainingConfig

CHECK = "stable_baselines3.common.vec_env:VecCheckNan"
BITS = "stable_baselines3.common.envs:BitFlippingEnv"


class Lives(gym.Env[Any, Any]):
    """Ten steps that pay 5; told the wrapper above, each third of them is a life."""

    observation_space = gym.spaces.Box(0.0, 1.0, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, pay: float = 5.0) -> None:
        self._pay, self._steps = pay, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self.observation_space.low, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return self.observation_space.low, self._pay, self._steps == 10, False, {"level": self._steps}


class OneLife(gym.Wrapper[Any, Any, Any, Any]):
    """Clips rewards and ends an episode with each life, as wrappers of Atari do."""

    def __init__(self, env: gym.Env[Any, Any], most: float = 1.0) -> None:
        super().__init__(env)
        self._most, self._is_over = most, True

    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(**given) if self._is_over else (self.observation_space.low, {})

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, self._is_over, truncated, info = self.env.step(action)
        return observation, min(float(reward), self._most), self._is_over or info["level"] == 4, truncated, info


def scenario(**keys: Any) -> ScenarioConfig:
    given = {"environment": f"{__name__}:Lives", "algorithm": "PPO", "timesteps": 10, "models": "m", **keys}
    return ScenarioConfig.model_validate({**given, "quick": {"models": "q"}})


def layers(vec: Any) -> list[type]:
    found = []
    while isinstance(vec, VecEnvWrapper):
        found.append(type(vec))
        vec = vec.venv
    return [*found, type(vec)]


def test_the_order_is_that_of_stable_baselines3_and_the_zoo() -> None:
    made = environments_of(
        scenario(
            n_envs=2,
            env_wrapper=[{f"{__name__}:OneLife": {"most": 0.5}}],
            vec_env_wrapper=CHECK,
            normalize=True,
            frame_stack=3,
            hyperparameters={"gamma": 0.8},
        )
    ).vectorised("pickle", 1)
    assert layers(made) == [VecFrameStack, VecNormalize, VecCheckNan, DummyVecEnv]
    innermost: Any = made.unwrapped
    assert innermost.num_envs == 2
    one = innermost.envs[0]
    assert [type(one), type(one.env), type(one.env.env)][:2] == [StatefulEnv, OneLife]
    assert isinstance(one.env.env, Monitor)
    assert one.env._most == 0.5
    assert made.venv.gamma == 0.8  # type: ignore[attr-defined]
    assert not is_wrapped(one.env.env.env, Monitor)


def test_gamma_of_the_normalisation_is_what_is_given_else_the_algorithms() -> None:
    assert environments_of(scenario(normalize={"gamma": 0.5}, hyperparameters={"gamma": 0.8})).normalize["gamma"] == 0.5  # type: ignore[index]
    assert environments_of(scenario(normalize=True)).normalize["gamma"] == 0.99  # type: ignore[index]
    assert environments_of(scenario(normalize=False)).normalize is None


def test_an_episode_and_its_return_are_those_of_the_environment_whatever_a_wrapper_cuts_or_clips() -> None:
    vec = environments_of(scenario(env_wrapper=f"{__name__}:OneLife")).vectorised("pickle", 1)
    vec.reset()
    seen = [vec.step([0]) for _ in range(20)]  # type: ignore[arg-type]
    assert sum(bool(done[0]) for _, _, done, _ in seen) == 4, "the policy sees lives"
    assert {float(reward[0]) for _, reward, _, _ in seen} == {1.0}
    episodes = [infos[0]["episode"] for _, _, _, infos in seen if "episode" in infos[0]]
    assert [(episode["r"], episode["l"]) for episode in episodes] == [(50.0, 10), (50.0, 10)]


def test_the_monitor_has_its_keywords() -> None:
    vec = environments_of(scenario(monitor_kwargs={"info_keywords": ["level"]})).vectorised("pickle", 1)
    vec.reset()
    assert [vec.step([0]) for _ in range(10)][-1][3][0]["episode"]["level"] == 10  # type: ignore[arg-type]


def test_an_evaluation_has_its_own_arguments_over_those_of_the_training() -> None:
    made = environments_of(scenario(environment_kwargs={"pay": 2.0}, eval_env_kwargs={"pay": 3.0}, n_envs=4))
    assert made.factory().unwrapped._pay == 2.0  # type: ignore[attr-defined]
    evaluated = made.for_evaluation()
    assert evaluated.n_envs == 1
    assert evaluated.factory().unwrapped._pay == 3.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"env_wrapper": "no_such:Thing"}, r"env_wrapper: given 'no_such:Thing'; accepted: .*No module named"),
        ({"env_wrapper": ["gymnasium.wrappers:OrderEnforcing", "builtins:str"]}, r"env_wrapper\.1: .* what returns a"),
        ({"env_wrapper": {f"{__name__}:OneLife": {"least": 1}}}, r"env_wrapper: given {'least': 1}; .*OneLife"),
        ({"vec_env_wrapper": f"{__name__}:OneLife"}, "vec_env_wrapper: given"),
        (
            {"env_wrapper": {"gymnasium.wrappers:TimeLimit": {"max_episode_steps": -1}}},
            "env_wrapper: given {'max_episode_steps': -1}; accepted: the arguments of .*TimeLimit: .* to be positive",
        ),
        (
            {"vec_env_wrapper": {"stable_baselines3.common.vec_env:VecFrameStack": {"n_stack": 0}}},
            "vec_env_wrapper: given .*'n_stack': 0.*; accepted: what leaves something to observe",
        ),
        ({"normalize": {"norm_obs_keys": ["a"]}}, "normalize: given .*; accepted: `norm_obs_keys` param is"),
        (
            {"normalize": True, "environment": BITS, "environment_kwargs": {"n_bits": 3}},
            r"normalize: given .*; accepted: VecNormalize only supports .* is of type MultiBinary\(3\)",
        ),
        (
            {"frame_stack": 2, "environment": "gymnasium:make", "environment_kwargs": {"id": "FrozenLake-v1"}},
            "frame_stack: given 2; accepted: VecFrameStack only works with",
        ),
    ],
)
def test_a_wrapper_that_cannot_be_made_is_named_by_its_key(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^scenarios\.one\.{said}"):
        environments_of(scenario(**keys), "scenarios.one.").vectorised("pickle", 1)


class Sized(Lives):
    """As many observations as it is told."""

    def __init__(self, size: int = 1, pay: float = 5.0) -> None:
        super().__init__(pay)
        self.observation_space = gym.spaces.Box(0.0, 1.0, (size,))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"nope": 1}, "eval_env_kwargs: given {'nope': 1}; accepted: .*unexpected keyword argument 'nope'"),
        ({"size": 2}, r"eval_env_kwargs: given {'size': 2}; accepted: what keeps the observations .*\(2,\)"),
        ({"pay": 2.0}, ""),
    ],
)
def test_arguments_of_evaluations_that_cannot_be_are_refused_before_a_step_and_by_the_preflight(
    given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    found = scenario(environment=f"{__name__}:Sized", eval_env_kwargs=given, hyperparameters={"n_steps": 10})
    last = list(check_environment(found))[-1]
    assert last.ok is not bool(said)
    chosen = settings(tmp_path, environments=environments_of(found, "scenarios.one."), total=40, evaluate_every=40)
    if not said:
        assert session(chosen).step == 40
        return
    assert re.match(said, last.detail)
    with pytest.raises(ConfigError, match=rf"^scenarios\.one\.{said}"):
        session(chosen)
    assert not (tmp_path / "history/monitor.csv").exists(), "before a step"


SKIPS: dict[str, Any] = {"gymnasium.wrappers:TimeLimit": {"max_episode_steps": 3}}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"monitor_kwargs": {"info_keywords": ["level", "nope"]}}, "info_keywords: given 'nope'; accepted: names in"),
        ({"monitor_kwargs": {"allow_early_resets": False}, "env_wrapper": SKIPS}, "allow_early_resets: given False"),
        ({"monitor_kwargs": {"allow_early_resets": False, "info_keywords": ["level"]}}, ""),
    ],
)
def test_what_the_monitor_cannot_do_is_said_by_its_key_and_found_by_the_preflight(
    keys: dict[str, Any], said: str, tmp_path: Path
) -> None:
    found = scenario(**keys)
    results = list(check_environment(found))
    assert all(result.ok for result in results) is not bool(said), results
    chosen = settings(tmp_path, environments=environments_of(found, "scenarios.one."), total=40, evaluate_every=40)
    if not said:
        assert session(chosen).step == 40, "what this program begins anew is its own affair"
        return
    assert re.match(f"monitor_kwargs.{said}", results[-1].detail)
    with pytest.raises(ConfigError, match=rf"^scenarios\.one\.monitor_kwargs\.{said}"):
        session(chosen)


def test_an_error_of_the_environment_itself_is_none_of_the_monitors() -> None:
    class Broken(Lives):
        def step(self, action: Any) -> Any:
            raise KeyError("level")

    env = environments_of(scenario(monitor_kwargs={"info_keywords": ["level"]}))
    one = replace(env, factory=Broken).one("none", 1)
    one.reset()
    with pytest.raises(KeyError):
        one.step(0)


def test_rows_that_stable_baselines3_would_fail_to_store_are_refused_before() -> None:
    vec = Environments(lambda: gym.make("Pendulum-v1"), normalize={}, frame_stack=2).vectorised("none", 1)
    with pytest.raises(ConfigError, match=r"normalize: given .*\(3,\).*\(6,\).* vec_env_wrapper, below it"):
        build_model("SAC", "MlpPolicy", {"buffer_size": 10}, vec, seed=1, device="cpu")


# --- who says when an episode is over


@pytest.mark.parametrize("processes", [False, True])
def test_an_episode_that_a_wrapper_cuts_off_is_one(processes: bool) -> None:
    """Stable-Baselines3's monitor never says so: its statistics stay empty, and its evaluation does not end."""
    limit = {"gymnasium.wrappers:TimeLimit": {"max_episode_steps": 4}}
    made = Environments(EntryPoint(f"{__name__}:Lives"), 2, processes, [limit], monitor={"info_keywords": ["level"]})
    vec = made.vectorised("pickle", 1)
    try:
        vec.reset()
        seen = [vec.step([0, 0]) for _ in range(8)]  # type: ignore[arg-type]
        told = [infos[0].get("episode", {}) for _, _, _, infos in seen]
        assert [(each.get("r"), each.get("l"), each.get("level")) for each in told] == [
            *[(None, None, None)] * 3,
            (20.0, 4, 4),
            *[(None, None, None)] * 3,
            (20.0, 4, 4),
        ]
    finally:
        env_state.close(vec)


def test_an_episode_that_is_begun_anew_from_outside_is_none() -> None:
    vec = environments_of(scenario()).vectorised("pickle", 1)
    vec.reset()
    vec.step([0])  # type: ignore[arg-type]
    vec.reset()
    seen = [vec.step([0]) for _ in range(10)]  # type: ignore[arg-type]
    assert [infos[0]["episode"]["l"] for _, _, _, infos in seen if "episode" in infos[0]] == [10]


# --- statistics inside an environment


def normalised(rewards: bool = True, observations: bool = True) -> gym.Env[Any, Any]:
    env: gym.Env[Any, Any] = Lives()
    env = gym.wrappers.NormalizeReward(env) if rewards else env
    return gym.wrappers.NormalizeObservation(env) if observations else env


def test_normalised_rewards_are_never_compared() -> None:
    made = Environments(normalised)
    vec = made.vectorised("pickle", 1)
    vec.reset()
    *_, (_, rewards, _, infos) = (vec.step([0]) for _ in range(10))  # type: ignore[arg-type]
    assert rewards[0] != 5.0
    assert infos[0]["episode"]["r"] == 50.0
    model = build_model("A2C", "MlpPolicy", {}, vec, seed=1, device="cpu")
    assert Evaluator(made.for_evaluation(), "pickle", 1, 2)(model, lambda: None).returns == [50.0, 50.0]


def test_statistics_inside_an_environment_are_noticed_whoever_keeps_them() -> None:
    assert statistics_in(normalised()) == {"NormalizeObservation": ["obs_rms"], "NormalizeReward": ["return_rms"]}
    assert statistics_in(Lives()) == {}

    class Own(gym.Wrapper[Any, Any, Any, Any]):
        def __init__(self, env: gym.Env[Any, Any]) -> None:
            super().__init__(env)
            self.seen = RunningMeanStd(shape=(1,))

    assert statistics_in(Own(Lives())) == {"Own": ["seen"]}


@pytest.mark.parametrize("rewards", [True, False])
def test_a_training_warns_of_statistics_inside_its_environment(
    rewards: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session(settings(tmp_path, environment=partial(normalised, rewards), total=20, evaluate_every=20))
    said = capsys.readouterr().out
    assert "WARNING: the environment keeps running statistics of its own: NormalizeObservation (obs_rms)" in said
    assert "add normalize = { norm_obs = true, norm_reward = true }" in said


class Remembers(Lives):
    """Shows how many episodes there were, and keeps no statistic."""

    episodes = 0

    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        super().reset(**given)
        self.episodes += 1
        return np.array([self.episodes / 100], np.float32), {}


class Unseeded(Lives):
    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        super().reset(**given)
        return np.array([random.random()], np.float32), {}


@pytest.mark.parametrize(("kind", "depends"), [(Lives, False), (Remembers, True), (Unseeded, False)])
def test_an_episode_that_depends_on_those_before_it_is_noticed(kind: type[Lives], depends: bool) -> None:
    assert depends_on_the_past(kind(), kind, 3) == depends
    said = {each.name: each.detail for each in check_environment(scenario(environment=f"{__name__}:{kind.__name__}"))}
    assert ("WARNING: with the same seed and actions it is another one later" in said[NO_PAST]) == depends


def test_the_preflight_warns_of_statistics_inside_an_environment() -> None:
    said = {each.name: each.detail for each in check_environment(scenario(environment=f"{__name__}:normalised"))}
    assert said[NO_PAST].startswith("WARNING: the environment keeps running statistics of its own: NormalizeObs")


def test_the_preflight_measures_both_kinds_of_vec_env_and_prints_the_line_to_add(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert preflight.check_vec_env(scenario()) == [], "there is one environment"
    [said] = preflight.check_vec_env(scenario(environment=f"{__name__}:Slow", n_envs=4))
    assert said.detail.startswith("WARNING: 4 together, in steps a second with random actions on")
    assert said.detail.endswith('in section.toml: vec_env = "subproc"')
    monkeypatch.setattr(preflight, "measure_vec_env", lambda *_: {"dummy": 100.0, "subproc": 110.0})
    [said] = preflight.check_vec_env(scenario(n_envs=4))
    assert said.detail.endswith("dummy 100, subproc 110")


class Slow(Lives):
    """Waits for something, as a simulator in another program does."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(0.02)
        return super().step(action)


# --- wrappers that pickle refuses


@pytest.mark.parametrize("wrapper", ["FlattenObservation", "ClipReward"])
def test_wrappers_that_hold_functions_without_a_name_are_exact(wrapper: str) -> None:
    arguments = {"min_reward": -0.5, "max_reward": 0.5} if wrapper == "ClipReward" else {}
    made = Environments(CARTPOLE, wrappers=[{f"gymnasium.wrappers:{wrapper}": arguments}])
    assert probe(made, 3).mode == "pickle"


def test_functions_that_another_python_kept_are_not_run() -> None:
    made = Environments(CARTPOLE, wrappers=["gymnasium.wrappers:FlattenObservation"])
    one, other = made.one("pickle", 1), made.one("pickle", 2)
    one.reset(seed=1)
    state = one.exact_state()
    assert other.restore_exact_state(state) == ""
    assert "kept by Python 2.7" in other.restore_exact_state({**state, "functions_of": "2.7"})


# --- in a training


def test_what_the_monitor_is_asked_for_is_in_its_file(tmp_path: Path) -> None:
    made = EntryPoint(f"{__name__}:Lives")
    session(settings(tmp_path, environment=made, monitor={"info_keywords": ["level"]}, total=40, evaluate_every=40))
    header, *rows = (tmp_path / "history/monitor.csv").read_text().splitlines()[1:]
    assert header == "r,l,t,step,level"
    assert [row.split(",")[3:] for row in rows] == [[step, "10"] for step in ("10", "20", "30", "40")]
    assert len(load_results(str(tmp_path / "history"))) == 4, "as Stable-Baselines3 reads it"


def test_a_run_goes_on_with_another_vec_env_and_says_that_its_bits_are_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def chosen(kind: str) -> TrainingConfig:
        base = settings(tmp_path, n_envs=2, processes=kind == "subproc", algorithm="A2C", hyperparameters={}, total=60)
        return replace(base, identity={**base.identity, "vec_env": kind})

    session(chosen("dummy"), max_steps=20)
    session(chosen("subproc"), max_steps=20)
    assert session(chosen("dummy")).step == 60
    said = capsys.readouterr().out
    assert (
        "from step 20 the bits are no longer those of an uninterrupted run: vec_env changed from dummy to subp" in said
    )
    assert "vec_env changed from subproc to dummy" in said


def test_one_episode_of_many_different_ones_is_not_called_an_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session(settings(tmp_path, evaluation_episodes=1, total=6_000), max_steps=4)
    assert "WARNING: an evaluation plays one episode, and episodes differ" in capsys.readouterr().out


def test_space_invaders_is_scored_as_stable_baselines3_scores_it() -> None:
    """The game's own score over a whole game, where one life with clipped rewards is all that the policy sees."""
    pytest.importorskip("ale_py")
    kwargs = {"id": "ale_py:SpaceInvadersNoFrameskip-v4"}
    wrapper = "stable_baselines3.common.atari_wrappers:AtariWrapper"
    ours = environments_of(scenario(environment="gymnasium:make", environment_kwargs=kwargs, env_wrapper=wrapper))
    found = [games(ours.vectorised("pickle", 7)), games(make_atari_env(kwargs["id"], seed=7))]
    assert found[0] == found[1]
    assert len(found[0]) == 2
    assert sum(found[0]) > 100, "clipped, three lives pay less"


def games(vec: Any) -> list[float]:
    vec.seed(7)
    vec.reset()
    chance = np.random.default_rng(0)
    seen = [vec.step([chance.integers(vec.action_space.n)])[3][0] for _ in range(1500)]
    return [info["episode"]["r"] for info in seen if "episode" in info]
