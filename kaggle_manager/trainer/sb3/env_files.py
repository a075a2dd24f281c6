"""Which files of the project an environment is made of, seen while it is made and played.

A training that goes on compares the files of `environment_files` and `reward_files` alone: with another of them changed
it would train on, from a checkpoint that was made with the old one.
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
from kaggle_manager.trainer.runtime.as_in_session import trial


class FilesUsed:
    """What is imported and read from when this is made."""

    def __init__(self) -> None:
        self._modules, self._opened = set(sys.modules), len(trial.opened)

    def new_modules(self) -> list[str]:
        """Names of the modules that were imported since."""
        return [name for name in sys.modules if name not in self._modules]

    def names(self) -> set[str]:
        """The project's files that were imported or read since, relative to it."""
        return {*_files_of(self.new_modules()), *filter(None, map(trial.name_of, trial.opened[self._opened :]))}


def _files_of(modules: Iterable[str]) -> set[str]:
    files = (getattr(sys.modules.get(name), "__file__", None) for name in modules)
    return {*filter(None, (trial.name_of(Path(os.path.realpath(file))) for file in files if isinstance(file, str)))}


def not_fingerprinted(scenario: ScenarioConfig, used: FilesUsed) -> str:
    """A warning that names what the environment was seen to use and no fingerprint is made of; "" for nothing."""
    # An earlier scenario may have imported the same modules.
    named = [scenario.environment, *scenario.objects]
    imported = {file for each in named for file in imported_files(trial.code, each.partition(":")[0])}
    imported &= _files_of([*sys.modules])
    declared = {*environment_files(scenario, trial.code), *scenario.reward_files}
    declared |= {f"{trial.section}/{name}" for name in declared}
    found = sorted(name for name in (used.names() | imported) - declared if _counts(name))
    if not found:
        return ""
    found = [name.removeprefix(f"{trial.section}/") for name in found]  # names are looked for in its folder first
    line = f"environment_files = {json.dumps([*scenario.environment_files, *found])}"
    return (
        f"WARNING: {', '.join(found)}: the environment is made of this too, and neither environment_files nor "
        f"reward_files names it, so that a training would go on with it changed; in section.toml: {line}"
    )


def _counts(name: str) -> bool:
    """Whether a file can change what is trained: it travels, is not section.toml, and says something."""
    path = trial.code / name
    if not path.is_file() or name == f"{trial.section}/{SECTION_FILE}":
        return False
    try:
        return not name.endswith(".py") or meaning_of(name, path.read_bytes()) != meaning_of(name, b"")
    except (SyntaxError, ValueError):
        return True
