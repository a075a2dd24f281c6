"""One Slurm for all tests of this folder; without Debian's packages they are skipped, and say what installs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_slurm import LoopbackSlurm, why_not
from small_project import SECTION, installed, make_project

from kaggle_manager.platforms.slurm.client import SlurmPlatform
from kaggle_manager.sessions import bundle, reconcile, watch


@pytest.fixture(scope="session")
def slurm_here() -> Iterator[LoopbackSlurm]:
    if why := why_not():
        pytest.skip(why)
    slurm = LoopbackSlurm()
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()


@pytest.fixture
def slurm(slurm_here: LoopbackSlurm, monkeypatch: pytest.MonkeyPatch) -> LoopbackSlurm:
    """What this process asks, and what it starts asks the same."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm_here.environment[name])
    return slurm_here


@pytest.fixture
def platform(slurm: LoopbackSlurm, tmp_path: Path) -> SlurmPlatform:
    """In a folder whose name has what a shell, Slurm and a URL would read something in."""
    return SlurmPlatform({}, tmp_path / "it's 100%j; $(odd) ünicode")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project, whose trainer is a few lines."""
    monkeypatch.setattr(watch, "FIRST_POLL_S", 0.1)
    monkeypatch.setattr(reconcile, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(bundle, "INSTALLED", installed(tmp_path / "project"))
    made = make_project(tmp_path / "project")
    section = made / "sections" / SECTION / "section.toml"
    section.write_text(section.read_text().replace('accelerator = "NvidiaTeslaT4"', ""))  # no node here has one
    return made
