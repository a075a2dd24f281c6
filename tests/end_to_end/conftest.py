"""One local Kaggle for all tests of the manager, and a small project for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_project import Bench, free_slots, installed, make_project

from kaggle_manager.local_kaggle.launcher import ServerInfo, ensure_running, stop
from kaggle_manager.sessions import bundle, reconcile, watch


@pytest.fixture(scope="session")
def kaggle_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("kaggle")
    (root / "limits.json").write_text('{"ingestion_s": 0.0, "gpu_week_s": 1e9}')
    yield root
    free_slots(root)
    stop(root)


@pytest.fixture(scope="module")
def kaggle_here(kaggle_folder: Path) -> ServerInfo:
    """Found, or started again: it ends when idle, and between two files that use it others may take many minutes."""
    return ensure_running(kaggle_folder, idle_exit_s=900)


@pytest.fixture
def bench(tmp_path: Path, kaggle_here: ServerInfo, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(watch, "FIRST_POLL_S", 0.1)
    monkeypatch.setattr(reconcile, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(bundle, "INSTALLED", installed(tmp_path / "project"))
    yield Bench(make_project(tmp_path / "project"), tmp_path / "work", kaggle_here)
    free_slots(kaggle_here.root)
