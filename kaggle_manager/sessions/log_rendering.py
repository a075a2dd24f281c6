"""A session's log and progress as its user sees them. Pure but for the reporter that shows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kaggle_manager.console.reporter import Reporter
from kaggle_manager.protocol.events import BundleEvent, Event, ProgressEvent, parse_event
from kaggle_manager.protocol.sentences import progress, sentence
from kaggle_manager.sessions.progress import SessionProgress


def show_event(event: Event, reporter: Reporter, bundle_sha256: str) -> None:
    """Show an event other than progress, whose line `show_progress` replaces again and again.

    Args:
        bundle_sha256: the code that was built; a session that says it runs other code is reported.
    """
    if text := sentence(event):
        reporter.kernel(text)
    if isinstance(event, BundleEvent) and event.sha256 != bundle_sha256:
        reporter.warn(
            f"this session runs other code ({event.sha256[:12]}…) than was built ({bundle_sha256[:12]}…): "
            "what it leaves will be refused; deleting it on the platform ends it"
        )


def show_progress(seen: SessionProgress, reporter: Reporter, *, left_s: float | None, now: bool = False) -> None:
    """Show how far the training is.

    Args:
        left_s: seconds until this session must end, when that is known.
        now: in a pipe, even if a line was just printed.
    """
    if seen.step is None or seen.target is None:
        return
    event = ProgressEvent(
        step=seen.step,
        target=seen.target,
        steps_per_s=seen.steps_per_s,
        reward=seen.reward,
        metric=seen.metric or None,
        checkpoint=seen.last_checkpoint,
    )
    share = seen.step / seen.target if seen.target else None
    reporter.status(progress(event, left_s), share=share, now=now)


def to_read(lines: Iterable[str], tag: str) -> Iterator[str]:
    """The lines of a log, events in words, without the empty line that an event begins with; see `protocol.events`."""
    gap: str | None = None
    for line in lines:
        event = parse_event(line, tag)
        if gap is not None and event is None:
            yield gap
        gap = line if not line.strip() else None
        if event is not None:
            if text := sentence(event):
                yield text
        elif gap is None:
            yield line
    if gap is not None:
        yield gap
