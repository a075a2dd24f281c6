"""A session's log and progress in words. Pure but for the reporter it speaks through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaggle_manager.console.formatting import count, duration, number
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.platforms.kaggle.log_lines import parse_event
from kaggle_manager.sessions.progress import SessionProgress


def show_line(text: str, reporter: Reporter, bundle_sha256: str) -> None:
    """Show one line of a kernel's log, whatever it holds.

    Args:
        bundle_sha256: the code that was built; a session that says it runs other code is reported.
    """
    event = parse_event(text)
    if event is None:
        reporter.kernel(text)
    elif event.kind == "KM_PROGRESS":
        reporter.status(_counted(event.data), share=_share(event.data.get("step"), event.data.get("target")))
    elif event.kind == "KM_EVAL":
        reporter.kernel(_evaluation(event.data))
    elif event.kind == "KM_BUNDLE":
        code = event.data["sha256"]
        reporter.kernel(f"runs code sha256 {code[:12]}…")
        if code != bundle_sha256:
            reporter.warn(
                f"this session runs other code ({code[:12]}…) than was built ({bundle_sha256[:12]}…): "
                "what it leaves will be refused; deleting the kernel on Kaggle ends it"
            )
    # The other events are for this program: what they say is shown in words where it is verified.


def show_progress(seen: SessionProgress, reporter: Reporter, *, left_s: float | None, now: bool = False) -> None:
    """Show how far the training is.

    Args:
        left_s: seconds until this session must end, when that is known.
        now: in a pipe, even if a line was just printed.
    """
    if seen.step is None:
        return
    fields = {"step": seen.step, "target": seen.target, "steps_per_s": seen.steps_per_s, "reward": seen.reward}
    parts = [_counted({**fields, "checkpoint": seen.last_checkpoint})]
    to_target_s = None
    if seen.target is not None and seen.steps_per_s and seen.target > seen.step:
        to_target_s = (seen.target - seen.step) / seen.steps_per_s
        parts.append(f"target in {duration(to_target_s)}")
    if left_s is not None and left_s > 0 and (to_target_s is None or to_target_s > left_s):
        parts.append(f"session ends in {duration(left_s)}")
    reporter.status(" · ".join(parts), share=_share(seen.step, seen.target), now=now)


def _counted(data: Mapping[str, Any]) -> str:
    parts = [f"step {data.get('step', '?')}/{data.get('target', '?')}"]
    if (speed := data.get("steps_per_s")) is not None:
        parts.append(f"{number(speed, '.3g' if _is_slow(speed) else '.0f')} steps/s")
    if (reward := data.get("reward")) is not None:
        parts.append(f"reward {number(reward, '.3g')}")
    if (checkpoint := data.get("checkpoint")) is not None:
        parts.append(f"last checkpoint {checkpoint}")
    return " · ".join(parts)


def _is_slow(speed: Any) -> bool:
    return isinstance(speed, int | float) and abs(speed) < 10


def _share(step: Any, target: Any) -> float | None:
    is_known = isinstance(step, int | float) and isinstance(target, int | float) and 0 <= step < 2**53
    return step / target if is_known and 0 < target < 2**53 else None


def _evaluation(data: Mapping[str, Any]) -> str:
    best = ", the best so far" if data.get("best") else ""
    episodes = data.get("episodes")
    played = count(episodes, "episode") if isinstance(episodes, int) else "? episodes"
    cost = f"{played} in {number(data.get('seconds'), '.3g')} s"
    return f"evaluated at step {data.get('step', '?')}: mean reward {number(data.get('score'), '.3f')} ({cost}){best}"
