"""The trainings of the proof: every algorithm, with every option that keeps state of its own.

All are small: a few hundred steps, replay buffers that come round during the test so that old rows are overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN, PPO, SAC, HerReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecNormalize

from kaggle_manager.sections.hyperparameters import NAMES, SB3
from kaggle_manager.trainer.sb3.code_first import Build, Context
from kaggle_manager.trainer.sb3.env_state import EntryPoint
from kaggle_manager.trainer.sb3.environments import Environments

_HERE = "kaggle_manager.trainer.sb3.selftest_cases"
_VEC = "stable_baselines3.common.vec_env"
_DISCRETE_REPLAY = ("dqn", "qrdqn")
_CONTINUOUS = ("sac", "td3", "ddpg", "tqc", "crossq")
_OFF_POLICY = (*_DISCRETE_REPLAY, *_CONTINUOUS)
_SPELLED = {name.lower(): name for name in NAMES}

# --- environments, networks, wrappers


class Simulator(gym.Env[Any, Any]):
    """Stands for a simulator in native code: an environment behind an object that cannot be pickled."""

    def __init__(self, id: str = "CartPole-v1") -> None:
        self._inner = gym.make(id)
        self.observation_space, self.action_space = self._inner.observation_space, self._inner.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self._inner.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        return self._inner.step(action)

    def __reduce__(self) -> Any:
        raise TypeError("a simulator cannot be pickled")


class Dot(gym.Env[Any, Any]):
    """A bright dot to be kept in the middle of an 8 x 8 image while it is blown about."""

    observation_space = gym.spaces.Box(0, 255, (8, 8, 1), np.uint8)

    def __init__(self, continuous: bool = False) -> None:
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,)) if continuous else gym.spaces.Discrete(3)
        self._column, self._steps = 0.0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._column, self._steps = float(self.np_random.uniform(0, 8)), 0
        return self._image(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        push = float(action[0]) if isinstance(self.action_space, gym.spaces.Box) else float(action) - 1.0
        self._column = (self._column + push + float(self.np_random.normal(0.0, 0.7))) % 8
        self._steps += 1
        return self._image(), -abs(self._column - 4.0), False, self._steps == 30, {}

    def _image(self) -> Any:
        image = np.zeros((8, 8, 1), np.uint8)
        image[4, int(self._column)] = 255
        return image


class Walls(gym.Env[Any, Any]):
    """A walk on a line of seven places towards the last one, against the wind; walking into a wall is an error."""

    observation_space = gym.spaces.Box(0.0, 6.0, (1,))
    action_space = gym.spaces.Discrete(3)

    def __init__(self) -> None:
        self._place, self._steps = 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._place, self._steps = int(self.np_random.integers(7)), 0
        return self._seen(), {}

    def action_masks(self) -> Any:
        """For a step to the left, none, and one to the right."""
        return np.array([self._place > 0, True, self._place < 6])

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self.action_masks()[action]:
            raise ValueError("there is a wall")
        self._steps += 1
        self._place += int(action) - 1
        if self._place and self.np_random.random() < 0.3:
            self._place -= 1
        return self._seen(), self._place / 6, self._steps == 20, False, {}

    def _seen(self) -> Any:
        return np.array([self._place], np.float32)


class Repeat(gym.Wrapper[Any, Any, Any, Any]):
    """Repeats each action, and every so often once more; counts over all episodes."""

    def __init__(self, env: gym.Env[Any, Any], times: int = 2) -> None:
        super().__init__(env)
        self._times, self._count = times, 0

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._count += 1
        paid = 0.0
        for _ in range(self._times + (self._count % 7 == 0)):
            observation, reward, terminated, truncated, info = self.env.step(action)
            paid += float(reward)
            if terminated or truncated:
                break
        return observation, paid, terminated, truncated, info


class Stirring(BaseCallback):
    """Draws from the process's generators when one of its own says so, and keeps that."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = np.random.default_rng(7)

    def _on_step(self) -> bool:
        if self.generator.random() < 0.2:
            np.random.rand()
            torch.rand(1)
        return True

    def state(self) -> dict[str, Any]:
        return dict(self.generator.bit_generator.state)

    def load_state(self, state: dict[str, Any]) -> None:
        self.generator.bit_generator.state = state


def others(env: gym.Env[Any, Any]) -> Any:
    """Allows all actions but one, another one at each step: for a wrapper, where an environment does not say itself."""
    mask = np.ones(int(env.get_wrapper_attr("action_space").n), np.bool_)
    mask[len(env.get_wrapper_attr("rewards")) % len(mask)] = False  # Monitor's of this episode
    return mask


class _Fading:
    """Weights that fade by chance, by a generator of its own that it keeps."""

    policy: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.generator = np.random.default_rng(5)

    def train(self, *args: Any, **kwargs: Any) -> None:
        super().train(*args, **kwargs)  # type: ignore[misc]
        with torch.no_grad():
            for weights in self.policy.parameters():
                weights.mul_(1.0 - self.generator.random() / 100)

    def state(self) -> dict[str, Any]:
        return dict(self.generator.bit_generator.state)

    def load_state(self, state: dict[str, Any]) -> None:
        self.generator.bit_generator.state = state


class FadingDQN(_Fading, DQN):
    """An algorithm of one's own."""


class FadingSAC(_Fading, SAC):
    """An algorithm of one's own."""


class FadingPPO(_Fading, PPO):
    """An algorithm of one's own."""


def halved(remaining: float) -> float:
    """A schedule of one's own."""
    return 0.2 if remaining > 0.5 else 0.1


def made_by_code(context: Context) -> Build:
    """A training script of one's own: environments, what is around them, a callback and the model, made by code."""
    given = dict(context.hyperparameters)
    algorithm, policy, environment = (given.pop(name) for name in ("algorithm", "policy", "environment"))
    vec = VecNormalize(context.make_vec_env(environment, n_envs=2))
    eval_env = VecNormalize(context.make_vec_env(environment), training=False, norm_reward=False)
    model = algorithm(policy, vec, seed=context.seed, device=context.device, **given)
    return Build(model, eval_env, callbacks=[Stirring()])


class SmallCNN(BaseFeaturesExtractor):
    """One convolution."""

    def __init__(self, observation_space: gym.spaces.Box) -> None:
        super().__init__(observation_space, features_dim=36)
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(observation_space.shape[0], 4, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten()
        )

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.layers(observations)
        return features


class NormalizedFeatures(BaseFeaturesExtractor):
    """Batch normalisation: running statistics in the networks and their targets."""

    def __init__(self, observation_space: gym.spaces.Box) -> None:
        super().__init__(observation_space, features_dim=observation_space.shape[0])
        self.layer = torch.nn.BatchNorm1d(observation_space.shape[0])

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.layer(observations)
        return features


_SCHEDULE = {"piecewise": [[0.0, 1e-3], [0.4, 4e-4], [1.0, 1e-4]]}
_WRAPPED = {
    "n_envs": 2,
    "processes": True,
    "normalize": {"norm_reward": False},
    "wrappers": [{f"{_HERE}:Repeat": {"times": 3}}],
    "vec_wrappers": [{f"{_VEC}:VecFrameStack": {"n_stack": 2}}, f"{_VEC}:VecMonitor"],
}


_WALLS, _HALVED = f"{_HERE}:Walls", f"{_HERE}:halved"
_MASKS = {"sb3_contrib.common.wrappers:ActionMasker": {"action_mask_fn": f"{_HERE}:others"}}


def _physics(algorithm: str) -> EntryPoint:
    if algorithm == "maskableppo":
        return EntryPoint(_WALLS)
    return EntryPoint("gymnasium:make", {"id": _physics_id(algorithm)})


def _physics_id(algorithm: str) -> str:
    return "Pendulum-v1" if algorithm in _CONTINUOUS else "CartPole-v1"


def _pendulum(_: str) -> EntryPoint:
    return EntryPoint("gymnasium:make", {"id": "Pendulum-v1"})


def _simulator(algorithm: str) -> EntryPoint:
    return EntryPoint(f"{_HERE}:Simulator", {"id": _physics_id(algorithm)})


def _images(algorithm: str) -> EntryPoint:
    return EntryPoint(f"{_HERE}:Dot", {"continuous": algorithm in _CONTINUOUS})


def _bits(algorithm: str) -> EntryPoint:
    arguments = {"n_bits": 6, "max_steps": 6, "continuous": algorithm in _CONTINUOUS}
    return EntryPoint("stable_baselines3.common.envs:BitFlippingEnv", arguments)


def _traffic(_: str) -> EntryPoint:
    return EntryPoint("validation_ch7.section_7_6_rl_performance.environment:TrafficSignalEnv", {"episode_s": 900})


def _atari(_: str) -> EntryPoint:
    return EntryPoint("gymnasium:make", {"id": "ale_py:ALE/Breakout-v5", "frameskip": 1})


# --- algorithms

_SMALL = {"policy_kwargs": {"net_arch": [16, 16]}}
_PPO = {"n_steps": 32, "batch_size": 32, "n_epochs": 3, "learning_rate": {"linear": [1e-3, 1e-5]}, **_SMALL}
_REPLAY = {"learning_starts": 60, "buffer_size": 400, "batch_size": 16, **_SMALL}
_TOTALS = {"dqn": 1200, "sac": 350, "td3": 400, "ppo": 1280, "a2c": 1000, "ddpg": 400, "tqc": 350, "crossq": 350}
_TOTALS |= {"qrdqn": 1000, "trpo": 1280, "recurrentppo": 640, "maskableppo": 1280, "ars": 2400}
_DQN = {**_REPLAY, "train_freq": 4, "target_update_interval": 70, "exploration_fraction": 0.5}
_PLAIN: dict[str, dict[str, Any]] = {
    "dqn": _DQN,
    "sac": _REPLAY,
    "td3": _REPLAY,
    "ppo": _PPO,
    "a2c": _SMALL,
    "ddpg": _REPLAY,
    "tqc": _REPLAY,
    "crossq": _REPLAY,
    "qrdqn": _DQN,
    "trpo": {"n_steps": 64, "batch_size": 32, "n_critic_updates": 3, "cg_max_steps": 4, **_SMALL},
    "recurrentppo": {**_PPO, "policy_kwargs": {"net_arch": [16], "lstm_hidden_size": 8}},
    "maskableppo": _PPO,
    "ars": {"n_delta": 3, "learning_rate": {"linear": [0.05, 0.01]}, "delta_std": 0.1, **_SMALL},
}

# --- options


@dataclass(frozen=True)
class Option:
    """A way to train that keeps state of its own.

    Attributes:
        hyperparameters: what it adds, by algorithm, called in the process that trains.
        around: the environments: arguments of `Environments`.
        environment: by algorithm.
        algorithms: those that have it.
        policy: its name.
        share: of the algorithm's usual timesteps.
        needs: a module that is not among what every training needs.
        callbacks: of the user.
        build: the function that makes it.
        classes: derived from the algorithm.
    """

    hyperparameters: Callable[[str], dict[str, Any]] = lambda _: {}
    around: Mapping[str, Any] = field(default_factory=dict)
    environment: Callable[[str], EntryPoint] = _physics
    algorithms: tuple[str, ...] = tuple(_PLAIN)
    policy: str = "MlpPolicy"
    share: float = 1.0
    needs: str = ""
    callbacks: tuple[type[BaseCallback], ...] = ()
    build: str | None = None
    classes: Mapping[str, str] = field(default_factory=dict)


def _noise(_: str) -> dict[str, Any]:
    return {"action_noise": OrnsteinUhlenbeckActionNoise(mean=np.zeros(1), sigma=0.2 * np.ones(1))}


def _compact(_: str) -> dict[str, Any]:
    return {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}


def _hindsight(_: str) -> dict[str, Any]:
    return {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": {"copy_info_dict": True}}


def _scheduled(algorithm: str) -> dict[str, Any]:
    others = {"delta_std": "lin_0.2"} if algorithm == "ars" else {"clip_range": "lin_0.2", "clip_range_vf": _HALVED}
    return {"learning_rate": {"cosine": [1e-2, 1e-4]}, **others}


def _made_by_code(algorithm: str) -> dict[str, Any]:
    name = _SPELLED[algorithm]
    return {
        "algorithm": f"{'stable_baselines3' if name in SB3 else 'sb3_contrib'}:{name}",
        "policy": "MlpLstmPolicy" if algorithm == "recurrentppo" else "MlpPolicy",
        "environment": _WALLS if algorithm == "maskableppo" else _physics_id(algorithm),
    }


def _features(extractor: type[BaseFeaturesExtractor]) -> Callable[[str], dict[str, Any]]:
    return lambda _: {"policy_kwargs": {"features_extractor_class": extractor}}


_NETWORKS = tuple(name for name in _PLAIN if name != "ars")
_REPEATABLE = tuple(name for name in _NETWORKS if name != "maskableppo")  # an action may not be allowed twice
_MORE_POLICIES = tuple(name for name in _NETWORKS if name != "crossq")
_HINDSIGHT = tuple(name for name in _OFF_POLICY if name in _MORE_POLICIES)
_FRESH = tuple(name for name in _PLAIN if name not in _OFF_POLICY)
_WITH_GSDE = ("sac", "ppo", "a2c", "tqc", "crossq", "trpo", "recurrentppo")
_TWO = {"n_envs": 2}
_WORKERS = {"n_envs": 2, "processes": True}

_OWN = {name: f"{_HERE}:Fading{name.upper()}" for name in ("dqn", "sac", "ppo")}

OPTIONS: dict[str, Option] = {
    "plain": Option(),
    "replay": Option(environment=_simulator),
    "environments": Option(around={"n_envs": 4}),
    "workers": Option(around=_WORKERS, share=0.6),
    "normalized": Option(around={**_TWO, "normalize": {}}),
    "wrapped": Option(lambda _: {"learning_rate": _SCHEDULE}, _WRAPPED, algorithms=_REPEATABLE, share=0.4),
    "dictionary": Option(around=_TWO, environment=_bits, algorithms=_MORE_POLICIES, policy="MultiInputPolicy"),
    "hindsight": Option(_hindsight, _TWO, _bits, _HINDSIGHT, "MultiInputPolicy"),
    "n-step": Option(lambda _: {"n_steps": 3}, algorithms=_OFF_POLICY),
    "compact": Option(_compact, algorithms=_OFF_POLICY),
    "by-episode": Option(lambda _: {"train_freq": [1, "episode"], "gradient_steps": -1}, algorithms=("dqn",)),
    "noise": Option(_noise, _TWO, algorithms=_CONTINUOUS),
    "gsde": Option(lambda _: {"use_sde": True}, environment=_pendulum, algorithms=_WITH_GSDE),
    "batch-norm": Option(_features(NormalizedFeatures), algorithms=_NETWORKS),
    "images": Option(_features(SmallCNN), {"frame_stack": 3}, _images, _MORE_POLICIES, "CnnPolicy"),
    # Its actions are the phases of a signal.
    "traffic": Option(environment=_traffic, algorithms=("dqn", "ppo", "a2c"), share=0.4),
    # A replay buffer stores what VecNormalize was given, so that frames are stacked below it; see "wrapped".
    "workers-normalized": Option(
        around={**_WORKERS, "vec_wrappers": [f"{_VEC}:VecMonitor"], "normalize": {}, "frame_stack": 2},
        algorithms=_FRESH,
        share=0.6,
    ),
    "callbacks": Option(callbacks=(Stirring,), share=0.6),
    "scheduled": Option(_scheduled, algorithms=("ppo", "recurrentppo", "maskableppo", "ars")),
    "code": Option(
        _made_by_code,
        algorithms=("dqn", "sac", "ppo", "tqc", "recurrentppo", "maskableppo"),
        share=0.6,
        build=f"{_HERE}:made_by_code",
    ),
    "own": Option(algorithms=tuple(_OWN), classes=_OWN),
    "atari": Option(
        environment=_atari,
        around={**_TWO, "wrappers": ["stable_baselines3.common.atari_wrappers:AtariWrapper"], "frame_stack": 4},
        algorithms=("dqn", "qrdqn", "ppo", "recurrentppo", "maskableppo"),
        policy="CnnPolicy",
        share=0.3,
        needs="ale_py",
    ),
}

# --- cases


@dataclass(frozen=True)
class Case:
    """One training of the proof; both names are keys of the tables above."""

    algorithm: str
    option: str

    @property
    def algorithm_name(self) -> str:
        """As a section has it."""
        return OPTIONS[self.option].classes.get(self.algorithm, _SPELLED[self.algorithm])

    @property
    def build(self) -> str | None:
        return OPTIONS[self.option].build

    @property
    def total(self) -> int:
        return int(_TOTALS[self.algorithm] * OPTIONS[self.option].share)

    @property
    def callbacks(self) -> list[BaseCallback]:
        return [made() for made in OPTIONS[self.option].callbacks]

    @property
    def environments(self) -> Environments:
        option = OPTIONS[self.option]
        factory, wrappers = option.environment(self.algorithm), option.around.get("wrappers", [])
        if self.algorithm == "maskableppo" and factory.target != _WALLS:
            wrappers = [_MASKS, *wrappers]
        return Environments(factory, **{**option.around, "wrappers": wrappers})

    @property
    def policy(self) -> str:
        policy = OPTIONS[self.option].policy
        return policy.replace("Policy", "LstmPolicy") if self.algorithm == "recurrentppo" else policy

    def hyperparameters(self) -> dict[str, Any]:
        plain, added = _PLAIN[self.algorithm], OPTIONS[self.option].hyperparameters(self.algorithm)
        policy_kwargs = {**plain["policy_kwargs"], **added.get("policy_kwargs", {})}
        return {**plain, **added, "policy_kwargs": policy_kwargs}


CASES: dict[str, Case] = {
    algorithm if option == "plain" else f"{algorithm}-{option}": Case(algorithm, option)
    for option, about in OPTIONS.items()
    for algorithm in about.algorithms
}

ALGORITHMS = tuple(_PLAIN)

# One for each algorithm, and the way the traffic simulator is put back.
SHIPPED = ("dqn", "dqn-replay", "sac", "td3", "ppo", "a2c")
