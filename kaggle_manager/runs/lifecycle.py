"""What a run does next: a pure decision, without input, output or clock.

    newest session   what else                               -> action
    --------------   ------------------------------------   ------------------------------------------------
    intended         anything                                Reconcile: look before pushing again
    pushed           anything                                Watch, until the platform reports a final state
    ended            outputs refused a moment ago            WaitUntil, then Download again
    ended            otherwise                               Download
    none / closed    target reached, and it was evaluated    Finish
    none / closed    over before it, as the section says     Finish; Stop where nothing is saved
    none / closed    the user asked for a stop               Stop
    none / closed    a failure has used up its budget        Stop, naming it and what the user can do
    none / closed    a wait is not over                      WaitUntil(time, why)
    none / closed    otherwise                               Push(next generation, what it continues from)

What a session left is downloaded, restored and closed in one: whether it was downloaded before, its folder alone says
(`sessions.received`), so no cleaned disk can make an ended session one that left nothing.

Waits: after a failure, by its kind (`retry_policy`); for room, for the weekly quota, for an answer of the platform.
They cost no try.

Never two live sessions of one run: a push is only ever decided when the newest session is closed, and a session only
leaves `pushed` on a final state of its own version (UNKNOWN is none). A session number is used once. Every row of the
table is a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile

from kaggle_manager.runs.retry_policy import FAILURES_TO_STOP, POLICIES, FailureKind, wait_after


class Stage(StrEnum):
    """How far a session has come; each value is in the journal before the work that follows it starts."""

    INTENDED = "intended"  # about to be pushed: a kernel may or may not have started
    PUSHED = "pushed"  # its version is known; it waits, runs or has ended
    ENDED = "ended"  # the platform reported a final state
    CLOSED = "closed"  # restored, or found to hold nothing to restore


@dataclass(frozen=True)
class SessionView:
    """What is known of one session.

    Attributes:
        failure: fingerprint of its failure, '' for none: what equal failures are recognised by, and not for people.
        kind: what sort of failure it was.
        ended_at: seconds since the epoch; None while it has not ended.
        why: how it ended, in words.
    """

    generation: int
    stage: Stage
    failure: str = ""
    kind: FailureKind = FailureKind.NONE
    ended_at: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Observation:
    """Everything `decide` looks at.

    Attributes:
        target: timesteps asked for.
        step: timesteps in the local training tree's newest checkpoint; 0 when it has none.
        judged: the local training tree has a best model, or a final one of its newest step: no evaluation is missing.
        earlier_generation: the generation the tree's lineage had reached before this journal knew it; 0 for a new one.
        sessions: the run's sessions, first generation first.
        now: seconds since the epoch.
        not_before: nothing is tried before this time (same clock); 0 for no such wait.
        why_wait: why not, in words.
        stopped: the user asked for a stop, and nobody has asked to continue since.
        rehearsal: it is a quick run, which shows at once what does not work.
        early: why the run is over before its target (`stop_when` in section.toml); '' while it is not.
    """

    target: int
    step: int
    judged: bool
    earlier_generation: int = 0
    sessions: Sequence[SessionView] = ()
    now: float = 0.0
    not_before: float = 0.0
    why_wait: str = ""
    stopped: bool = False
    rehearsal: bool = False
    early: str = ""


@dataclass(frozen=True)
class Push:
    """Launch generation `generation`, continuing from at least `min_step`."""

    generation: int
    min_step: int


@dataclass(frozen=True)
class Reconcile:
    """Find out whether the intended push of `generation` happened."""

    generation: int


@dataclass(frozen=True)
class Watch:
    """Wait for the session to end, reading its log."""

    generation: int


@dataclass(frozen=True)
class Download:
    """Download and verify what the session left, and put its tree in the place of the local one."""

    generation: int


@dataclass(frozen=True)
class WaitUntil:
    """Do nothing before `time`, in seconds since the epoch."""

    time: float
    why: str


@dataclass(frozen=True)
class Finish:
    """The target is reached, or the run is over before it."""

    step: int


@dataclass(frozen=True)
class Stop:
    """Nothing more is done without the user. `kind` is the failure behind it; NONE when the user asked for it."""

    why: str
    kind: FailureKind = FailureKind.NONE


Action = Push | Reconcile | Watch | Download | WaitUntil | Finish | Stop


def decide(observation: Observation) -> Action:
    """Return the next action of a run, by the table above."""
    newest = observation.sessions[-1] if observation.sessions else None
    if newest is not None and newest.stage is not Stage.CLOSED:
        return _continue(newest, observation)
    if observation.judged and observation.step >= observation.target:
        return Finish(observation.step)
    if observation.early:
        return Finish(observation.step) if observation.step else Stop(observation.early)
    if observation.stopped:
        return Stop("it was asked to stop")
    failures = _failures_in_a_row(observation.sessions)
    if stop := _budget_used_up(failures, rehearsal=observation.rehearsal):
        return stop
    if wait := _wait(observation, failures):
        return wait
    reached_generation = max(observation.earlier_generation, newest.generation if newest else 0)
    return Push(generation=reached_generation + 1, min_step=observation.step)


def _continue(session: SessionView, observation: Observation) -> Action:
    match session.stage:
        case Stage.INTENDED:
            return Reconcile(session.generation)
        case Stage.PUSHED:
            return Watch(session.generation)
        case _:
            return _wait(observation, []) or Download(session.generation)


def _failures_in_a_row(sessions: Sequence[SessionView]) -> list[SessionView]:
    """The failed sessions since the last one that did what it could, newest first."""
    return list(takewhile(lambda session: session.failure, reversed(sessions)))


def _budget_used_up(failures: Sequence[SessionView], *, rehearsal: bool) -> Stop | None:
    if not failures:
        return None
    newest = failures[0]
    tries = 1 if rehearsal and newest.kind is FailureKind.CODE else POLICIES[newest.kind].tries
    if len(_alike(failures)) >= tries:
        times = f"{tries} sessions in a row ended with the same failure" if tries > 1 else "A session ended"
        if newest.kind is FailureKind.NO_PROGRESS:
            times = f"{tries} sessions in a row gained nothing"
        return Stop(f"{times}: {newest.why} ({newest.kind})", newest.kind)
    if len(failures) >= FAILURES_TO_STOP:
        return Stop(f"{FAILURES_TO_STOP} sessions in a row failed, each in its own way", newest.kind)
    return None


def _alike(failures: Sequence[SessionView]) -> list[SessionView]:
    return list(takewhile(lambda session: session.failure == failures[0].failure, failures))


def _wait(observation: Observation, failures: Sequence[SessionView]) -> WaitUntil | None:
    until, why = observation.not_before, observation.why_wait
    # A clock that was ahead when the session ended, and is right again, must not hold the run up.
    if failures and failures[0].ended_at is not None and failures[0].ended_at <= observation.now:
        newest = failures[0]
        after = failures[0].ended_at + wait_after(newest.kind, len(_alike(failures)))
        if after > until:
            until, why = after, f"session {newest.generation} ended: {newest.why} ({newest.kind})"
    return WaitUntil(until, why) if until > observation.now else None
