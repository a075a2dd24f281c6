"""A process is waited for by what it computes: a busy machine gives it as long as it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kaggle_manager.system.patience import Patience, computed_s


class Machine:
    """A clock, and what a process has computed on it."""

    def __init__(self) -> None:
        self.now = self.took = 0.0

    def patience(self, seconds: float) -> Patience:
        return Patience(1, seconds, clock=lambda: self.now, computed=lambda pid: self.took)

    def passes(self, seconds: float, computing: float) -> None:
        self.now += seconds
        self.took += computing


def test_a_busy_machine_gives_it_as_long_as_it_needs() -> None:
    machine = Machine()
    patience = machine.patience(120)
    machine.passes(2_000, computing=100)
    assert not patience.is_over
    machine.passes(500, computing=21)
    assert patience.is_over


def test_several_processors_make_no_haste() -> None:
    machine = Machine()
    patience = machine.patience(120)
    machine.passes(100, computing=800)
    assert not patience.is_over


def test_one_that_does_nothing_is_given_up_when_the_time_is_over() -> None:
    machine = Machine()
    patience = machine.patience(120)
    machine.passes(119, computing=0.5)
    assert not patience.is_over
    machine.passes(2, computing=0)
    assert patience.is_over


def test_progress_has_it_waited_for_anew() -> None:
    machine = Machine()
    patience = machine.patience(120)
    for _ in range(5):
        machine.passes(100, computing=100)
        assert not patience.is_over
        patience.moved()


def test_a_child_that_has_ended_takes_nothing_back() -> None:
    machine = Machine()
    patience = machine.patience(120)
    machine.passes(100, computing=100)
    assert not patience.is_over
    machine.passes(50, computing=-90)
    assert not patience.is_over


def test_where_the_machine_does_not_say_the_time_counts() -> None:
    machine = Machine()
    machine.took = float("inf")
    patience = machine.patience(120)
    machine.passes(119, computing=0)
    assert not patience.is_over
    machine.passes(2, computing=0)
    assert patience.is_over


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason=f"{sys.platform} has no /proc")
def test_what_a_process_has_computed_is_counted() -> None:
    before = computed_s(os.getpid())
    while computed_s(os.getpid()) == before:
        sum(range(100_000))
    assert computed_s(os.getpid()) > before > 0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason=f"{sys.platform} has no /proc")
def test_a_process_that_is_named_and_was_started_by_another_one_is_counted_once() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        before = computed_s(os.getpid())
        both = computed_s(os.getpid(), child.pid, os.getpid())
        assert before <= both <= computed_s(os.getpid())
        child.communicate(b"\n")
