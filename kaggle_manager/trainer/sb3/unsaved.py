"""State that nobody saves: what a model keeps beyond what Stable-Baselines3's own classes keep.

Whatever the classes of Stable-Baselines3 and sb3-contrib assign to a model is accounted for: what of it is state is an
item of `exact_state`. A class derived from them may assign more, and so may an object that a model is made of: a
policy, a replay buffer, a schedule; and so may its class, and a function. Each such attribute is compared with what it
was when the model was made: one that has changed is state, and no save holds it. Of the global names of a module those
are looked at that such a class or function names itself.

Never does: save it. A class with `state()` and `load_state(state)` says itself what is to be saved, and all of its own
attributes are taken to be among that.
"""

from __future__ import annotations

import copyreg
import dis
import io
import logging
import sys
import threading
import weakref
from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from functools import cache, partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.vec_env import VecEnv

from kaggle_manager.trainer.sb3.model_file import buffers_outside
from kaggle_manager.trainer.sb3.state_digest import digest

MOST_BYTES = 256 << 20
"""Of an attribute that are looked at; one that is larger is taken to change."""
MOST_PARTS = 100_000

# Packages whose classes are known: what they keep is an item, is made anew by a constructor, or is no state.
KNOWN_PACKAGES = sys.stdlib_module_names | {
    "gymnasium",
    "kaggle_manager",
    "numpy",
    "sb3_contrib",
    "stable_baselines3",
    "torch",
}
# What they change while they train: items of `exact_state`, and what `learn()` sets anew.
_CHANGES = frozenset(
    {"num_timesteps", "_episode_num", "_n_calls", "_n_updates", "exploration_rate", "_current_progress_remaining"}
    | {"_last_obs", "_last_original_obs", "_last_episode_starts", "ep_info_buffer", "ep_success_buffer"}
    | {"_last_lstm_states", "weights", "old_count", "_total_timesteps", "_num_timesteps_at_start", "start_time"}
    | {"_logger", "_custom_logger", "env", "_vec_normalize_env", "action_noise"}
)
_SINGLE = (type(None), bool, int, float, complex, str, bytes, np.generic, torch.dtype, torch.device, torch.Size)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_STATELESS = (type, ModuleType, BuiltinFunctionType, io.IOBase, logging.Logger, weakref.ReferenceType, *_LOCKS)


class Unsaved:
    """Watches one model, from when it was made."""

    def __init__(self, model: BaseAlgorithm) -> None:
        self._model = model
        self._holders = {place: holder for place, holder in _holders(model) if _may_keep_more(place, holder)}
        self._values = {path: (holder, name) for path, holder, name in _own_values(model)}
        self._found: set[str] = set()
        known = _assigned(model)
        self._known = {name: it for name, it in vars(model).items() if name in known and name not in _CHANGES}
        self._before = self._digests()
        self._outside = self._of_buffers_outside()

    def found(self) -> list[str]:
        """The attributes that have changed since, and are in no save: each with the class of the model."""
        now = self._digests()
        self._found |= {path for path, content in now.items() if not content or content != self._before.get(path)}
        self._found |= {name for name, value in self._changed() if not isinstance(value, _SINGLE)}
        return [f"{path} of {type(self._model).__name__}" for path in sorted(self._found)]

    def settings(self) -> dict[str, Any]:
        """Numbers and texts that the known classes never change, and something else has: to be saved."""
        return {name: value for name, value in self._changed() if isinstance(value, _SINGLE)}

    def outside(self) -> list[str]:
        """Buffers of the policy that have changed, and that a resume has, but no model file."""
        return [name for name, content in self._of_buffers_outside().items() if content != self._outside.get(name)]

    def _of_buffers_outside(self) -> dict[str, str]:
        return {f"policy.{name}": digest(buffer.float()) for name, buffer in buffers_outside(self._model).items()}

    def _changed(self) -> Iterator[tuple[str, Any]]:
        """Attributes that the known classes assign once, and that are another object now."""
        for name, value in vars(self._model).items():
            before = self._known.get(name, _CHANGES)
            if before is not value and before is not _CHANGES and not (isinstance(value, _SINGLE) and value == before):
                yield name, value

    def _digests(self) -> dict[str, str]:
        """Of what is not accounted for nor found already; '' for what cannot be looked at."""
        watched = {path: getattr(holder, name, None) for path, (holder, name) in self._values.items()}
        for place, holder in self._holders.items():
            known = _assigned(holder)
            watched |= {f"{place}{name}": value for name, value in vars(holder).items() if name not in known}
            watched |= shared_by(type(holder))
        for path in self._found:
            watched.pop(path, None)
        if not watched:
            return {}
        saved = accounted_for(self._model)
        return {path: digest_of(value, saved) for path, value in watched.items()}


def keepers_of(model: BaseAlgorithm) -> dict[str, Any]:
    """What of a model says itself what is to be saved, by where it is."""
    return {place: holder for place, holder in _holders(model) if _saves_itself(holder)}


def _saves_itself(holder: Any) -> bool:
    return all(callable(getattr(holder, name, None)) for name in ("state", "load_state"))


def _holders(model: BaseAlgorithm) -> Iterator[tuple[str, Any]]:
    """The objects that a model is made of, and where they are: '' for the model itself, `policy.` and so on."""
    yield "", model
    for name, module in model.policy.named_modules():
        yield f"policy.{name}." if name else "policy.", module
    for name in ("replay_buffer", "rollout_buffer"):
        if isinstance(buffer := getattr(model, name, None), BaseBuffer):
            yield f"{name}.", buffer
    for name in model._get_torch_save_params()[0]:
        if isinstance(part := recursive_getattr(model, name), torch.optim.Optimizer):
            yield f"{name}.", part


def _may_keep_more(place: str, holder: Any) -> bool:
    """A class of one's own; and callbacks may give a model, and its policy, an attribute."""
    return (place in ("", "policy.") or not is_stock(type(holder))) and not _saves_itself(holder)


def _own_values(model: BaseAlgorithm) -> Iterator[tuple[str, Any, str]]:
    """Attributes with a known name that hold an object of one's own, such as a schedule."""
    whole = {
        "env",
        "policy",
        "action_noise",
        "_vec_normalize_env",
        "_logger",
        "_custom_logger",
    }  # looked at apart, or saved as a whole
    parts = {"replay_buffer", "rollout_buffer"}
    for place, holder in _holders(model):
        known = _assigned(holder)
        for name, value in vars(holder).items():
            apart = name in whole or (name in parts and isinstance(value, BaseBuffer))
            if name in known and not apart and _is_own(value):
                yield f"{place}{name}", holder, name


def _is_own(value: Any, depth: int = 4) -> bool:
    """Whether a value is, or is made of, an object that may keep something and whose class is not known."""
    if isinstance(value, (*_SINGLE, *_STATELESS, np.ndarray, torch.Tensor, torch.nn.Module, torch.optim.Optimizer)):
        return False
    if isinstance(value, FunctionType):
        cells = (cell.cell_contents for cell in value.__closure__ or ())
        return any(_is_own(it, depth - 1) for it in cells) or _rebinds(value) or bool(_beside(value))
    if not is_stock(type(value)):
        return True
    if not depth:
        return False
    if isinstance(value, MethodType | partial):
        return _is_own(value.__self__ if isinstance(value, MethodType) else value.func, depth - 1)
    inner: Any = value if isinstance(value, list | tuple | set) else getattr(value, "__dict__", {})
    inner = value if isinstance(value, Mapping) else inner
    return any(_is_own(part, depth - 1) for part in (inner.values() if isinstance(inner, Mapping) else inner))


def _rebinds(function: FunctionType) -> bool:
    """Whether it gives another value to a `nonlocal` name, or to an attribute, which may be one of its own."""
    found = set(_named(function.__code__))
    return any(("STORE_DEREF", name) in found for name in function.__code__.co_freevars) or any(
        operation == "STORE_ATTR" for operation, _ in found
    )


@cache
def _named(code: CodeType) -> tuple[tuple[str, str], ...]:
    """What code, and the functions inside of it, do with names."""
    found = [(it.opname, it.argval) for it in dis.get_instructions(code) if isinstance(it.argval, str)]
    inside = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return tuple({**dict.fromkeys(found), **dict.fromkeys(pair for each in inside for pair in _named(each))})


# --- what objects share ---------------------------------------------------------------------------------------------


def shared_by(kind: type) -> dict[str, Any]:
    """What the classes of one's own that a class is made of keep, and their methods: attributes, and global names."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        if is_stock(base):
            continue
        for name, value in vars(base).items():
            function = getattr(value, "__func__", getattr(value, "fget", value))
            if isinstance(function, FunctionType):
                found |= _beside(function)
            elif not name.startswith(("__", "_abc_")) and not hasattr(type(value), "__get__"):
                found[f"{base.__name__}.{name}"] = value
    return found


def _beside(function: FunctionType) -> dict[str, Any]:
    """Attributes of a function of one's own, and the global names that it gives another value, or may change."""
    if str(function.__module__).partition(".")[0] in KNOWN_PACKAGES:
        return {}
    found = {f"{function.__qualname__}.{name}": value for name, value in vars(function).items()}
    for operation, name in _named(function.__code__):
        value = function.__globals__.get(name)
        if operation == "STORE_GLOBAL" or (operation == "LOAD_GLOBAL" and type(value) in _CONTAINERS):
            found[f"{function.__module__}.{name}"] = value
    return found


_CONTAINERS = (list, dict, set, deque)


def _assigned(holder: Any) -> frozenset[str]:
    """Names that the known classes an object is of assign to attributes."""
    kind: Any = type(holder)
    return _assigned_by(kind)


@cache
def _assigned_by(kind: Hashable) -> frozenset[str]:
    names = {"training", *vars(torch.nn.Module())}
    for base in filter(is_stock, getattr(kind, "__mro__", ())):
        for value in vars(base).values():
            code = getattr(getattr(value, "__func__", getattr(value, "fget", value)), "__code__", None)
            names |= set(_stored(code)) if code is not None else set()
    return frozenset(names)


def _stored(code: CodeType) -> Iterator[str]:
    return (name for operation, name in _named(code) if operation == "STORE_ATTR")


def is_stock(kind: Any) -> bool:
    """Whether a class is one of those that are known."""
    return str(kind.__module__).partition(".")[0] in KNOWN_PACKAGES


def accounted_for(model: BaseAlgorithm) -> dict[int, str]:
    """By identity, what an attribute may refer to without keeping it: it is saved, or made anew."""
    vec = model.get_env()
    found: dict[int, Any] = {id(model): model, id(vec): vec}
    for _, holder in _holders(model):
        found[id(holder)] = holder
    for tensor in [*model.policy.parameters(), *model.policy.buffers()]:
        found[id(tensor)] = tensor
    known = _assigned(model)
    found |= {id(it): it for name, it in vars(model).items() if name in known and not _is_own(it)}
    return {number: type(value).__name__ for number, value in found.items()}


# --- what an attribute is -------------------------------------------------------------------------------------------


def digest_of(value: Any, saved: Mapping[int, str]) -> str:
    """Of what a value is made of, without what is saved; '' where that cannot be told."""
    try:
        return digest(_Look(saved).at(value))
    except Exception:  # of objects of the user's code, which raise all sorts
        return ""


class _Look:
    """Takes a value apart, as far as pickling would."""

    def __init__(self, saved: Mapping[int, str]) -> None:
        self._saved = saved
        self._seen: dict[int, Any] = {}
        self._bytes = 0

    def at(self, value: Any) -> Any:
        if isinstance(value, _SINGLE):
            return value
        if isinstance(value, _STATELESS):
            return getattr(value, "__qualname__", type(value).__name__)
        if id(value) in self._saved:
            return f"the {self._saved[id(value)]} of the model"
        if id(value) in self._seen:
            return "as before"
        self._seen[id(value)] = value
        if isinstance(value, np.ndarray | torch.Tensor):
            self._bytes += value.nbytes
            if self._bytes > MOST_BYTES:
                raise ValueError("too large")
            return self.at(value.tolist()) if str(value.dtype) == "object" else value
        if len(self._seen) > MOST_PARTS or isinstance(value, gym.Env | VecEnv):
            raise ValueError("too large")
        if isinstance(value, FunctionType):
            cells = [self.at(cell.cell_contents) for cell in value.__closure__ or ()]
            return [value.__qualname__, cells, self.at(_beside(value))]
        if isinstance(value, Mapping):
            return [[self.at(key), self.at(part)] for key, part in value.items()]
        if isinstance(value, list | tuple | set | frozenset):
            return [self.at(part) for part in value]
        if isinstance(value, torch.nn.Module | torch.optim.Optimizer):
            return [type(value).__qualname__, self.at(vars(value))]
        registered = copyreg.dispatch_table.get(type(value))
        parts: Any = registered(value) if registered else value.__reduce_ex__(4)
        if isinstance(parts, str):
            return parts
        shared = self.at(shared_by(type(value)))
        return [shared, *(self.at(list(it) if hasattr(it, "__next__") else it) for it in parts)]
