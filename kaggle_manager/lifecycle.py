"""What a run does next: a pure decision, without input, output or clock.

    newest session   target reached   failures       -> action
    --------------   --------------   ------------   ---------------------------------------------
    none / closed    yes              any            Finish
    none / closed    no               3 alike, or 6  Stop
    none / closed    no               fewer          Push(next generation, what it continues from)
    intended         any              any            Reconcile: look before pushing again
    pushed           any              any            Watch, until the platform reports a final state
    ended            any              any            Fetch
    fetched          any              any            Restore

Never two live sessions of one run: a push is only ever decided when the newest session is closed, and a session only
leaves `pushed` on a final state of its own version (UNKNOWN is none). A generation is used once. Every row of the
table is a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

# Three equal failures in a row are a cause, not bad luck; going on would burn quota to see it a fourth time.
EQUAL_FAILURES_TO_STOP = 3
# So many in a row, however they differ, will not mend themselves either.
FAILURES_TO_STOP = 6


class Stage(StrEnum):
    """How far a session has come; each value is in the journal before the work that follows it starts."""

    INTENDED = "intended"  # about to be pushed: a kernel may or may not have started
    PUSHED = "pushed"  # its version is known; it waits, runs or has ended
    ENDED = "ended"  # the platform reported a final state
    FETCHED = "fetched"  # its outputs are here and verified
    CLOSED = "closed"  # restored, or found to hold nothing to restore


@dataclass(frozen=True)
class SessionView:
    """What is known of one session. `failure` is the fingerprint of its failure, '' for none."""

    generation: int
    stage: Stage
    failure: str = ""


@dataclass(frozen=True)
class Observation:
    """Everything `decide` looks at.

    Attributes:
        target: timesteps asked for.
        step: timesteps in the local training tree's newest checkpoint; 0 when it has none.
        final_step: timesteps of the local final model; None when it has none.
        earlier_generation: the generation the tree's lineage had reached before this journal knew it; 0 for a new one.
        sessions: the run's sessions, first generation first.
    """

    target: int
    step: int
    final_step: int | None
    earlier_generation: int = 0
    sessions: Sequence[SessionView] = ()


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
class Fetch:
    """Download and verify what the session left."""

    generation: int


@dataclass(frozen=True)
class Restore:
    """Put the fetched tree in the place of the local one."""

    generation: int


@dataclass(frozen=True)
class Finish:
    """The target is reached."""

    step: int


@dataclass(frozen=True)
class Stop:
    """Nothing more can be done without a person."""

    why: str


Action = Push | Reconcile | Watch | Fetch | Restore | Finish | Stop


def decide(observation: Observation) -> Action:
    """Return the next action of a run, by the table above."""
    newest = observation.sessions[-1] if observation.sessions else None
    if newest is not None and newest.stage is not Stage.CLOSED:
        return _continue(newest)
    reached = observation.final_step is not None and observation.final_step >= observation.target
    if reached and observation.step >= observation.target:
        return Finish(observation.step)
    if failure := repeated_failure(observation.sessions):
        return Stop(f"{EQUAL_FAILURES_TO_STOP} sessions in a row ended with the same failure: {failure}")
    last = [session.failure for session in observation.sessions[-FAILURES_TO_STOP:]]
    if len(last) == FAILURES_TO_STOP and all(last):
        return Stop(f"{FAILURES_TO_STOP} sessions in a row failed, each in its own way")
    reached_generation = max(observation.earlier_generation, newest.generation if newest else 0)
    return Push(generation=reached_generation + 1, min_step=observation.step)


def _continue(session: SessionView) -> Action:
    match session.stage:
        case Stage.INTENDED:
            return Reconcile(session.generation)
        case Stage.PUSHED:
            return Watch(session.generation)
        case Stage.ENDED:
            return Fetch(session.generation)
        case _:
            return Restore(session.generation)


def repeated_failure(sessions: Sequence[SessionView]) -> str:
    """The failure all of the last sessions share, or '' when they do not."""
    last = [session.failure for session in sessions[-EQUAL_FAILURES_TO_STOP:]]
    if len(last) == EQUAL_FAILURES_TO_STOP and last[0] and len(set(last)) == 1:
        return last[0]
    return ""
