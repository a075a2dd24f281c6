"""Events in words, the same for the manager that follows a session and for a training on this machine. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kaggle_manager.checkpoints import Manifest
from kaggle_manager.errors import one_line
from kaggle_manager.protocol.events import BundleEvent, EvaluationEvent, Event, ProgressEvent
from kaggle_manager.system.formatting import count, duration

# In characters, of a reason.
_LONGEST_WHY = 300
# How the reason begins that a training which another program began is not exact before.
TAKEN_IN = "taken in from"


def exactness(exact: Mapping[str, Any]) -> str:
    """Up to where a training has the bits of one that was never interrupted; '' for throughout, or when nobody says.

    What changes while it trains, and no save holds, ends that with the session.

    Args:
        exact: of a checkpoint's manifest. What broke it in any session is there: later sessions carry it forward.
    """
    broken = exact.get("broken")
    found = [entry for entry in broken if isinstance(entry, Mapping)] if isinstance(broken, list) else []
    steps = [entry["step"] for entry in found if type(entry.get("step")) is int]
    if not steps:
        unsaved = exact.get("unsaved")
        names = ", ".join(map(str, unsaved)) if isinstance(unsaved, list) else ""
        return f"exact until a session ends; from there on not, because of {one_line(names, _LONGEST_WHY)}" * bool(
            names
        )
    first = next(entry for entry in found if entry.get("step") == min(steps))
    more = f" (and {len(found) - 1} more later)" if len(found) > 1 else ""
    changes = (
        f"; {one_line(str(entry['changed']), _LONGEST_WHY)} changed on purpose at step {entry['step']:,}"
        for entry in found
        if entry is not first and entry.get("changed") and type(entry.get("step")) is int
    )
    why = one_line(str(first.get("why", "")), _LONGEST_WHY)
    if why.startswith(TAKEN_IN):
        return f"exact from step {min(steps):,} on, where it was {why}{more}{''.join(changes)}"
    return f"exact up to step {min(steps):,}, then {why}{more}{''.join(changes)}"


def score_in_words(manifest: Manifest) -> str:
    """What a best checkpoint is the best by; '' for one without a score."""
    name, value = manifest.metrics.get("metric"), manifest.metrics.get("value")
    if isinstance(name, str) and isinstance(value, int | float):
        return f"{one_line(name, _LONGEST_WHY)} {value:.6g}"
    if manifest.file("model") is None:
        return ""
    return "" if manifest.score is None else f"mean reward {manifest.score:.3f}"


def sentence(event: Event) -> str:
    """An event in words; '' for one that needs none, because the trainer prints what it says beside it."""
    if isinstance(event, ProgressEvent):
        return progress(event)
    if isinstance(event, EvaluationEvent):
        return _evaluation(event)
    return f"runs code sha256 {event.sha256[:12]}…" if isinstance(event, BundleEvent) else ""


def _seconds_to_target(event: ProgressEvent) -> float | None:
    """Seconds of training left at this speed; None when the target is reached, or the speed is not known."""
    if not event.steps_per_s or event.steps_per_s < 0 or event.target <= event.step:
        return None
    seconds = (event.target - event.step) / event.steps_per_s
    return seconds if math.isfinite(seconds) else None


def progress(event: ProgressEvent, session_left_s: float | None = None) -> str:
    """How far a training is, what matters most first: a narrow terminal shows the beginning.

    Args:
        session_left_s: seconds until the session must end; shown where the target is not reached before that.
    """
    parts = [f"step {event.step}/{event.target}"]
    to_target_s = _seconds_to_target(event)
    if to_target_s is not None:
        parts.append(f"target in {duration(to_target_s)}")
    if session_left_s is not None and 0 < session_left_s < (math.inf if to_target_s is None else to_target_s):
        parts.append(f"session ends in {duration(session_left_s)}")
    if event.steps_per_s is not None:
        parts.append(f"{event.steps_per_s:{'.3g' if abs(event.steps_per_s) < 10 else '.0f'}} steps/s")
    if event.reward is not None:
        parts.append(f"{event.metric or 'reward'} {event.reward:.3g}")
    if event.checkpoint is not None:
        parts.append(f"last checkpoint {event.checkpoint}")
    return " · ".join(parts)


def _evaluation(event: EvaluationEvent) -> str:
    score = "unknown" if event.score is None else f"{event.score:.3f}"
    played = count(event.episodes, "episode")
    cost = played if event.seconds is None else f"{played} in {event.seconds:.3g} s"
    return f"evaluated at step {event.step}: mean reward {score} ({cost}){', the best so far' * event.best}"
