"""Three trials that crash alike stop a sweep in words, and the same command goes on."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from small_sweep import STOPS, SWEEP

from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import KernelFailed
from kaggle_manager.sections.trial import study_folder
from kaggle_manager.sweeps import loop as sweeping
from kaggle_manager.sweeps.loop import SweepLoop
from kaggle_manager.sweeps.study import Result, Study


def loop_of(study: Study) -> SweepLoop:
    return SweepLoop(None, study, lambda scenario, seed: None, Reporter(io.StringIO()), 3)  # type: ignore[arg-type, return-value]


def test_three_that_crash_alike_stop_it_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "write_storage", lambda study: None)  # Optuna may not be here
    study = Study.begin(study_folder(tmp_path, "toy"), "pole", STOPS, SWEEP, "it")
    for number in range(3):
        study.add({"n_envs": 1}, number)
        study.tell(Result(trial=number, step=0, failure="no module x", alike="no module x"))
    with pytest.raises(KernelFailed, match=r"three trials in a row failed alike.*no module x") as caught:
        loop_of(study).run()
    assert "sweep toy" in caught.value.next_step
    assert Study.read(study.folder).state.halted == "no module x"
    again = Study.read(study.folder)
    loop_of(again).run()
    assert (again.state.halted, len(again.state.trials)) == ("", 3), "what failed stays so, and is over"
