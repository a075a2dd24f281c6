"""A campaign decides who starts, who pauses and what ends it; its manager is a list of what it was asked."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_trees import config_in

from kaggle_manager.config import RunConfig
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import Interrupted, KernelFailed
from kaggle_manager.orchestrator.campaign import Campaign, Member


class Manager:
    """A run of it gains as many steps as its session is given, at once."""

    def __init__(self, fails: type[Exception] | None = None) -> None:
        self.fails, self.steps, self.pushed = fails, {}, []  # type: ignore[var-annotated]

    def go_on(self, config: RunConfig) -> None:
        self.steps.setdefault(config.seed, 0)

    def room_for(self, config: RunConfig) -> int:
        return 5

    def tick(self, config: RunConfig, *, may_push: bool) -> Any:
        if self.fails:
            raise self.fails("it ends")
        if may_push:
            self.pushed.append((config.seed, config.max_steps))
            self.steps[config.seed] += config.max_steps or config.target
        step = self.steps[config.seed]
        state = "finished" if step >= config.target else "ready"
        return SimpleNamespace(state=state, step=step, waiting_until=None)


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
