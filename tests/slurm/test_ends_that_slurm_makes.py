"""Ends and waits that Slurm itself makes, each of them real, are told apart in words and by what follows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from loopback_slurm import LoopbackSlurm, why_no_memory_limit, why_not

from kaggle_manager.platforms.platform import EndCause, SessionRef, SessionRequest, SessionState, SessionStatus
from kaggle_manager.platforms.slurm.client import SlurmPlatform

pytestmark = pytest.mark.slow
CPUS = 4
WAITS = "import time; time.sleep(3000)"
HANGS_S = 600.0  # ends a test that waits for what does not come


@pytest.fixture(scope="module")
def slurm_here() -> Iterator[LoopbackSlurm]:
    """One that kills for memory, where it can."""
    if why := why_not():
        pytest.skip(why)
    slurm = LoopbackSlurm(cpus=CPUS, limits_memory=not why_no_memory_limit())
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()


@pytest.fixture
def begin(slurm: LoopbackSlurm, tmp_path: Path) -> Callable[..., Callable[[], SessionStatus]]:
    """Starts a session with these settings, and gives what asks how it is."""

    def start(name: str, source: str, settings: Mapping[str, Any]) -> Callable[[], SessionStatus]:
        platform = SlurmPlatform(settings, tmp_path)
        ref: SessionRef = platform.start(SessionRequest(platform.whoami(), f"km-{name}", source)).version
        return lambda: platform.status(ref)

    return start


def until(ask: Callable[[], SessionStatus], is_it: Callable[[SessionStatus], bool]) -> SessionStatus:
    deadline = time.monotonic() + HANGS_S
    while not is_it(status := ask()):
        assert time.monotonic() < deadline, status
        time.sleep(0.1)
    return status


def ended(ask: Callable[[], SessionStatus]) -> tuple[str, EndCause]:
    status = until(ask, lambda status: status.state.is_terminal)
    return status.raw, status.cause


def runs(status: SessionStatus) -> bool:
    return status.state is SessionState.RUNNING


def test_time_preemption_cancellation_a_failed_node_and_waits_are_told_apart(
    slurm: LoopbackSlurm, begin: Callable[..., Callable[[], SessionStatus]]
) -> None:
    def number(name: str) -> str:
        return slurm.ask("squeue", "-h", "-o", "%i", f"--name=km-{name}").strip()

    held = begin("held", WAITS, {"sbatch_options": ["--hold"]})
    too_long = begin("long", WAITS, {"partition": "low", "time": "1-00:00:00"})
    timed, low = begin("timed", WAITS, {}), begin("low", WAITS, {"partition": "low", "time": "30"})
    until(timed, runs), until(low, runs)
    slurm.ask("scontrol", "update", f"jobid={number('timed')}", "TimeLimit=0")  # looked at every 30 s
    high = begin("high", "pass", {"partition": "high", "cpus": CPUS - 1, "time": "30"})
    assert ended(low) == ("PREEMPTED", EndCause.PLATFORM)
    assert ended(high) == ("COMPLETED", EndCause.UNKNOWN)
    cancelled = begin("cancelled", WAITS, {})
    until(cancelled, runs)
    slurm.ask("scancel", "--full", number("cancelled"))
    assert ended(cancelled) == ("CANCELLED", EndCause.UNKNOWN)
    assert ended(timed) == ("TIMEOUT", EndCause.TIME_LIMIT)
    lost = begin("lost", WAITS, {})
    until(lost, runs)
    slurm.ask("scontrol", "update", f"nodename={slurm.host}", "state=down", "reason=a test")
    assert ended(lost) == ("NODE_FAIL", EndCause.PLATFORM)
    assert "scontrol release" in until(held, lambda status: bool(status.failure_message)).failure_message
    assert "time in [platform.slurm]" in until(too_long, lambda status: bool(status.failure_message)).failure_message
    assert {held().state, too_long().state} == {SessionState.QUEUED}


def test_a_session_that_needs_more_memory_than_it_asked_for_ends_with_that_word(
    slurm: LoopbackSlurm, begin: Callable[..., Callable[[], SessionStatus]]
) -> None:
    """Its job goes on for a moment, and would say no more than that a signal came."""
    if why := why_no_memory_limit():
        pytest.skip(why)
    eats = begin("eats", f"keep = b'x' * 200_000_000; {WAITS}", {"memory": "50M"})
    assert ended(eats) == ("OUT_OF_MEMORY", EndCause.MEMORY)
