"""Where a campaign plays: a project of next to no code, and the real manager, which may die at a write or a rename."""

from __future__ import annotations

import errno
import functools
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from simulated_dataset import simulated_datasets
from virtual_process import Mortality

from kaggle_manager import config
from kaggle_manager.checkpoints import Disk
from kaggle_manager.orchestrator import command, manager, push, stop
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.journal_file import refusal
from kaggle_manager.sections.model import Section
from kaggle_manager.sections.project import get_section
from kaggle_manager.sessions import bundle

SECTION, SCENARIO = "small", "little_task"
SECTION_TOML = f"""
name = "{SECTION}"
title = "A small section"
trains = true
default_scenario = "{SCENARIO}"

[kernel]
accelerator = "NvidiaTeslaT4"
include = ["code"]

[scenarios.{SCENARIO}]
environment = "gymnasium:make"
algorithm = "DQN"
timesteps = 4
seed = 1
models = "data/models"

[scenarios.{SCENARIO}.quick]
models = "data/models_quick"
"""


class MortalJournal(Journal):
    """A journal at whose writes the manager may die: before, or after they are on the disk."""

    mortality: Mortality

    @contextmanager
    def _atomically(self) -> Iterator[Any]:
        self.mortality.deed()
        if self.mortality.disk_is_full:
            raise refusal(self.path, OSError(errno.ENOSPC, "No space left on device"))
        with super()._atomically() as db:
            yield db
        self.mortality.deed()


def make_project(folder: Path) -> Path:
    """A project with one section of next to no code; a bundle of it is made in no time."""
    section = folder / "sections" / SECTION
    section.mkdir(parents=True)
    (section / "section.toml").write_text(SECTION_TOML)
    (folder / "code").mkdir()
    (folder / "code/trainer.py").write_text('"""What is simulated."""\n')
    return folder


@contextmanager
def stage(mortality: Mortality) -> Iterator[None]:
    """The real code. What is the same each time (section, archive, compression) is kept; renames may be deadly."""
    rename = Disk.replace
    MortalJournal.mortality = mortality

    def mortal_rename(disk: Disk, source: Path, destination: Path) -> None:
        mortality.deed()
        rename(disk, source, destination)

    with (
        simulated_datasets(),
        mock.patch.object(push, "build_bundle", _bundle),
        mock.patch.object(bundle, "lzma", SimpleNamespace(compress=_compress)),
        mock.patch.object(manager, "Journal", MortalJournal),
        mock.patch.object(stop, "_ask_log", return_value=""),
        mock.patch.object(command, "Journal", MortalJournal),
        mock.patch.object(config, "get_section", _section),
        mock.patch.object(Disk, "replace", mortal_rename),
    ):
        yield


@functools.cache
def _section(root: Path, name: str) -> Section:
    return get_section(root, name)


@functools.cache
def _compress(content: bytes) -> bytes:
    return lzma.compress(content, preset=0)


@functools.cache
def _bundle_of(root: Path) -> bundle.Bundle:
    with mock.patch.object(bundle, "RUNTIME", ()):
        return bundle.build_bundle(root, get_section(root, SECTION))


def _bundle(root: Path, section: Section) -> bundle.Bundle:
    return _bundle_of(root)
