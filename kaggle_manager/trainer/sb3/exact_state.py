"""Everything a bit-identical continuation needs beyond the model file and the replay rows, as a table of items.

All of it is collected at one program point, the start of a rollout: there the environment, the buffer, the target
network, epsilon and the last gradient step agree. It is put back in two phases, because Stable-Baselines3 itself
disturbs part of it on the way into `learn()`:

    BEFORE    before `learn()`: counters (the remainder is computed from them), observations, environment, buffer
    AT_START  in the first rollout start of the resumed run: what `learn()` resets; random generators last

Objects that `learn()` has already bound by then are updated in place. Nothing here subclasses or patches an algorithm;
each item says how it is read and how it is put back, and a test leaves out each in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.vec_env import VecEnv

from kaggle_manager.errors import CheckpointIncompatible
from kaggle_manager.trainer.runtime.log_lines import warn
from kaggle_manager.trainer.sb3 import env_state, own_state, random_state, replay_rows
from kaggle_manager.trainer.sb3.algorithms import is_ars
from kaggle_manager.trainer.sb3.model_file import buffers_outside, tensors_outside
from kaggle_manager.trainer.sb3.pickles import opened
from kaggle_manager.trainer.sb3.state_digest import state_digests
from kaggle_manager.trainer.sb3.unsaved import Unsaved, is_stock, keepers_of
from kaggle_manager.trainer.sb3.user_callbacks import UserCallbacks


class Phase(Enum):
    """When an item is put back."""

    BEFORE = "before learn()"
    AT_START = "at the first rollout start"


class Keeper(Protocol):
    """Something beside the model that has state of its own: a callback, a log."""

    def state(self) -> dict[str, Any]: ...

    def load_state(self, state: dict[str, Any]) -> None: ...


@dataclass
class Training:
    """A training as far as its state is concerned."""

    model: BaseAlgorithm
    mode: env_state.Mode
    keepers: Mapping[str, Keeper]
    users: UserCallbacks = field(default_factory=lambda: UserCallbacks([], lambda: None))
    unsaved: Unsaved = field(init=False)
    before_rollout: dict[str, Any] | None = None
    """Random generators as they were when the rollout before had ended; for `is_ars` alone."""

    def __post_init__(self) -> None:
        self.unsaved = Unsaved(self.model)

    @property
    def vec_env(self) -> VecEnv:
        vec = self.model.get_env()
        assert vec is not None
        return vec


@dataclass(frozen=True)
class Item:
    """One row of the table."""

    phase: Phase
    collect: Callable[[Training], Any]
    restore: Callable[[Training, Any], None]
    can_be_lost: bool = False
    """Whether a training continues without it, only not with the same bits: it hangs on libraries, which change."""
    of: Callable[[BaseAlgorithm], bool] = lambda _: True
    """Whether a model has it: a new item is no reason to refuse the states of algorithms that do not."""


def _attributes(*names: str, can_be_lost: bool = False) -> Item:
    """Attributes of the model that hold plain values; those an algorithm does not have are skipped."""

    def collect(training: Training) -> dict[str, Any]:
        values = vars(training.model)
        return {name: values[name] for name in names if name in values}

    def restore(training: Training, saved: dict[str, Any]) -> None:
        vars(training.model).update(saved)

    return Item(Phase.BEFORE, collect, restore, can_be_lost)


def _action_noise(training: Training) -> Any:
    noise = getattr(training.model, "action_noise", None)
    return None if noise is None else vars(noise)


def _restore_action_noise(training: Training, saved: Any) -> None:
    if saved is not None:
        vars(training.model.action_noise).update(saved)


def _noise_matrices(training: Training) -> list[dict[str, Any]]:
    names = ("exploration_mat", "exploration_matrices")
    return [
        {name: getattr(distribution, name).detach().cpu().numpy() for name in names if hasattr(distribution, name)}
        for distribution in _noise_distributions(training.model)
    ]


def _restore_noise_matrices(training: Training, saved: list[dict[str, Any]]) -> None:
    for distribution, matrices in zip(_noise_distributions(training.model), saved, strict=True):
        for name, matrix in matrices.items():
            setattr(distribution, name, torch.from_numpy(matrix).to(training.model.device))


def _noise_distributions(model: BaseAlgorithm) -> Iterator[StateDependentNoiseDistribution]:
    for module in model.policy.modules() if model.use_sde else ():
        distribution = getattr(module, "action_dist", None)
        if isinstance(distribution, StateDependentNoiseDistribution):
            yield distribution


def _has_own_modules(model: BaseAlgorithm) -> bool:
    return not all(is_stock(type(module)) for module in model.policy.modules())


def _buffers(training: Training) -> dict[str, Any]:
    found = buffers_outside(training.model)
    # NumPy has no bfloat16; what is wider loses nothing of it.
    return {name: (it.float() if it.dtype is torch.bfloat16 else it).cpu().numpy() for name, it in found.items()}


def _restore_buffers(training: Training, saved: dict[str, Any]) -> None:
    policy, live = training.model.policy, buffers_outside(training.model)
    for name, array in saved.items():
        value = torch.from_numpy(array.copy())
        if name in live and live[name].shape == value.shape:
            live[name].copy_(value)
        else:  # made, or made larger, while it trained
            place, _, last = name.rpartition(".")
            policy.get_submodule(place).register_buffer(last, value.to(training.model.device), persistent=False)


def _recurrent_states(training: Training) -> Any:
    """Hidden and cell states of sb3-contrib's recurrent algorithms, in this computer's memory."""
    return [[state.detach().cpu().numpy() for state in part] for part in vars(training.model)["_last_lstm_states"]]


def _restore_recurrent_states(training: Training, saved: Any) -> None:
    live = vars(training.model)["_last_lstm_states"]
    parts = [tuple(torch.from_numpy(state.copy()).to(training.model.device) for state in part) for part in saved]
    vars(training.model)["_last_lstm_states"] = type(live)(*parts)


def _population(training: Training) -> dict[str, Any]:
    return {"old_count": vars(training.model)["old_count"], "before_rollout": training.before_rollout}


def _restore_population(training: Training, saved: dict[str, Any]) -> None:
    vars(training.model)["old_count"] = saved["old_count"]
    training.before_rollout = saved["before_rollout"]


def _restore_settings(training: Training, saved: dict[str, Any]) -> None:
    vars(training.model).update(saved)


def _own(training: Training) -> dict[str, Any]:
    keepers = keepers_of(training.model).items()
    return {place: own_state.state_of(keeper, _who(place, keeper)) for place, keeper in keepers}


def _who(place: str, keeper: Any) -> str:
    return f"{place.rstrip('.') or 'algorithm'} {type(keeper).__name__}"


def _restore_own(training: Training, saved: dict[str, Any]) -> None:
    for place, keeper in keepers_of(training.model).items():
        own_state.load_into(keeper, saved[place], _who(place, keeper))


def _keepers(training: Training) -> dict[str, Any]:
    return {name: keeper.state() for name, keeper in training.keepers.items()}


def _restore_keepers(training: Training, saved: dict[str, Any]) -> None:
    for name, state in saved.items():
        training.keepers[name].load_state(state)


ITEMS: dict[str, Item] = {
    "timesteps": _attributes("num_timesteps"),
    "episodes": _attributes("_episode_num"),
    # Phase of the target network's updates (DQN) and of delayed policy updates (TD3).
    "calls": _attributes("_n_calls"),
    "updates": _attributes("_n_updates"),
    "exploration": _attributes("exploration_rate", "_current_progress_remaining"),
    "observations": _attributes("_last_obs", "_last_original_obs", "_last_episode_starts", can_be_lost=True),
    "episode_statistics": _attributes("ep_info_buffer", "ep_success_buffer", can_be_lost=True),
    # What callbacks, or a class of one's own, have set to another number, such as ent_coef.
    "settings": Item(Phase.BEFORE, lambda training: training.unsaved.settings(), _restore_settings),
    "recurrent_states": Item(
        Phase.BEFORE,
        _recurrent_states,
        _restore_recurrent_states,
        of=lambda model: vars(model).get("_last_lstm_states") is not None,
    ),
    "population": Item(Phase.BEFORE, _population, _restore_population, of=is_ars),
    "replay": Item(
        Phase.BEFORE,
        lambda training: replay_rows.collect(training.model),
        lambda training, saved: replay_rows.restore(training.model, saved),
    ),
    "environment": Item(
        Phase.BEFORE,
        lambda training: env_state.collect(training.vec_env, training.mode),
        lambda training, saved: env_state.restore(training.vec_env, saved),
        can_be_lost=True,
    ),
    "action_noise": Item(Phase.AT_START, _action_noise, _restore_action_noise, can_be_lost=True),
    "noise_matrices": Item(Phase.AT_START, _noise_matrices, _restore_noise_matrices, can_be_lost=True),
    "callbacks": Item(Phase.AT_START, _keepers, _restore_keepers),
    "buffers": Item(Phase.AT_START, _buffers, _restore_buffers, of=_has_own_modules),
    # What classes of one's own say themselves.
    "own": Item(
        Phase.AT_START,
        _own,
        _restore_own,
        of=lambda model: bool(keepers_of(model)),
    ),
    "action_space": Item(
        Phase.AT_START,
        lambda training: env_state.space_rng(training.model.action_space),
        lambda training, saved: env_state.set_space_rng(training.model.action_space, saved),
        can_be_lost=True,
    ),
    # Last: everything above may draw.
    "random": Item(
        Phase.AT_START,
        lambda _: random_state.collect(),
        lambda _, saved: random_state.restore(saved),
        can_be_lost=True,
    ),
}


def collect(training: Training) -> dict[str, Any]:
    """Every item's state, by name. Values may share memory with the running training: serialise them at once."""
    return {name: item.collect(training) for name, item in items_of(training.model).items()}


def items_of(model: BaseAlgorithm) -> dict[str, Item]:
    """The rows of the table that a model has."""
    return {name: item for name, item in ITEMS.items() if item.of(model)}


def restore(training: Training, state: Mapping[str, Any], phase: Phase) -> dict[str, str]:
    """Put back the items of one phase, in the table's order.

    Args:
        state: of a checkpoint that is vouched for: what was pickled apart is opened here.

    Returns:
        why, by item, for each that could not be put back, though the training can go on without its bits.

    Raises:
        CheckpointIncompatible: an item that a training cannot go on without does not open here.
        Exception: it opens, and cannot be put back.
    """
    lost = {}
    for name, item in items_of(training.model).items():
        if item.phase is phase and name in state:
            try:
                item.restore(training, opened(state[name]) if item.can_be_lost else _opened_here(name, state[name]))
            except Exception as error:
                if not item.can_be_lost:
                    raise
                lost[name] = env_state.told(error)
    return lost


def _opened_here(name: str, saved: Any) -> Any:
    try:
        return opened(saved)
    except Exception as error:  # what another version of a library pickled raises all sorts
        raise CheckpointIncompatible(
            f"The {name} in the checkpoint's state does not open with the libraries that are installed: "
            f"{env_state.told(error)}",
            safe="the checkpoint was not touched.",
            next_step="install the versions it was made with, as `checkpoints show` names them, or give --fresh.",
        ) from error


def check_complete(state: Mapping[str, Any], model: BaseAlgorithm) -> None:
    """Refuse a state that lacks items this version restores into `model`, or has some it does not know.

    Raises:
        CheckpointIncompatible: naming them.
    """
    if missing := sorted(items_of(model).keys() ^ state.keys()):
        raise CheckpointIncompatible(
            f"The checkpoint's state was written by another version of the trainer; items that differ: "
            f"{', '.join(missing)}.",
            safe="the checkpoint was not touched.",
            next_step="continue with the version that wrote it, or start again with --fresh.",
        )


def digests(
    items: Mapping[str, Any],
    parameters: Mapping[str, Any],
    rows: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Digests of a training, by item.

    Args:
        items: from `collect`.
        parameters: state dictionaries and tensors of the model, by name.
        rows: the replay rows; without them the digests cover all but these, which the replay log has hashes of.
    """
    state = {**items, "environment": env_state.digests(items["environment"])}
    state |= {f"parameters.{name}": value for name, value in parameters.items()}
    return state_digests(state if rows is None else {**state, "replay_rows": rows})


def digests_of(training: Training) -> dict[str, str]:
    """Digests of a training as it is now, replay rows included."""
    model = training.model
    return digests(
        collect(training),
        {**model.get_parameters(), **tensors_outside(model)},
        replay_rows.arrays(model),
    )


def or_none(compute: Callable[[], dict[str, str]]) -> dict[str, str]:
    """What `compute` returns; nothing, with a warning, where it cannot: digests never stand before a checkpoint."""
    try:
        return compute()
    except Exception as error:  # of objects of the user's code, which raise all sorts
        warn(f"this training has no certificate, for its state cannot be read as one: {env_state.told(error)}.")
        return {}
