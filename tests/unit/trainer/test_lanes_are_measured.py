"""Whether runs should share their sessions is measured, and said where a section has many runs."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kaggle_manager.sections.model import Section, load_section
from kaggle_manager.sections.scaffold import new_section
from kaggle_manager.trainer.runtime.checks import CheckResult
from kaggle_manager.trainer.sb3 import preflight
from kaggle_manager.trainer.sb3.env_check import Pool
from kaggle_manager.trainer.sb3.lane_gain import LaneGain, measure_lanes


def section_in(folder: Path, **kernel: Any) -> Section:
    made = new_section("mine", folder).section
    return made.model_copy(update={"kernel": made.kernel.model_copy(update=kernel), "_folder": made.folder})


def said_of(
    monkeypatch: pytest.MonkeyPatch, folder: Path, gain: float, lanes: int, *, memory: int | None = None
) -> CheckResult:
    """What the check says of a training of 1 GB, a replay buffer of 0.1 GB with it, whose second process gains so."""
    model = contextlib.nullcontext((SimpleNamespace(n_envs=1), 10**5))
    monkeypatch.setattr(preflight, "_model_of", lambda *_: model)
    monkeypatch.setattr(preflight.sizes, "row_bytes", lambda _: 1000)
    monkeypatch.setattr(preflight, "measure_lanes", lambda *_: LaneGain(gain, 9 * 10**8, 4))
    monkeypatch.setattr(preflight.try_out, "memory_bytes", memory)
    section = section_in(folder, lanes=lanes)
    if lanes == 1:
        section = section.model_copy(update={"study": {"training_seeds": [1, 2]}})
    with Pool() as made:
        [found] = preflight.check_lanes(folder, section, "mine", made)
    return found


def test_the_line_to_add_is_said_where_it_gains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = said_of(monkeypatch, tmp_path, 1.9, 1)
    assert (found.ok, found.line) == (True, "lanes = 2")
    assert "two train 1.9 times as much as one on 4 cores" in found.detail
    assert "`lanes = 2` under [kernel]" in found.detail
    assert found.lane_bytes == 9 * 10**8 + 1000 * section_in(tmp_path / "b").agent().timesteps, "as full as it becomes"


@pytest.mark.parametrize(
    ("gain", "lanes", "memory", "words"),
    [
        (1.9, 4, 5 * 10**9, "with "),
        (1.9, 8, 49 * 10**8, "of lanes = 8 no more than 4 fit a session, and are used"),
        (1.9, 8, 10**6, "of lanes = 8 no more than 1 fit a session, and are used"),
        (1.1, 2, None, "lanes = 2 may take longer than one session after the other"),
        (1.1, 1, None, "with "),
    ],
)
def test_what_does_not_fit_or_does_not_gain_is_a_warning(
    gain: float, lanes: int, memory: int | None, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = said_of(monkeypatch, tmp_path, gain, lanes, memory=memory)
    assert found.ok
    assert words in found.detail
    assert found.detail.startswith("WARNING: ") == (words != "with ")
    assert not found.line


def test_nothing_is_measured_for_a_section_of_one_training(tmp_path: Path) -> None:
    section = section_in(tmp_path)
    with Pool() as made:
        assert preflight.check_lanes(tmp_path, section, "mine", made) == []


@pytest.mark.slow
def test_two_processes_train_side_by_side(tmp_path: Path) -> None:
    new_section("mine", tmp_path)
    assert load_section(tmp_path / "sections/mine/section.toml").agent().build is None
    path = os.pathsep.join(filter(None, sys.path))
    seen = measure_lanes(tmp_path, "mine", "mine", {**os.environ, "PYTHONPATH": path})
    assert seen is not None
    assert seen.gain > 0
    assert seen.process_bytes > 10**7
