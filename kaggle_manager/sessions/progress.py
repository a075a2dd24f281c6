"""What a session's log and status have shown so far, as one value that can be written down and gone on with. Pure.

Claims of the log alone: nothing here is verified, and nothing here decides how a session ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from kaggle_manager.platforms.platform import LogLine, SessionState, SessionStatus
from kaggle_manager.protocol.events import ContainerEvent, Event, ProgressEvent, ResultEvent, ResumeEvent
from kaggle_manager.runs.retry_policy import passed

# A running session that prints nothing for so long is called wedged. Until its first progress it installs packages and
# loads what it continues, which may take longer. In seconds.
SILENT_S, SILENT_AT_START_S = 20 * 60.0, 40 * 60.0


@dataclass(frozen=True)
class SessionProgress:
    """What is known of one session from outside. Times are Unix seconds, as this program saw things happen.

    Attributes:
        state: the platform's newest word, such as "RUNNING"; "" before the first.
        lines: how many lines its log had.
        newest_line_s: seconds since its start at which the newest of them was printed.
        step, target: timesteps trained and asked for.
        steps_per_s, reward: of the newest progress line. metric: what a script calls that; "" for a mean return.
        last_checkpoint: step of the newest checkpoint.
        container: what the session calls itself.
        wedged: it was reported silent, and has printed nothing since.
        why_queued: why it waits in a queue, in the platform's words; "" where there is nothing to say.
        queued_since: when that was first seen. running_since: when it began to run, as the platform tells or as it was
            first seen.
        ran_s: for how long it had run at the newest look, as the platform tells; None where it does not.
        last_line_at: when the newest line arrived here.
        result_at: when the trainer's result event arrived here.
        denied_at: when the platform said last that there is no such session; denied_s: for how long it has.
    """

    state: str = ""
    lines: int = 0
    newest_line_s: float = -1.0
    step: int | None = None
    target: int | None = None
    steps_per_s: float | None = None
    reward: float | None = None
    metric: str = ""
    last_checkpoint: int | None = None
    container: str = ""
    wedged: bool = False
    why_queued: str = ""
    queued_since: float | None = None
    running_since: float | None = None
    ran_s: float | None = None
    last_line_at: float | None = None
    result_at: float | None = None
    denied_at: float | None = None
    denied_s: float = 0.0

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> SessionProgress:
        """From what `as_facts` wrote down, also if another version of this program did."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in facts.items() if name in known})

    def as_facts(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    def has(self, line: LogLine) -> bool:
        """Whether this line was seen before; a log that lost its head counts its lines anew."""
        return line.index < self.lines and line.time_s <= self.newest_line_s

    def after_line(self, line: LogLine, at: float) -> SessionProgress:
        return replace(
            self,
            lines=max(self.lines, line.index + 1),
            newest_line_s=max(self.newest_line_s, line.time_s),
            last_line_at=at,
            wedged=False,
        )

    def after_event(self, event: Event, at: float, *, bundle_sha256: str) -> SessionProgress:
        if isinstance(event, ContainerEvent):
            return replace(self, container=event.container)
        if isinstance(event, ResumeEvent):
            return replace(self, step=event.step, target=event.target)
        if isinstance(event, ProgressEvent):
            return replace(
                self,
                step=event.step,
                target=event.target,
                steps_per_s=event.steps_per_s,
                reward=event.reward,
                metric=event.metric or "",
                last_checkpoint=event.checkpoint or self.last_checkpoint,
            )
        # The same session, pushed with other code: its end is not the end of this one.
        if isinstance(event, ResultEvent) and event.bundle_sha256 == bundle_sha256:
            return replace(self, result_at=self.result_at or at)
        return self

    def after_status(self, status: SessionStatus, at: float) -> SessionProgress:
        seen = replace(self.not_denied(), state=status.state.name, ran_s=status.ran_s, why_queued="")
        if status.state is SessionState.QUEUED:
            return replace(seen, queued_since=self.queued_since or at, why_queued=status.failure_message)
        if status.state is SessionState.RUNNING or status.ran_s is not None:
            return replace(seen, running_since=self.running_since or at - (status.ran_s or 0.0))
        return seen

    def after_denial(self, at: float) -> SessionProgress:
        return replace(self, denied_at=at, denied_s=self.denied_s + passed(self.denied_at or at, at))

    def not_denied(self) -> SessionProgress:
        return replace(self, denied_at=None, denied_s=0.0)

    @property
    def silence_bound_s(self) -> float:
        """How long it may be silent while it runs."""
        return SILENT_AT_START_S if self.step is None or self.steps_per_s is None else SILENT_S
