"""A campaign decides who starts, who pauses and what ends it; its manager is a list of what it was asked."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from small_trees import config_in

from kaggle_manager.config import RunConfig
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import Interrupted, KernelFailed, QuotaError
from kaggle_manager.orchestrator.campaign import Campaign, Member


@dataclass(frozen=True)
class Report:
    state: str = "running"
    step: int = 0
    waiting_until: str | None = None
    in_line: bool = False
    sessions: tuple[Any, ...] = ()


RUNNING: Any = Report()


class Manager:
    """A run of it gains as many steps as its session is given, at once."""

    def __init__(self, fails: type[Exception] | None = None) -> None:
        self.fails, self.steps, self.pushed = fails, {}, []  # type: ignore[var-annotated]

    def go_on(self, config: RunConfig) -> None:
        self.steps.setdefault(config.seed, 0)

    def room_for(self, config: RunConfig) -> int:
        return 5

    def tick(self, config: RunConfig, *, may_push: bool, shared: object = None) -> Any:
        if self.fails:
            raise self.fails("it ends")
        if may_push:
            self.pushed.append((config.seed, config.max_steps))
            self.steps[config.seed] += config.max_steps or config.target
        step = self.steps[config.seed]
        state = "finished" if step >= config.target else "ready"
        return replace(RUNNING, state=state, step=step)


def campaign(tmp_path: Path, manager: Manager, **options: Any) -> Campaign:
    configs = [replace(config_in(tmp_path), seed=seed, target=100) for seed in (1, 2, 3)]
    shown = Reporter(io.StringIO())
    return Campaign(manager, configs, shown, sleep=lambda seconds: None, **options)  # type: ignore[arg-type]


def test_a_member_goes_to_its_pause_and_on_from_there_and_its_target_stays(tmp_path: Path) -> None:
    manager = Manager()
    going = campaign(tmp_path, manager)
    member = Member(going.configs[0], 30)
    going.members = [member]
    going.begin(member)
    for pause, given in ((30, 30), (70, 40), (None, None)):
        member.pause_at = pause
        assert not member.is_over
        while not member.is_over:
            going.round_and_pause()
        assert manager.pushed[-1] == (1, given)
    assert member.report is not None
    assert member.report.state == "finished"


def test_no_more_sessions_start_than_were_asked_for(tmp_path: Path) -> None:
    manager = Manager()
    going = campaign(tmp_path, manager, max_sessions=2)
    for member in going.members:
        going.begin(member)
    going.round()
    assert [seed for seed, _ in manager.pushed] == [1, 2]


def test_what_ends_one_member_is_no_end_and_ctrl_c_is(tmp_path: Path) -> None:
    going = campaign(tmp_path, Manager(KernelFailed))
    with pytest.raises(KernelFailed):
        going.run()
    assert [type(member.error) for member in going.members] == [KernelFailed] * 3
    going = campaign(tmp_path, Manager(Interrupted))
    with pytest.raises(Interrupted):
        going.run()
    assert [member.error for member in going.members] == [None] * 3, "the first one ends it"


def test_slots_go_to_the_smallest_share_of_its_target(tmp_path: Path) -> None:
    manager = Manager()
    going = campaign(tmp_path, manager, max_sessions=1)
    going.members[0].config = replace(going.configs[0], target=1000, max_steps=5)
    manager.steps = {1: 60, 2: 20, 3: 10}
    going.round()
    assert [seed for seed, _ in manager.pushed] == [1], "6 % of it, and 20 % and 10 % of theirs"


def test_a_defect_met_by_one_member_is_raised_when_the_others_are_over(tmp_path: Path) -> None:
    class Defective(Manager):
        def tick(self, config: RunConfig, *, may_push: bool, shared: object = None) -> Any:
            if config.seed == 1:
                raise ZeroDivisionError("of the first")
            return super().tick(config, may_push=may_push)

    manager = Defective()
    with pytest.raises(ZeroDivisionError):
        campaign(tmp_path, manager).run()
    assert [seed for seed, _ in manager.pushed] == [2, 3]


def test_a_member_without_quota_holds_no_slot_and_is_told_of_once(tmp_path: Path) -> None:
    class Spent(Manager):
        def tick(self, config: RunConfig, *, may_push: bool, shared: object = None) -> Any:
            if config.seed == 1:
                raise QuotaError("none is left")
            return super().tick(config, may_push=may_push)

    manager, told = Spent(), io.StringIO()
    going = campaign(tmp_path, manager, max_sessions=1)
    going.reporter = Reporter(told)
    for member in going.members:
        going.begin(member)
    first = going.members[0]
    first.report = RUNNING
    for _ in range(3):
        going.round()
    assert not first.is_live
    assert [member.report.state for member in going.members[1:] if member.report] == ["finished"] * 2
    assert told.getvalue().count("none is left") == 1
