"""Tuned hyperparameters of RL Baselines3 Zoo -> what a section says: one entry of its files, key by key.

As its `exp_manager` reads them: an environment without an entry of its own has that of `atari` when it is one of
Atari's, else that of `default`. Reads values, no file, and imports nothing of the Zoo.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kaggle_manager.sections.agent_tables import MonitorKwargs, Normalize
from kaggle_manager.sections.environment_ids import ATARI, MINIGRID, PANDA, family_of
from kaggle_manager.sections.hyperparameters import NAMES
from kaggle_manager.sections.new_training import Training
from kaggle_manager.sections.toml_text import is_sayable
from kaggle_manager.sections.values import Refused, from_zoo, is_zoo_text

ALGORITHMS = {name.lower(): name for name in NAMES if name not in ("MaskablePPO", "RecurrentPPO")}
ALGORITHMS |= {"ppo_lstm": "RecurrentPPO"}
"""The Zoo's name of an algorithm, which is that of its file -> its name here."""

# Names of gymnasium that entries still have, and where the class is today.
_MOVED = {"gymnasium.wrappers.time_limit.TimeLimit": "gymnasium.wrappers:TimeLimit"}
_NO_NULL = "null, which TOML does not have"


def entry_of(entries: Mapping[str, Any], id: str) -> tuple[str, Mapping[str, Any]]:
    """The name of the entry for an environment, and the entry.

    Raises:
        KeyError: there is none, nor a default.
    """
    names = [id, id.rpartition(":")[2], *(["atari"] if family_of(id) is ATARI else []), "default"]
    for name in names:
        if isinstance(entries.get(name), Mapping):
            return name, entries[name]
    raise KeyError(id)


def training_of(algorithm: str, id: str, entry: Mapping[str, Any], origin: str) -> Training:
    """What an entry says.

    Args:
        algorithm: its name here.
        id: of the environment, as gymnasium takes it.
        origin: where the entry is from, as a message names it.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: the entry is not in the Zoo's form.
    """
    reader = _Reader(algorithm, id, entry)
    keys = dict(reader.keys())
    family = family_of(id)
    return Training(
        algorithm,
        timesteps=_timesteps(entry.get("n_timesteps", 1_000_000)),
        policy=_policy(algorithm, entry["policy"]) if "policy" in entry else "",
        hyperparameters=dict(reader.hyperparameters()),
        keys=keys,
        environment_kwargs=reader.table("env_kwargs"),
        greedy=family is not ATARI and family is not MINIGRID,
        origin=origin,
        unsaid=tuple(reader.unsaid),
    )


class _Reader:
    """One entry. What cannot be said is left out and named in `unsaid`."""

    # Keys that are no argument of an algorithm.
    KEYS = frozenset(
        {"n_timesteps", "policy", "n_envs", "env_wrapper", "vec_env_wrapper", "normalize", "frame_stack", "callback"}
        | {"monitor_kwargs", "env_kwargs", "noise_type", "noise_std"}
    )

    def __init__(self, algorithm: str, id: str, entry: Mapping[str, Any]) -> None:
        self.algorithm, self.id, self.entry = algorithm, id, entry
        self.unsaid: list[str] = []

    def keys(self) -> Iterator[tuple[str, Any]]:
        """Keys of the scenario."""
        n_envs = self.entry.get("n_envs", 1)
        if not isinstance(n_envs, int) or n_envs < 1:
            raise ValueError(f"n_envs = {n_envs!r}")
        if self.algorithm != "ARS":  # the Zoo trains it in one, and plays its candidates in n_envs processes
            yield from [("n_envs", n_envs)] if n_envs != 1 else []
        for name in ("env_wrapper", "vec_env_wrapper", "callback"):
            yield from self._calls(name, "callbacks" if name == "callback" else name)
        if normalize := self.entry.get("normalize"):
            yield "normalize", self._known("normalize", Normalize.model_fields) or True
        elif isinstance(normalize, Mapping):
            yield "normalize", True
        if self.entry.get("frame_stack"):
            yield "frame_stack", self.entry["frame_stack"]
        if monitor := self._known("monitor_kwargs", MonitorKwargs.model_fields):
            yield "monitor_kwargs", monitor
        elif family_of(self.id) is PANDA or "parking-v0" in self.id:
            yield "monitor_kwargs", {"info_keywords": ["is_success"]}
        if self.entry.get("noise_type"):
            kind = "normal" if "normal" in self.entry["noise_type"] else self.entry["noise_type"].strip()
            yield "noise", {"type": kind, "std": self.entry["noise_std"]}

    def hyperparameters(self) -> Iterator[tuple[str, Any]]:
        """Arguments of the algorithm."""
        for name, given in self.entry.items():
            if name in self.KEYS:
                continue
            if name not in NAMES[self.algorithm]:
                self.unsaid.append(f"{name} = {given!r}: {self.algorithm} has no argument of that name")
                continue
            value = self._read(name, given)
            if value is not None:
                yield name, value

    def table(self, name: str) -> Mapping[str, Any]:
        """A table, which the Zoo may have written as text."""
        value = self._read(name, self.entry[name]) if self.entry.get(name) else {}
        if isinstance(value, Mapping):
            return value
        if value is not None:
            self.unsaid.append(f"{name} = {value!r}: is no table")
        return {}

    def _read(self, name: str, given: Any) -> Any:
        """A value as section.toml has it; None, and a line in `unsaid`, for what that cannot say."""
        value, why = given, _NO_NULL
        if isinstance(given, str) and (is_zoo_text(given) or name.endswith("_class")):
            try:
                value = from_zoo(given)
            except Refused as error:
                value, why = None, error.accepted
            else:
                value = value if is_sayable(value) else given.strip()  # null is in the text alone
        if is_sayable(value):
            return value
        self.unsaid.append(f"{name} = {given!r}: {why}")
        return None

    def _known(self, name: str, accepted: Mapping[str, Any]) -> dict[str, Any]:
        """A table, with those of its keys that a section accepts."""
        if self.entry.get(name) is True:
            return {}
        found = self.table(name)
        self.unsaid += [f"{name}.{key} = {value!r}" for key, value in found.items() if key not in accepted]
        return {key: value for key, value in found.items() if key in accepted}

    def _calls(self, name: str, key: str) -> Iterator[tuple[str, Any]]:
        """Classes with their arguments: one as it is, several as a list."""
        given = self.entry.get(name) or []
        found: list[Any] = []
        for each in given if isinstance(given, list) else [given]:
            ((called, arguments),) = each.items() if isinstance(each, Mapping) else ((each, None),)
            if not is_sayable(arguments or {}):
                self.unsaid.append(f"{name} = {each!r}: {_NO_NULL}")
                continue
            found.append({_object(called): arguments} if arguments else _object(called))
        if found:
            yield key, found[0] if len(found) == 1 else found


def _timesteps(given: Any) -> int:
    try:
        return int(float(given))
    except (OverflowError, TypeError, ValueError):
        raise ValueError(f"n_timesteps = {given!r}; accepted: a number of timesteps") from None


def _policy(algorithm: str, name: str) -> str:
    """A policy; RecurrentPPO has none but recurrent ones, which the `default` of its file forgets."""
    if algorithm == "RecurrentPPO" and name.isidentifier():
        return re.sub("(?<!Lstm)Policy$", "LstmPolicy", name)
    return _object(name)


def _object(name: str) -> str:
    """`a.module.Class` as a section writes it; a name without a module as it is."""
    module, _, attribute = name.rpartition(".")
    return _MOVED.get(name) or (f"{module}:{attribute}" if module and ":" not in name else name)
