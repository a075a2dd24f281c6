"""What a run came to, as one object: printed for people, or as JSON with a version of its schema."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.system.formatting import training

LIVE = ("queued", "running", "downloading")
"""The states of a run of which a session is on the platform."""
REPORT_SCHEMA = 1


def error_as_json(error: KaggleManagerError) -> str:
    """An error with the fields a report has: `state`, `why`, `next`, `human_action_required`, and its exit code."""
    return json.dumps(
        {
            "schema": REPORT_SCHEMA,
            "state": "error",
            "error": type(error).__name__,
            "exit_code": error.exit_code,
            "why": error.message,
            "safe": error.safe,
            "next": error.next_step,
            "human_action_required": not error.retryable,
        },
        indent=2,
    )


@dataclass(frozen=True)
class SessionSummary:
    """One session: why it ended, what it gained and what it cost.

    Attributes:
        generation: number of the session in its run: 1, 2, 3, ...
        version: what the platform calls its session, as text; None while it is not known.
        address: OWNER/SLUG that it was started under: of another run, where that one led a session they share.
        lane: which lane of such a session is this run's; '' for a session of its own.
        stage: `intended`, `pushed`, `ended` or `closed`.
        outcome: `completed`, `interrupted`, `refused`, `crashed`, ...; '' until it is closed.
        kind: the sort of its failure; '' for none.
        step: environment steps of the run known to be saved.
        gained: environment steps it added to what is saved; None while it has not been restored.
        ran_s: accelerator time it used, in seconds; None while it is not known.
        lost_s: how much of that time the next session had to repeat, in seconds.
        started_at, ended_at: ISO 8601, UTC; None while it has not ended.
        why: one line: why it ended.
        caution: one line: what else it left; '' for nothing the user should know.
        image: digest of the docker image it ran in; '' while the platform has not said.
        versions: of python, torch, numpy, cuda and driver, as far as it has and said them.
        running_since: when it began to run, as its platform says or as it was first seen, ISO 8601; None while it
            waits, or where nobody looked.
    """

    generation: int
    version: str | None
    stage: str
    outcome: str
    kind: str
    step: int | None
    gained: int | None
    ran_s: float | None
    lost_s: float | None
    started_at: str
    ended_at: str | None
    why: str
    address: str = ""
    lane: str = ""
    caution: str = ""
    image: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    running_since: str | None = None


@dataclass(frozen=True)
class RunReport:
    """The state of a run.

    Attributes:
        state: `finished`, `queued`, `running`, `downloading`, `waiting`, `ready`, `stopped`, `failed`, `error` or
            `abandoned`; of a session what the last look at it saw.
        why: one line: why it is in this state.
        next: the next command; '' for none.
        human_action_required: whether the run continues only after the user has done something.
        waiting_until: end of the wait, ISO 8601; None when it does not wait.
        run_id, section, scenario: which run it is.
        seed: of the training; None: the scenario's own.
        unit: what its steps are called.
        platform: its name, such as `local`.
        quick: whether it is a quick run.
        step, target: environment steps saved, and asked for.
        tree: folder of the training tree.
        bundle_sha256: hash of the code of its newest session.
        image: digest of the docker image of the newest session of which it is known; "" for none.
        exactness: up to which step its bits are those of a training that was never interrupted, and what changed them
            there; "" when nothing did.
        best_score, best_step: mean reward and environment steps of the best model; None when none was evaluated.
        progress: what the log of the running session last reported (step, steps_per_s, reward, ...); {} for none.
        forecast: done_at, sessions and accelerator_s still to come; {} when no speed is known, or that date has passed.
        accelerator_s, lost_s: sums over the sessions, in seconds.
        counts: whole numbers summed over the sessions (updates, evaluations, restores, ...).
        sessions: every session of the run, oldest first.
        in_line: whether it waits for room, see `runs.slots`.
    """

    state: str
    why: str
    next: str
    human_action_required: bool
    waiting_until: str | None
    run_id: str
    section: str
    scenario: str
    platform: str
    quick: bool
    step: int
    target: int
    tree: str
    bundle_sha256: str
    image: str
    exactness: str
    best_score: float | None
    best_step: int | None
    progress: dict[str, Any]
    forecast: dict[str, Any]
    accelerator_s: float
    lost_s: float
    counts: dict[str, int]
    sessions: tuple[SessionSummary, ...]
    seed: int | None = None
    unit: str = "timesteps"
    in_line: bool = False

    @property
    def name(self) -> str:
        """What to call it beside others."""
        return training(self.scenario, self.seed, quick=self.quick)

    def as_json(self) -> dict[str, Any]:
        return {"schema": REPORT_SCHEMA, **asdict(self)}
