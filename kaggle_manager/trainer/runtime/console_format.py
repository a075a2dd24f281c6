"""The trainer's lines for machines, in words for whoever trains on a laptop. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sentence(kind: str, said: Mapping[str, Any]) -> str:
    """A line in words; "" for what the trainer says in words already.

    Args:
        kind: such as "KM_PROGRESS".
        said: its fields, see docs/architecture.md; a number that was not finite is None.
    """
    if kind == "KM_PROGRESS":
        return _progress(said)
    if kind == "KM_EVAL":
        return _evaluation(said)
    return ""


def _progress(said: Mapping[str, Any]) -> str:
    step, target, speed = said["step"], said["target"], said["steps_per_s"]
    share = f" ({step / target:.0%})" if target else ""
    parts = [f"  step {step:,} of {target:,}{share}"]
    if speed:
        parts.append(f"{speed:.3g} steps/s")
    if said["reward"] is not None:
        parts.append(f"reward {said['reward']:.3g}")
    if said["checkpoint"] is not None:
        parts.append(f"saved at {said['checkpoint']:,}")
    if speed and target > step:
        parts.append(f"{_duration((target - step) / speed)} to go")
    return ", ".join(parts)


def _evaluation(said: Mapping[str, Any]) -> str:
    episodes, score = said["episodes"], said["score"]
    mean = "no number" if score is None else f"{score:.3f}"
    played = f"{episodes:,} episode{'s' * (episodes != 1)} in {said['seconds']:.3g} s"
    best = ", the best so far" if said["best"] else ""
    return f"  evaluated at step {said['step']:,}: mean reward {mean} ({played}){best}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
