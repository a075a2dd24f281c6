"""What is measured of a session, as the journal keeps it beside its row, and the sums made from it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kaggle_manager.protocol.session_result import SessionResult
from kaggle_manager.runs.budget import PastSession
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.progress import SessionProgress
from kaggle_manager.system.formatting import epoch

# Why a trainer that stopped for time says it stopped; see kaggle_manager/trainer/runtime/session_clock.py.
OUT_OF_TIME = "time is used up"


def measurements(
    session: SessionRow, result: SessionResult | None, *, step_before: int, step_after: int, failed: bool
) -> dict[str, Any]:
    """What one ended session gained and cost; times in seconds.

    `ran_s` is the accelerator time it used: what the trainer counted from its start, else what the platform says, else
    the time between the first and the last look at it; never a wait in a queue that the platform tells apart. `lost_s`
    is what was trained and not saved: work the next session repeats.
    """
    timings = result.timings if result else {}
    gained = max(0, step_after - step_before)
    ran_s = timings["total"] + timings.get("install", 0.0) if "total" in timings else _seen_for(session)
    facts: dict[str, Any] = {
        "gained": gained,
        "ran_s": round(ran_s, 1),
        "lost_s": round(_lost_s(progress_of(session), step_after, gained, ran_s, failed=failed), 1),
        "timings": dict(timings),
    }
    if result is not None and result.accelerator_gain is not None:
        facts["accelerator_gain"] = result.accelerator_gain
    planned = session.facts.get("planned")
    if result is not None and OUT_OF_TIME in result.reason and planned:
        # Its own count ends before its outputs are hashed and kept. What was seen of it from here ends after that, but
        # perhaps long after: nobody may have looked.
        over_s = max(ran_s, min(_seen_for(session), planned["timeout_s"]))
        facts["ending_s"] = round(max(0.0, over_s - planned["deadline_s"]), 1)
    elif result is None and planned and _seen_for(session) >= planned["timeout_s"]:
        facts["ending_s"] = round(planned["timeout_s"] - planned["deadline_s"], 1)  # it needed more than it was given
    return facts


def _lost_s(seen: SessionProgress, saved: int, gained: int, ran_s: float, *, failed: bool) -> float:
    if failed and gained == 0:
        return ran_s
    return min(ran_s, max(0, seen.step - saved) / seen.steps_per_s) if seen.step and seen.steps_per_s else 0.0


def lasted(session: SessionRow) -> tuple[float, float]:
    """From when to when a session has used its machine; of one that has not ended, until when it may."""
    since = progress_of(session).running_since or epoch(session.started_at)
    longest = since + (session.facts.get("planned") or {}).get("timeout_s", 0.0)
    if session.ended_at is None:
        return since, longest
    ran_s = session.facts.get("ran_s")
    return since, min(longest, epoch(session.ended_at) if ran_s is None else since + ran_s)


def _seen_for(session: SessionRow) -> float:
    """How long it ran, as seen from outside."""
    seen = progress_of(session)
    if seen.ran_s is not None:
        return seen.ran_s
    began = seen.running_since or epoch(session.started_at)
    return max(0.0, epoch(session.ended_at) - began) if session.ended_at else 0.0


def progress_of(session: SessionRow) -> SessionProgress:
    """What the last look at a session saw of it; nothing when there was none."""
    return SessionProgress.of(session.facts.get("seen") or {})


def time_it_had(session: SessionRow, result: SessionResult | None) -> str:
    """In words, what a session's limit left for training, of one that says it ran out of time; '' for any other."""
    planned = session.facts.get("planned")
    if result is None or OUT_OF_TIME not in result.reason or not planned:
        return ""
    left_s = planned["deadline_s"] - result.timings.get("install", 0.0) - result.timings.get("setup", 0.0)
    had = f"its limit of {planned['timeout_s']:.0f} s leaves {max(0.0, left_s):.0f} s after start and margin"
    steps, train_s = result.counts.get("steps", 0), result.timings.get("train", 0.0)
    return had + (f", of which {steps:,} timesteps took {train_s:.0f} s" if steps and train_s else "")


def past_sessions(sessions: Sequence[SessionRow]) -> list[PastSession]:
    """The closed sessions that left a measurement or, when cut, showed their speed, as the budget reads them."""
    found = []
    for index, session in enumerate(sessions):
        turnaround_s = _turnaround_s(sessions[index - 1], session) if index else None
        if session.facts.get("timings"):
            found.append(_measured(session, turnaround_s))
        elif "ran_s" in session.facts and (progress_of(session).steps_per_s or 0.0) > 0:
            found.append(_cut(session, turnaround_s))
    return found


def _measured(session: SessionRow, turnaround_s: float | None) -> PastSession:
    facts, timings = session.facts, session.facts["timings"]
    # One that ended inside its first rollout has saved nothing, and still shows how long a rollout takes.
    inside = facts.get("counts", {}).get("steps", 0) if session.outcome == "interrupted" else 0
    return PastSession(
        steps=facts["gained"] or inside,
        setup_s=timings.get("install", 0.0) + timings.get("setup", 0.0),
        train_s=sum(timings.get(name, 0.0) for name in ("train", "evaluate", "save")),
        ending_s=facts.get("ending_s"),
        expected_steps=(facts.get("planned") or {}).get("steps"),
        turnaround_s=turnaround_s,
    )


def _cut(session: SessionRow, turnaround_s: float | None) -> PastSession:
    """What the log showed of a session that left no measurement, for no longer than it was seen to run."""
    seen = progress_of(session)
    speed = seen.steps_per_s or 0.0
    train_s = min(session.facts["ran_s"], max(0, (seen.step or 0) - session.min_step) / speed)
    ending_s = session.facts.get("ending_s")
    return PastSession(round(speed * train_s), None, train_s, ending_s=ending_s, turnaround_s=turnaround_s)


def _turnaround_s(before: SessionRow, session: SessionRow) -> float | None:
    """From the end of one session to the start of the next, its queue included."""
    began = progress_of(session).running_since or epoch(session.started_at)
    return max(0.0, began - epoch(before.ended_at)) if before.ended_at else None


def accelerator_gain(sessions: Sequence[SessionRow]) -> float | None:
    """How many times faster than the CPU the newest session that measured it found its accelerator."""
    return next((s.facts["accelerator_gain"] for s in reversed(sessions) if "accelerator_gain" in s.facts), None)
