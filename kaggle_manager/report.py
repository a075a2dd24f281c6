"""What a run came to, as one object: printed for people, or as JSON with a version of its schema."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from kaggle_manager.errors import KaggleManagerError, NotFinished, RemoteError

REPORT_SCHEMA = 1


def error_as_json(error: KaggleManagerError) -> str:
    """An error with the fields a report has: `state`, `why`, `next`, `human_action_required`, and its exit code."""
    # Waiting is enough where the platform is away; everything else waits for a person.
    waiting = isinstance(error, RemoteError | NotFinished)
    return json.dumps(
        {
            "schema": REPORT_SCHEMA,
            "state": "error",
            "error": type(error).__name__,
            "exit_code": error.exit_code,
            "why": error.message,
            "safe": error.safe,
            "next": error.next_step,
            "human_action_required": not waiting,
        },
        indent=2,
    )


@dataclass(frozen=True)
class SessionSummary:
    """One session in words: why it ended and what it gained."""

    generation: int
    version: int | None
    outcome: str
    step: int | None
    why: str


@dataclass(frozen=True)
class RunReport:
    """The state of a run.

    Attributes:
        state: `finished`, `running` or `stopped`.
        why: one line: why it is in this state.
        next: the next command, or '' when there is none.
        human_action_required: True when nothing goes on without a person.
        step, target: timesteps saved and asked for.
        best_score, best_step: of the best model; None when none was evaluated.
        counts: whole numbers summed over the sessions (updates, evaluations, restores, ...).
    """

    state: str
    why: str
    next: str
    human_action_required: bool
    run_id: str
    section: str
    scenario: str
    platform: str
    quick: bool
    step: int
    target: int
    tree: str
    bundle_sha256: str
    best_score: float | None
    best_step: int | None
    counts: dict[str, int]
    sessions: tuple[SessionSummary, ...]

    def as_json(self) -> dict[str, Any]:
        return {"schema": REPORT_SCHEMA, **asdict(self)}

    def to_json(self) -> str:
        return json.dumps(self.as_json(), indent=2, sort_keys=False)
