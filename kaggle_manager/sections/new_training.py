"""What a new section trains: the keys and hyperparameters it states, and the shortest training for `--quick`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kaggle_manager.sections.hyperparameters import N_STEPS

CONTINUOUS_ONLY = ("SAC", "TD3", "DDPG", "TQC", "CrossQ")
_OFF_POLICY = {"learning_rate": 3e-4, "buffer_size": 100_000, "learning_starts": 100}
# Hyperparameters a new section states although they are defaults, because they are what one changes first.
_STATED: Mapping[str, Mapping[str, Any]] = {
    "PPO": {"learning_rate": 3e-4, "n_steps": 2048, "batch_size": 64},
    "A2C": {"learning_rate": 7e-4, "n_steps": 5},
    "DQN": {**_OFF_POLICY, "learning_rate": 1e-4},
    "SAC": _OFF_POLICY,
    "TD3": {**_OFF_POLICY, "learning_rate": 1e-3},
    "DDPG": {**_OFF_POLICY, "learning_rate": 1e-3},
    "TQC": _OFF_POLICY,
    "CrossQ": {**_OFF_POLICY, "learning_rate": 1e-3},
    "QRDQN": {**_OFF_POLICY, "learning_rate": 5e-5},
    "TRPO": {"learning_rate": 1e-3, "n_steps": 2048, "batch_size": 128},
    "MaskablePPO": {"learning_rate": 3e-4, "n_steps": 2048, "batch_size": 64},
    "RecurrentPPO": {"learning_rate": 3e-4, "n_steps": 128, "batch_size": 128},
    "ARS": {"learning_rate": 0.02, "delta_std": 0.05, "n_delta": 8},
}
ALGORITHMS = tuple(_STATED)
# What makes an algorithm learn in a few timesteps. The file of a replay buffer holds all of its rows, however few are
# filled.
_OFF_POLICY_QUICK = {"buffer_size": 100, "learning_starts": 2, "train_freq": 1, "batch_size": 4}
_ARS_QUICK = {"n_delta": 1, "n_top": 1}
SHORT_EPISODE = 10
"""Steps, of an episode of a quick run where an algorithm learns from whole ones."""
_UNKNOWN_QUICK = 256
"""Timesteps, of which some are learned from by what Stable-Baselines3 has for a default."""
HER = "stable_baselines3:HerReplayBuffer"


@dataclass(frozen=True)
class Training:
    """What a section trains in its environment.

    Attributes:
        policy: "" for the one that fits the observations.
        hyperparameters, keys: of its scenario; `keys` are those beside the ones that every section has.
        environment_kwargs: beside its id.
        greedy: whether evaluations choose greedy actions.
        origin: where it is from; "" for what `init` itself states.
        unsaid: what its origin has and a section cannot say, each in words.
        like, takes: of a class of one's own, the known algorithm that it is derived from, and its arguments; "" and
            None for a known algorithm, and where nobody looked.
    """

    algorithm: str
    timesteps: int
    policy: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, Any] = field(default_factory=dict)
    environment_kwargs: Mapping[str, Any] = field(default_factory=dict)
    greedy: bool = True
    origin: str = ""
    unsaid: tuple[str, ...] = ()
    like: str = ""
    takes: Collection[str] | None = None

    @property
    def kind(self) -> str:
        """The algorithm by which it is known how it trains."""
        return self.like or self.algorithm

    @property
    def n_envs(self) -> int:
        return int(self.keys.get("n_envs", 1))

    @property
    def wrappers(self) -> list[Any]:
        """What is put around each of its environments, innermost first."""
        given = self.keys.get("env_wrapper", [])
        return given if isinstance(given, list) else [given]


@dataclass(frozen=True)
class QuickTraining:
    """The shortest training that saves, updates, is cut and continues."""

    timesteps: int
    hyperparameters: Mapping[str, Any]
    episode: int | None = None
    """Most steps of an episode; None for as many as it has."""


def stated(
    algorithm: str, policy: str, timesteps: int, *, like: str = "", takes: Collection[str] | None = None
) -> Training:
    """What `init` states of an algorithm, with rollouts that `timesteps` hold several of.

    An algorithm always trains the last rollout to its end.

    Args:
        like, takes: of a class of one's own, the known one that it is derived from, and its arguments.
    """
    kind = like or algorithm
    known = _STATED.get(kind, {})
    found = {name: value for name, value in known.items() if takes is None or name in takes}
    if kind == "A2C" and "n_steps" in found:
        found["n_steps"] = min(5, timesteps)
    elif {"n_steps", "batch_size"} <= found.keys() and timesteps < 4 * found["n_steps"]:
        n_steps = 1 << max(1, (timesteps // 4).bit_length() - 1)  # the largest power of two in a quarter; two at least
        found |= {"n_steps": n_steps, "batch_size": min(found["batch_size"], n_steps)}
    return Training(algorithm, timesteps, policy, found, like=like, takes=takes)


def quick_of(training: Training) -> QuickTraining:
    """What `--quick` trains instead."""
    quick = _quick_of(training)
    takes = quick.hyperparameters if training.takes is None else training.takes
    return replace(quick, hyperparameters={name: it for name, it in quick.hyperparameters.items() if name in takes})


def _quick_of(training: Training) -> QuickTraining:
    if training.kind not in _STATED:  # an algorithm of one's own that nobody has looked at
        return QuickTraining(_UNKNOWN_QUICK, {})
    together = training.n_envs
    episode = SHORT_EPISODE if training.origin else None
    if training.kind == "ARS":
        return QuickTraining(6 * SHORT_EPISODE, _ARS_QUICK, SHORT_EPISODE)
    if training.kind in N_STEPS:
        n_steps = 5 if training.kind == "A2C" else 16
        n_steps = max(2, n_steps // together)
        rollout = n_steps * together
        if training.kind == "A2C":
            return QuickTraining(4 * rollout, {"n_steps": n_steps}, episode)
        return QuickTraining(2 * rollout, {"n_steps": n_steps, "batch_size": rollout}, episode)
    table = dict(_OFF_POLICY_QUICK)
    if "gradient_steps" in training.hyperparameters:
        table["gradient_steps"] = 1
    if training.hyperparameters.get("replay_buffer_class") == HER:  # which learns once an episode is over
        return QuickTraining(16 * together, table | {"learning_starts": (SHORT_EPISODE + 1) * together}, SHORT_EPISODE)
    return QuickTraining(8 * together, table, episode)
