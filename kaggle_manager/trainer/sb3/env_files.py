"""Which files of the project a training is made of, seen while its environment is made and played.

A training that continues compares the files of `environment_files` and `reward_files` alone: with another of them
changed it would train on, from a checkpoint that was made with the old one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from kaggle_manager.sections.identity import environment_files
from kaggle_manager.sections.imports import imported_files
from kaggle_manager.sections.meaning import meaning_of
from kaggle_manager.sections.model import SECTION_FILE, ScenarioConfig
from kaggle_manager.trainer.runtime.as_in_session import try_out

# What an object that section.toml names is, by the beginning of its key.
_WHAT = {
    "environment": "environment",
    "env_wrapper": "environment",
    "vec_env_wrapper": "environment",
    "callbacks": "callback",
    "policy": "network",
    "hyperparameters.policy_kwargs": "network",
    "build": "training script",
}


class FilesUsed:
    """What is imported and read from when this is made."""

    def __init__(self) -> None:
        self._modules, self._opened = set(sys.modules), len(try_out.opened)

    def new_modules(self) -> list[str]:
        """Names of the modules that were imported since."""
        return [name for name in sys.modules if name not in self._modules]

    def names(self) -> set[str]:
        """The project's files that were imported or read since, relative to it."""
        return {*_files_of(self.new_modules()), *filter(None, map(try_out.name_of, try_out.opened[self._opened :]))}


def _files_of(modules: Iterable[str]) -> set[str]:
    files = (getattr(sys.modules.get(name), "__file__", None) for name in modules)
    return {*filter(None, (try_out.name_of(Path(os.path.realpath(file))) for file in files if isinstance(file, str)))}


def not_fingerprinted(scenario: ScenarioConfig, used: FilesUsed) -> str:
    """A warning that names what the training was seen to use and no fingerprint is made of; "" for nothing."""
    # An earlier scenario may have imported the same modules.
    is_what: dict[str, str] = {}
    for each, key in {scenario.environment: "environment", **scenario.objects}.items():
        for file in imported_files(try_out.code, each.partition(":")[0]):
            is_what.setdefault(file, next((words for begin, words in _WHAT.items() if key.startswith(begin)), key))
    imported = is_what.keys() & _files_of([*sys.modules])
    declared = {*environment_files(scenario, try_out.code), *scenario.reward_files, *scenario.ignored_files}
    declared |= {f"{try_out.section}/{name}" for name in declared}
    found = sorted(name for name in (used.names() | imported) - declared if _counts(name))
    if not found:
        return ""
    other = "environment" if scenario.build is None else "training script"
    kinds = [is_what.get(name, other) for name in found]
    found = [name.removeprefix(f"{try_out.section}/") for name in found]  # names are looked for in its folder first
    listed = ", ".join(f"{name} ({kind})" for name, kind in zip(found, kinds, strict=True))
    line = f"environment_files = {json.dumps([*scenario.environment_files, *found])}"
    return (
        f"WARNING: {listed}: the training is made of this too, and neither environment_files nor reward_files names "
        "it, so that it would continue with that changed; what it depends on goes into environment_files, in "
        f"section.toml, the rest into ignored_files: {line}"
    )


def _counts(name: str) -> bool:
    """Whether a file can change what is trained: it travels, is not section.toml, and says something."""
    path = try_out.code / name
    if not path.is_file() or name == f"{try_out.section}/{SECTION_FILE}":
        return False
    try:
        return not name.endswith(".py") or meaning_of(name, path.read_bytes()) != meaning_of(name, b"")
    except (SyntaxError, ValueError):
        return True
