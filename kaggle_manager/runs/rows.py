"""The rows of the journal as values: a run, a session, what a run waits for and what stopped it. Pure.

`stored` turns a field into what a column holds; `run_of_row` and `session_of_row` read a row back. They are strict:
anything a newer or damaged journal may hold raises ValueError, TypeError or KeyError, which the journal reports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import datetime
from typing import Any

from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.retry_policy import LASTING_S, FailureKind


@dataclass(frozen=True)
class Wait:
    """Nothing is tried for a while.

    Attributes:
        cause: what is waited for; why: the same for the user.
        since: when it began, seconds since the epoch; for_s: how long it lasts, seconds.
        tries: how often each cause has been waited for since the run last went on.
    """

    cause: str
    why: str
    since: float
    for_s: float
    tries: Mapping[str, int] = field(default_factory=dict)

    @property
    def until(self) -> float:
        return self.since + self.for_s

    def is_on(self, now: float) -> bool:
        """Whether it lasts. A clock that was ahead when it began, and is right again, ends it."""
        return 0 <= now - self.since < self.for_s


@dataclass(frozen=True)
class Trouble:
    """What ended the last command, or stopped the run, and has not been overcome since.

    Attributes:
        kind: name of the error's class, or `stopped`.
        retryable: whether time alone may help; see `errors.KaggleManagerError.retryable`.
        met_at: when it was met last, seconds since the epoch; lasted_s: how long, without a success in between.
    """

    kind: str
    message: str
    next_step: str = ""
    retryable: bool = False
    met_at: float = 0.0
    lasted_s: float = 0.0

    @property
    def is_lasting(self) -> bool:
        """Whether what time alone may help has lasted so long that the user should know."""
        return self.retryable and self.lasted_s >= LASTING_S

    @property
    def is_stop(self) -> bool:
        """Whether the run was stopped, by its failures; an error only ends a command."""
        return self.kind == "stopped"


@dataclass(frozen=True)
class Published:
    """A tree that was sent to the platform for the next session; it may still be processed there.

    Attributes:
        manifest_sha256: of its newest checkpoint.
        after, newest, sizes: of the version it becomes, see `platforms.kaggle.datasets.Submission`.
        looked_at: when it was ordered, or looked for last, seconds since the epoch. waited_s: how long before that.
        accepted: the platform has said that it takes it.
        failed: it could not be processed; it is sent anew when the user runs it again.
    """

    manifest_sha256: str
    after: int
    newest: int
    sizes: Mapping[str, int]
    looked_at: float
    waited_s: float = 0.0
    accepted: bool = False
    failed: bool = False


@dataclass(frozen=True)
class RunRow:
    """One target.

    Attributes:
        tree: folder of the training tree. platform: `local` or `kaggle`.
        settings: what a later `tick` needs to go on as the run was started: session limit, seed, a stop asked for.
        wait, trouble: what holds it up now; None for nothing.
        told: what the user was told of since the run last went on, see `orchestrator.told`.
        seen_to: number of the last session whose failure the user has answered by running it again.
        forecast: of the newest push: done_at, sessions, accelerator_s; and `told`, the one that the user knows. {} when
            no speed is known.
        published: the tree that was sent to the platform and no session has taken yet; None for none.
        counts: whole numbers that its sessions reported, summed: updates, evaluations, restores, ...
    """

    run_id: str
    section: str
    scenario: str
    target: int
    quick: bool
    tree: str
    platform: str
    owner: str
    slug: str
    created_at: str
    finished_at: str | None = None
    outcome: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    wait: Wait | None = None
    trouble: Trouble | None = None
    told: str = ""
    seen_to: int = 0
    forecast: Mapping[str, Any] = field(default_factory=dict)
    published: Published | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def stop_asked(self) -> bool:
        """Whether the user asked for a stop, and has not run it again since."""
        return bool(self.settings.get("stopped"))


@dataclass(frozen=True)
class SessionRow:
    """One launch of a run. `baseline_version` is the kernel's newest version before the push (0: none).

    `fingerprint` identifies a failure's cause and `kind` its sort (`retry_policy.FailureKind`); `step` is the last step
    known to be saved. `facts` is what was planned, seen and measured of it, by name.
    """

    run_id: str
    generation: int
    stage: Stage
    parent_sha256: str | None
    min_step: int
    bundle_sha256: str
    baseline_version: int
    started_at: str
    version: int | None = None
    outcome: str = ""
    why: str = ""
    fingerprint: str = ""
    step: int | None = None
    ended_at: str | None = None
    kind: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def refusals(self) -> int:
        """How often what it left was refused."""
        return int(self.facts.get("refusals", 0))


@dataclass(frozen=True)
class Totals:
    """Of all sessions of a run: how many, and the highest steps that they saved and were sent to continue."""

    count: int
    step: int
    min_step: int


def stored(value: object) -> object:
    """What a column holds: tables and values of their own as JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    return json.dumps(value) if isinstance(value, Mapping) else value


def run_of_row(row: Mapping[str, Any]) -> RunRow:
    _check(row, whole=("target", "seen_to"), dates=("created_at", "finished_at"))
    return RunRow(
        **{
            **row,
            "quick": bool(row["quick"]),
            "settings": _table(row["settings"]),
            "forecast": _table(row["forecast"]),
            "counts": {name: int(count) for name, count in _table(row["counts"]).items()},
            "wait": None if row["wait"] is None else _wait(_table(row["wait"])),
            "published": None if row["published"] is None else Published(**_table(row["published"])),
            "trouble": None if row["trouble"] is None else Trouble(**_table(row["trouble"])),
        }
    )


def session_of_row(row: Mapping[str, Any]) -> SessionRow:
    _check(row, whole=("generation", "min_step", "version", "step"), dates=("started_at", "ended_at"))
    FailureKind(row["kind"])  # refused here, in words, when it is none
    facts = _table(row["facts"])
    for name in ("seen", "planned", "counts", "timings"):
        if not isinstance(facts.get(name) or {}, dict):
            raise ValueError(f"{name} of session {row['generation']} is not a table")
    return SessionRow(**{**row, "stage": Stage(row["stage"]), "facts": facts})


def _check(row: Mapping[str, Any], *, whole: Sequence[str], dates: Sequence[str]) -> None:
    for name in whole:
        if row[name] is not None and type(row[name]) is not int:
            raise ValueError(f"{name} = {row[name]!r} is not a whole number")
    for name in dates:
        if row[name] is not None:
            datetime.fromisoformat(row[name])


def _wait(table: dict[str, Any]) -> Wait:
    return Wait(**{**table, "since": float(table["since"]), "for_s": float(table["for_s"])})


def _table(text: str) -> dict[str, Any]:
    table = json.loads(text)
    if not isinstance(table, dict):
        raise ValueError(f"{text[:80]!r} is not a table")
    return table
