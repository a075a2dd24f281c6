"""Callbacks of the user: they run in `learn()` after the trainer's own, and what they keep survives a resume.

Saved is what a callback with `state()` and `load_state(state)` says, what Stable-Baselines3 counts for every one, and
the numbers that its own callbacks keep. Any other attribute that changes while training continues is in no save, and
is named; so is an environment that a callback plays in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback, EvalCallback
from stable_baselines3.common.vec_env import VecEnv

from kaggle_manager.errors import ConfigError
from kaggle_manager.trainer.sb3 import arguments, own_state
from kaggle_manager.trainer.sb3.unsaved import accounted_for, digest_of, is_stock, shared_by

# What `learn()` sets in each session; `n_calls` is saved.
_SET_ANEW = frozenset({"model", "locals", "globals", "parent", "verbose", "num_timesteps", "n_calls"})


def callbacks_of(given: Any, key: str) -> list[BaseCallback]:
    """What `learn(callback=...)` of Stable-Baselines3 takes, as a list: a callback, several, a function, or nothing.

    Raises:
        ConfigError: it is something else; of `key`.
    """
    several = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
    for each in several:
        if isinstance(each, type) or not (isinstance(each, BaseCallback) or callable(each)):
            accepted = f"an object of a class derived from {arguments.text_of(BaseCallback)}, a function, or a list"
            raise arguments.refused(key, arguments.text_of(each), accepted)
    return [each if isinstance(each, BaseCallback) else ConvertCallback(each) for each in several]


def made_of(calls: Sequence[Any], key: str = "callbacks") -> list[BaseCallback]:
    """The callbacks that a section names, in the form of `values.read_wrappers`; those that are one stay as they are.

    Raises:
        ConfigError: one cannot be imported, refuses its arguments or is no callback; of `key`.
    """
    found = []
    for number, call in enumerate(calls):
        place = key if len(calls) == 1 else f"{key}.{number}"
        made = call if isinstance(call, BaseCallback) else arguments.made(call, place)
        if not isinstance(made, BaseCallback):
            raise arguments.refused(
                place, arguments.text_of(call), f"a class derived from {arguments.text_of(BaseCallback)}"
            )
        found.append(made)
    return found


class UserCallbacks(CallbackList):
    """All of them, as one.

    A callback that returns False ends the training at the next rollout start, where it can be saved: a step inside a
    rollout would be lost.

    Args:
        callbacks: of the user.
        save: called before such an end; has the training on the disk when it returns.

    Attributes:
        not_restored: those that are not as in the checkpoint: added or taken out since, by a change on purpose.
    """

    def __init__(self, callbacks: Sequence[BaseCallback], save: Callable[[], None]) -> None:
        super().__init__(list(callbacks))
        self._save = save
        self._ended: tuple[str, int] | None = None
        self._before: dict[str, str] | None = None
        self._found: set[str] = set()
        self.not_restored: list[str] = []

    def _on_step(self) -> bool:
        for callback in self.callbacks:
            if not callback.on_step() and self._ended is None:
                self._ended = _name(callback), self.model.num_timesteps
        return True

    def _on_rollout_start(self) -> None:
        if self._ended is not None:
            self._end(*self._ended)
        if self._before is None:  # by now a resumed one is put back
            self._before = self._digests()
        super()._on_rollout_start()

    def _end(self, name: str, asked_at: int) -> None:
        step = self.model.num_timesteps
        self._save()
        raise ConfigError(
            f"The {name} has ended the training at step {asked_at:,}, before its target: it returned False.",
            safe=f"the checkpoint of step {step:,} is saved, and so is the best model.",
            next_step=f"`timesteps = {step}` in section.toml makes that the target, and the next session writes the "
            f"final model; or take the {name} out.",
        )

    def found(self) -> list[str]:
        """Attributes that have changed since the session began, and are in no save: each with its callback."""
        if self._before is not None:
            now, before = self._digests(), self._before
            self._found |= {path for path, content in now.items() if not content or content != before.get(path)}
        return sorted(self._found)

    def _digests(self) -> dict[str, str]:
        watched = {
            f"{name} of {_name(callback)}{_todo(callback)}": value
            for callback in self._all()
            for name, value in {**_unsaved_attributes(callback), **_shared(callback)}.items()
        }
        watched = {path: value for path, value in watched.items() if path not in self._found}
        if not watched:
            return {}
        saved = {**accounted_for(self.model), **{id(callback): _name(callback) for callback in self._all()}}
        return {path: digest_of(value, saved) for path, value in watched.items()}

    def state(self) -> dict[str, Any]:
        return {"each": [_state(callback) for callback in self._all()]}

    def load_state(self, state: dict[str, Any]) -> None:
        left = list(state["each"])
        for callback in self._all():
            saved = next((each for each in left if each["kind"] == _kind(callback)), None)
            if saved is None:
                self.not_restored.append(_name(callback))
                continue
            left = [each for each in left if each is not saved]
            vars(callback).update(saved["counted"])
            if _saves_itself(callback):
                own_state.load_into(callback, saved["own"], _name(callback))
        self.not_restored += [each["kind"][0] for each in left]

    def _all(self) -> list[BaseCallback]:
        """With those that are inside of others."""
        found: dict[int, BaseCallback] = {}
        todo = list(self.callbacks)
        while todo:
            callback = todo.pop(0)
            if id(callback) not in found:
                found[id(callback)] = callback
                todo += _inside(callback)
        return list(found.values())


def _inside(callback: BaseCallback) -> Iterator[BaseCallback]:
    for name, value in vars(callback).items():
        parts = value if isinstance(value, list | tuple) else [value]
        yield from (part for part in parts if name != "parent" and isinstance(part, BaseCallback))


def _name(callback: BaseCallback) -> str:
    named = callback.callback if isinstance(callback, ConvertCallback) else type(callback)  # a function is one as well
    return f"callback {getattr(named, '__name__', type(named).__name__)}"


def _todo(callback: BaseCallback) -> str:
    """What to do about one that changes the training: the usual one of a script is not needed here."""
    return " (remove it: the trainer evaluates, and keeps the best model)" * isinstance(callback, EvalCallback)


def _kind(callback: BaseCallback) -> list[Any]:
    """What has to be the same so that one can be given what another has saved."""
    return [_name(callback), _saves_itself(callback)]


def _saves_itself(callback: BaseCallback) -> bool:
    return all(callable(getattr(callback, name, None)) for name in ("state", "load_state"))


def _state(callback: BaseCallback) -> dict[str, Any]:
    counted = {"n_calls": callback.n_calls}
    if is_stock(type(callback)):
        counted |= {name: value for name, value in vars(callback).items() if name not in _SET_ANEW and _counts(value)}
    own = own_state.state_of(callback, _name(callback)) if _saves_itself(callback) else None
    return {"kind": _kind(callback), "counted": counted, "own": own}


def _counts(value: Any) -> bool:
    """Whether it is made of numbers: paths and the like are of the session."""
    if isinstance(value, list | tuple):
        return all(map(_counts, value))
    return isinstance(value, bool | int | float | np.number)


def _unsaved_attributes(callback: BaseCallback) -> Mapping[str, Any]:
    """What is compared with what it was: of a callback that is known, only environments, which nothing puts back; of a
    function, what it is made of."""
    own = {name: value for name, value in vars(callback).items() if name not in _SET_ANEW}
    if _saves_itself(callback):
        return {}
    if isinstance(callback, ConvertCallback):
        return {"what it closes over": callback.callback}
    return {name: value for name, value in own.items() if not is_stock(type(callback)) or isinstance(value, VecEnv)}


def _shared(callback: BaseCallback) -> Mapping[str, Any]:
    """What its class keeps, for all of its objects."""
    return {} if _saves_itself(callback) else shared_by(type(callback))
