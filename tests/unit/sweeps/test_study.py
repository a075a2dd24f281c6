"""A sweep on disk: whatever write its manager dies at, the next one ends with the same study."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash_disks import Died, WatchedDisk
from small_sweep import STOPS, SWEEP

from kaggle_manager.checkpoints import Disk
from kaggle_manager.errors import Busy, ConfigError, NotFound, StorageError
from kaggle_manager.sections.trial import STUDY_FILE, find_trial, study_folder
from kaggle_manager.sweeps.decide import Begin, Done, Promote, decide
from kaggle_manager.sweeps.study import Result, Study, hold_sweep


class Quick(WatchedDisk):
    """Waits for no disk: only the order of what it does counts here."""

    def call(self, name: str, perform: Callable[..., Any], *arguments: Any) -> Any:
        return None if name in ("sync", "sync_folder") else perform(*arguments)


class Dying(Quick):
    """Dies before or after call `at` of those that change something."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.left, self.after = at, after

    def call(self, name: str, perform: Callable[..., Any], *arguments: Any) -> Any:
        if name in ("sync", "sync_folder"):
            return None
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Died
        done = super().call(name, perform, *arguments)
        if self.left == 0:
            raise Died
        return done


def carry_on(folder: Path, disk: Disk) -> Study:
    """A manager: what it does depends on what is on the disk alone. A score is a function of trial and rung."""
    study = Study.begin(folder, "pole", STOPS, SWEEP, "it", disk=disk)
    rules = study.rules(3)
    for _ in range(100):
        for view in study.views():
            if view.is_on_its_way:
                failed = view.number == 2
                score = None if failed else float(view.number * 7 % 5 + view.goal)
                step = 0 if failed else STOPS[view.goal]
                study.tell(Result(trial=view.number, step=step, score=score, failure="it broke" * failed))
        match decide(rules, study.views(), study.failures()):
            case Begin(at=at):
                study.add({"n_envs": study.next_number + 1, "hyperparameters.net_arch": [8]}, at)
            case Promote(number=number, at=at):
                study.promote(number, at)
            case Done():
                return study
    raise AssertionError("it does not end")


def test_killed_at_every_write_it_loses_doubles_and_tells_twice_no_trial(tmp_path: Path) -> None:
    untouched = carry_on(tmp_path / "whole", Quick()).state
    assert len(untouched.trials) == 3
    counting = Dying(10**9, after=False)
    carry_on(tmp_path / "counted", counting)
    calls = 10**9 - counting.left
    assert calls > 15
    for after in (False, True):
        for at in range(1, calls + 1):
            folder = tmp_path / f"{at}_{after}"
            with pytest.raises(Died):
                carry_on(folder, Dying(at, after=after))
            assert carry_on(folder, Quick()).state == untouched, (at, after)


def test_a_result_is_told_once(tmp_path: Path) -> None:
    study = Study.begin(tmp_path, "pole", STOPS, SWEEP, "it")
    study.add({"n_envs": 1}, 0)
    study.tell(Result(trial=0, step=10, score=1.0))
    with pytest.raises(AssertionError, match="told already"):
        study.tell(Result(trial=0, step=10, score=1.0))


def test_a_trial_can_be_named_as_soon_as_it_is_begun(tmp_path: Path) -> None:
    study = Study.begin(study_folder(tmp_path, "toy"), "pole", STOPS, SWEEP, "it")
    trial = study.add({"n_envs": 3}, 0)
    assert find_trial(tmp_path, "toy", "pole_trial_0") == trial


def test_another_table_is_another_study_whose_trials_have_other_numbers(tmp_path: Path) -> None:
    study = Study.begin(tmp_path, "pole", STOPS, SWEEP, "it")
    study.add({"n_envs": 1}, 0)
    more = SWEEP.model_copy(update={"trials": 60})
    assert Study.begin(tmp_path, "pole", STOPS, more, "it").state == study.state, "more trials are the same study"
    other = SWEEP.model_copy(update={"direction": "minimize"})
    with pytest.raises(ConfigError, match=r"another \[sweep\] table"):
        Study.begin(tmp_path, "pole", STOPS, other, "it")
    with pytest.raises(ConfigError, match="another scenario or environment"):
        Study.begin(tmp_path, "pole", STOPS, SWEEP, "changed meanwhile")
    fresh = Study.begin(tmp_path, "pole", STOPS, other, "it", fresh=True)
    assert fresh.add({"n_envs": 1}, 0).name == "pole_trial_1"
    assert (tmp_path / "study_before_trial_1.json").is_file()


def test_what_was_halted_goes_on_when_it_is_run_again(tmp_path: Path) -> None:
    study = Study.begin(tmp_path, "pole", STOPS, SWEEP, "it")
    for number in range(3):
        study.add({"n_envs": 1}, 0)
        study.tell(Result(trial=number, step=0, failure="no module x", alike="no module x"))
    assert study.failures() == ["no module x"] * 3
    study.halt("no module x")
    again = Study.read(tmp_path)
    again.go_on()
    assert (again.failures(), again.state.halted, Study.read(tmp_path).state) == ([], "", again.state)


def test_two_sweeps_of_one_section_are_refused_and_what_is_no_study_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="No sweep"):
        Study.read(tmp_path)
    with hold_sweep(tmp_path), pytest.raises(Busy, match="Another command"), hold_sweep(tmp_path):
        pass
    for text in ("{", '{"schema": 99}', json.dumps({"schema": 1})):
        (tmp_path / STUDY_FILE).write_text(text)
        with pytest.raises(StorageError, match="cannot be read"):
            Study.read(tmp_path)
