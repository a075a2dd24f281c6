"""Every item of the state, and every part of what the options keep, is needed: a resume without it ends otherwise, and
the digests or the curves say so.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.torch_layers import FlattenExtractor
from trainer_runs import CARTPOLE, PENDULUM, SCENARIO, origin_of, session, settings

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.errors import CheckpointIncompatible
from kaggle_manager.trainer.sb3 import exact_state
from kaggle_manager.trainer.sb3.checkpointing import Checkpointer
from kaggle_manager.trainer.sb3.env_state import EntryPoint
from kaggle_manager.trainer.sb3.pickles import opened
from kaggle_manager.trainer.sb3.resume_point import ResumePoint
from kaggle_manager.trainer.sb3.selftest import curves
from kaggle_manager.trainer.sb3.selftest_cases import CASES
from kaggle_manager.trainer.sb3.state_digest import differing

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {"policy_kwargs": {"net_arch": [8]}}
OFF_POLICY: dict[str, Any] = {"learning_starts": 20, "buffer_size": 150, "batch_size": 8, **SMALL}


def td3() -> dict[str, Any]:
    noise = OrnsteinUhlenbeckActionNoise(mean=np.zeros(1), sigma=0.3 * np.ones(1))
    return {
        "algorithm": "TD3",
        "environment": PENDULUM,
        "hyperparameters": {**OFF_POLICY, "action_noise": noise},
        "total": 150,
    }


def gsde() -> dict[str, Any]:
    # The exploration matrices are drawn when a rollout begins and used throughout it.
    hyperparameters = {**SMALL, "n_steps": 25, "batch_size": 25, "n_epochs": 2, "use_sde": True}
    return {"algorithm": "PPO", "environment": PENDULUM, "hyperparameters": hyperparameters, "total": 150}


def ppo() -> dict[str, Any]:
    hyperparameters = {**SMALL, "n_steps": 25, "batch_size": 25, "n_epochs": 2}
    return {"algorithm": "PPO", "environment": CARTPOLE, "hyperparameters": hyperparameters, "total": 150}


class Annealing(PPO):
    """Changes one of its own hyperparameters."""

    def train(self) -> None:
        self.ent_coef *= 0.5
        super().train()


class Drawing(PPO):
    """Has a generator of its own, and says so."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.generator = np.random.default_rng(3)

    def train(self) -> None:
        self.ent_coef = float(self.generator.random())
        super().train()

    def state(self) -> Any:
        return self.generator.bit_generator.state

    def load_state(self, state: Any) -> None:
        self.generator.bit_generator.state = state


class Averaging(FlattenExtractor):
    """Shows the difference from a running mean, which no state dictionary has."""

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.register_buffer("mean", torch.zeros(space.shape), persistent=False)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * observations.detach().mean(0)
        return super().forward(observations) - self.mean


def averaging() -> dict[str, Any]:
    hyperparameters = ppo()["hyperparameters"]
    policy = {**hyperparameters.get("policy_kwargs", {}), "features_extractor_class": Averaging}
    return {**ppo(), "hyperparameters": {**hyperparameters, "policy_kwargs": policy}}


def annealing() -> dict[str, Any]:
    return {
        **ppo(),
        "algorithm": f"{__name__}:Annealing",
        "hyperparameters": {**ppo()["hyperparameters"], "ent_coef": 0.1},
    }


def drawing() -> dict[str, Any]:
    return {**ppo(), "algorithm": f"{__name__}:Drawing"}


def recurrent() -> dict[str, Any]:
    hyperparameters = {"n_steps": 25, "batch_size": 25, "n_epochs": 2, "policy_kwargs": {"lstm_hidden_size": 4}}
    return {
        "algorithm": "RecurrentPPO",
        "policy": "MlpLstmPolicy",
        "environment": CARTPOLE,
        "hyperparameters": hyperparameters,
        "total": 150,
    }


def ars() -> dict[str, Any]:
    """Its schedule is wrong in a session that is told the rest of the steps alone."""
    hyperparameters = {"n_delta": 2, "delta_std": 0.2, "learning_rate": {"linear": [0.1, 0.01]}}
    return {"algorithm": "ARS", "environment": CARTPOLE, "hyperparameters": hyperparameters, "total": 400}


def dqn() -> dict[str, Any]:
    return {}


def exploring_dqn() -> dict[str, Any]:
    return {"total": 150}


def evaluated_between_points() -> dict[str, Any]:
    """The score of 35 timesteps is recorded at 70, when the next is due, and written with the point at 100."""
    return {"total": 150, "evaluate_every": 35}


def gusty_workers() -> dict[str, Any]:
    """Environments that draw from their process's generators and from their own action space."""
    return {"total": 120, "processes": True, "environment": EntryPoint("trainer_runs:Gusty"), "n_envs": 2}


def case(name: str, total: int) -> Callable[[], dict[str, Any]]:
    """A training of the kill matrix, shorter."""

    def make() -> dict[str, Any]:
        chosen = CASES[name]
        hyperparameters = chosen.hyperparameters()
        if "learning_starts" in hyperparameters:
            hyperparameters |= {
                "learning_starts": 30,
                "buffer_size": 160,
            }  # comes round before the cut when n_envs is 2
        return {
            "algorithm": chosen.algorithm_name,
            "environments": chosen.environments,
            "policy": chosen.policy,
            "hyperparameters": hyperparameters,
            "total": total,
        }

    make.__name__ = name
    return make


normalized, sac_normalized = case("ppo-normalized", 256), case("sac-normalized", 160)
stacked, batch_norm = case("dqn-images", 120), case("dqn-batch-norm", 120)
hindsight, sac, td3_batch_norm = case("dqn-hindsight", 240), case("sac", 100), case("td3-batch-norm", 100)


# The training in which each item matters, and where it is cut (a multiple of the rollout, inside an episode).
MATTERS: dict[str, tuple[Any, int]] = {
    "timesteps": (dqn, 128),
    "episodes": (dqn, 128),
    "calls": (dqn, 128),
    "updates": (td3, 75),
    "exploration": (exploring_dqn, 24),
    "observations": (dqn, 128),
    "episode_statistics": (dqn, 128),
    "replay": (dqn, 128),
    "environment": (dqn, 128),
    "action_noise": (td3, 75),
    "noise_matrices": (gsde, 75),
    "callbacks": (dqn, 128),
    "settings": (annealing, 75),
    "recurrent_states": (recurrent, 75),
    "population": (ars, 100),
    "own": (drawing, 75),
    "buffers": (averaging, 75),
    # In one process the environment's state holds the same generator; with workers the model has one of its own.
    "action_space": (gusty_workers, 48),
    "random": (ppo, 75),
}


def layers(items: dict[str, Any]) -> Any:
    items["environment"] = opened(items["environment"])
    return items["environment"]["layers"]


def workers(items: dict[str, Any]) -> Any:
    return items["environment"]["environments"]


def forget_targets(model: Any) -> None:
    networks = model.policy
    for online, target in (("q_net", "q_net_target"), ("actor", "actor_target"), ("critic", "critic_target")):
        if hasattr(networks, target):
            getattr(networks, target).load_state_dict(getattr(networks, online).state_dict())


def forget_optimizers(model: Any) -> None:
    for name, value in model.get_parameters().items():
        if name.endswith("optimizer"):
            model.set_parameters({name: {**value, "state": {}}}, exact_match=False)


def forget_running_statistics(model: Any) -> None:
    for module in model.policy.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.reset_running_stats()


def forget_rows(*names: str) -> Callable[[Any], None]:
    def forget(model: Any) -> None:
        for name in names:
            getattr(model.replay_buffer, name)[:] = 0

    return forget


def forget_open_episode(model: Any) -> None:
    model.get_env().envs[0].env.rewards = []


# Parts of items: the training in which each matters, where it is cut, and what is taken out of the saved items.
PARTS_OF_ITEMS: dict[str, tuple[Any, int, Callable[[dict[str, Any]], Any]]] = {
    "VecNormalize: discounted returns": (normalized, 128, lambda items: layers(items)[0].pop("returns")),
    "VecNormalize: statistics of observations": (normalized, 128, lambda items: layers(items)[0].pop("obs_rms")),
    "VecNormalize: statistics of returns": (normalized, 128, lambda items: layers(items)[0].pop("ret_rms")),
    "VecNormalize: observations as they were": (
        sac_normalized,
        80,
        lambda items: items["observations"].pop("_last_original_obs"),
    ),
    "VecFrameStack: frames": (stacked, 64, lambda items: layers(items)[1].pop("stacked_obs")),
    "workers: generators of the process": (gusty_workers, 48, lambda items: workers(items)[1].pop("random")),
    "workers: generator of the action space": (
        gusty_workers,
        48,
        lambda items: workers(items)[1].update(action_space=workers(items)[0]["action_space"]),
    ),
    "ring: position": (hindsight, 120, lambda items: items["replay"].pop("pos")),
    "ring: whether it has come round": (hindsight, 200, lambda items: items["replay"].pop("full")),
    "hindsight: where the episode began": (hindsight, 120, lambda items: items["replay"].pop("_current_ep_start")),
    "hindsight: infos": (hindsight, 120, lambda items: items["replay"].pop("infos")),
    "curves: episodes": (dqn, 128, lambda items: items["callbacks"].pop("monitor")),
    "curves: evaluations and best score": (dqn, 128, lambda items: items["callbacks"].pop("best")),
    "curves: points": (dqn, 128, lambda items: items["callbacks"].pop("curves")),
    "curves: phase of the points": (dqn, 128, lambda items: items["callbacks"]["curves"].update(written_at=0)),
    "curves: values for the next point": (
        evaluated_between_points,
        80,
        lambda items: items["callbacks"]["curves"].update(values={}, excluded={}),
    ),
}

# What is in the model file and in the replay rows: the same, taken out of the model after it was restored.
PARTS_OF_MODELS: dict[str, tuple[Any, int, Callable[[Any], None]]] = {
    "DQN: target network": (dqn, 128, forget_targets),
    "SAC: target networks": (sac, 60, forget_targets),
    "TD3: target networks": (td3, 75, forget_targets),
    "DQN: optimizer": (dqn, 128, forget_optimizers),
    "ARS: weights": (ars, 100, lambda model: model.weights.zero_()),
    "PPO: optimizer": (ppo, 75, forget_optimizers),
    "SAC: entropy coefficient": (sac, 60, lambda model: model.log_ent_coef.data.zero_()),
    "SAC: optimizer of the entropy coefficient": (sac, 60, lambda model: model.ent_coef_optimizer.state.clear()),
    "BatchNorm: running statistics, DQN": (batch_norm, 64, forget_running_statistics),
    "BatchNorm: running statistics, TD3": (td3_batch_norm, 60, forget_running_statistics),
    "hindsight: boundaries of episodes": (hindsight, 120, forget_rows("ep_start", "ep_length")),
    "hindsight: episodes that were cut off": (hindsight, 120, forget_rows("timeouts")),
    "rewards of the open episode": (dqn, 128, forget_open_episode),
}

# Without these a resume does not even get to the end: the log cannot go back, the environment was never reset.
FAILS_WITHOUT: dict[str, type[Exception]] = {
    "timesteps": ValueError,
    "environment": RuntimeError,
    "VecNormalize: observations as they were": ValueError,
    "ring: position": ValueError,
    "hindsight: boundaries of episodes": RuntimeError,
}


# As a dict, for the order in a set of functions is that of their addresses: another one in each process.
TRAININGS = dict.fromkeys(
    (make, cut) for make, cut, *_ in [*MATTERS.values(), *PARTS_OF_ITEMS.values(), *PARTS_OF_MODELS.values()]
)


def end_of(tree: Path, chosen: dict[str, Any], origin: ResumePoint | None = None) -> dict[str, str]:
    """Evidence of a training that is continued to its target."""
    digests = session(settings(tree, **chosen), origin=origin).digests
    return {**digests, **curves(TrainingTree(tree, SCENARIO))}


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], dict[str, str]]:
    """The end of each training when it is not cut."""
    return functools.cache(
        lambda make: end_of(tmp_path_factory.mktemp("whole") / "tree", {**make(), "save_every": 1000})
    )


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any, int, Path], Path]:
    """A tree of each training, cut after so many timesteps: a new copy at each call."""

    @functools.cache
    def cut_at(make: Any, steps: int) -> Path:
        tree = tmp_path_factory.mktemp("cut") / "tree"
        assert session(settings(tree, **make()), max_steps=steps).kind == "interrupted"
        return tree

    return lambda make, steps, copy: Path(shutil.copytree(cut_at(make, steps), copy))


def ends_otherwise(without: str, end: Callable[[], dict[str, str]], expected: dict[str, str]) -> bool:
    if without not in FAILS_WITHOUT:
        return bool(differing(end(), expected))
    with pytest.raises(FAILS_WITHOUT[without]):
        end()
    return True


def test_the_table_of_this_test_is_the_table_of_the_state() -> None:
    assert set(MATTERS) == set(exact_state.ITEMS)


@pytest.mark.parametrize(("make", "cut"), TRAININGS, ids=lambda value: getattr(value, "__name__", value))
def test_with_all_of_it_the_end_is_the_same(make: Any, cut: int, wholes: Any, cuts: Any, tmp_path: Path) -> None:
    tree = cuts(make, cut, tmp_path / "tree")
    assert differing(end_of(tree, make()), wholes(make)) == []


@pytest.mark.parametrize("item", sorted(MATTERS))
def test_without_one_item_the_end_differs(
    item: str, wholes: Any, cuts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, cut = MATTERS[item]
    tree = cuts(make, cut, tmp_path / "tree")
    origin = origin_of(tree)
    del origin.items[item]
    monkeypatch.setattr(exact_state, "check_complete", lambda *_: None)
    assert ends_otherwise(item, lambda: end_of(tree, make(), origin), wholes(make))


@pytest.mark.parametrize("part", PARTS_OF_ITEMS)
def test_without_one_part_of_an_item_the_end_differs(part: str, wholes: Any, cuts: Any, tmp_path: Path) -> None:
    make, cut, forget = PARTS_OF_ITEMS[part]
    tree = cuts(make, cut, tmp_path / "tree")
    origin = origin_of(tree)
    forget(origin.items)
    assert ends_otherwise(part, lambda: end_of(tree, make(), origin), wholes(make))


@pytest.mark.parametrize("part", PARTS_OF_MODELS)
def test_without_one_part_of_the_model_the_end_differs(
    part: str, wholes: Any, cuts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, cut, forget = PARTS_OF_MODELS[part]
    tree = cuts(make, cut, tmp_path / "tree")
    restore = Checkpointer.restore

    def restore_but(self: Checkpointer, checkpoint: Any) -> Any:
        lost = restore(self, checkpoint)
        forget(self.training.model)
        return lost

    monkeypatch.setattr(Checkpointer, "restore", restore_but)
    assert ends_otherwise(part, lambda: end_of(tree, make()), wholes(make))


@pytest.mark.parametrize("change", [lambda items: items.pop("random"), lambda items: items.update(new=1)])
def test_a_state_with_other_items_is_refused_by_name(change: Any, cuts: Any, tmp_path: Path) -> None:
    tree = cuts(dqn, 128, tmp_path / "tree")
    origin = origin_of(tree)
    change(origin.items)
    with pytest.raises(CheckpointIncompatible, match=r"items that differ: (random|new)"):
        session(settings(tree), origin=origin)
