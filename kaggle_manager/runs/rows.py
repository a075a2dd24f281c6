"""The rows of the journal as values: a run, a session, what a run waits for and what stopped it. Pure.

`stored` turns a field into what a column holds; `run_of_row` and `session_of_row` read a row back. They are strict:
anything a newer or damaged journal may hold raises ValueError, TypeError or KeyError, which the journal reports.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from datetime import datetime
from types import NoneType
from typing import Any, TypeVar

from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.retry_policy import LASTING_S, FailureKind
from kaggle_manager.runs.slots import Place
from kaggle_manager.system.formatting import iso

# Outcomes of sessions that were closed without what they had saved.
GIVEN_UP, GONE = "given up", "gone"

_T = TypeVar("_T")
# What a stored value may be, by the type of its field; those of other fields are read one by one.
_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "str | None": (str, NoneType),
    "int": int,
    "int | None": (int, NoneType),
    "float": (int, float),
    "bool": bool,
    "Mapping[str, int]": dict,
}


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
        after, newest, sizes: of the version it becomes, see `platforms.platform.Submission`.
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
        tree: folder of the training tree. platform: its name, see `RunConfig`.
        slug: of its kernel; another follows where it is kept without a version, see `orchestrator.first_push`.
        settings: what a later `tick` needs to go on as the run was started: session limit, seed, a stop asked for; and
            what is known of the names of its kernel.
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
    def unit(self) -> str:
        """What its steps are called."""
        return str(self.settings.get("unit", "timesteps"))

    @property
    def address(self) -> str:
        """Where its kernel is pushed to."""
        return f"{self.owner}/{self.slug}"

    @property
    def left_names(self) -> tuple[str, ...]:
        """Slugs of the kernels without a version that the platform kept of its first pushes."""
        return tuple(self.settings.get("left", ()))

    @property
    def stop_asked(self) -> bool:
        """Whether the user asked for a stop, and has not run it again since."""
        return bool(self.settings.get("stopped"))

    @property
    def place(self) -> Place | None:
        """Where it stands in line for room; None for nowhere."""
        known = self.settings.get("in_line")
        return Place(self.run_id, known["since"], known["looked_at"]) if known else None


@dataclass(frozen=True)
class SessionRow:
    """One launch of a run. `version` is the platform's own text for its session, `baseline_version` that of the newest
    one of its name before it ("": there was none); nothing is read in either.

    `fingerprint` identifies a failure's cause and `kind` its sort (`retry_policy.FailureKind`); `step` is the last step
    known to be saved. `facts` is what was planned, seen and measured of it, by name.
    """

    run_id: str
    generation: int
    stage: Stage
    parent_sha256: str | None
    min_step: int
    bundle_sha256: str
    baseline_version: str
    started_at: str
    version: str | None = None
    outcome: str = ""
    why: str = ""
    fingerprint: str = ""
    step: int | None = None
    ended_at: str | None = None
    kind: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """OWNER/SLUG that it was pushed to; "" where that is not known."""
        return str(self.facts.get("address", ""))

    @property
    def lane(self) -> str:
        """Which lane of a session that several runs share; "" for a session of its own."""
        return str(self.facts.get("lane", ""))

    @property
    def led_by(self) -> tuple[str, int] | None:
        """Run and number of the session of the run under whose name a shared session was started; None for this one."""
        run_id, _, generation = str(self.facts.get("led_by", "")).partition("/")
        return (run_id, int(generation)) if run_id else None

    @property
    def was_given_up(self) -> bool:
        """Whether it was closed without what it had saved: that was refused again and again, or is gone."""
        return self.outcome in (GIVEN_UP, GONE)

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
    return as_json(value) if isinstance(value, Mapping) else value


def as_json(value: Any) -> str:
    """`value` as JSON that SQLite reads: a number that is not finite, for which JSON has no sign, becomes null."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), sort_keys=True, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# What is reckoned with of settings that are tables.
_NUMBERS_OF_SETTINGS = {
    "shown_empty": ("looked_at", "lasted_s", "looks"),
    "quota_refused": ("until", "left_s"),
    "first_refused": ("at",),
    "image_doubt": ("since",),
    "in_line": ("since", "looked_at"),
}


def run_of_row(row: Mapping[str, Any]) -> RunRow:
    forecast, settings = _table(row["forecast"]), _table(row["settings"])
    if forecast:
        _check(forecast, dates=("done_at", "made_at"), numbers=("sessions", "accelerator_s"))
    if forecast.get("told"):
        _check(forecast["told"], dates=("done_at", "made_at"), numbers=("target",))
    optional = dict.fromkeys(("seed", "session_limit_s", "quota_per_week_s", "image_from", "wheels_sent_again"))
    _check({**optional, **settings}, numbers=tuple(optional))
    if not all(isinstance(slug, str) for slug in settings.get("left", [])):
        raise ValueError(f"left = {settings['left']!r} are not names of kernels")
    for name, numbers in _NUMBERS_OF_SETTINGS.items():
        if settings.get(name):
            _check(settings[name], numbers=numbers)
    _check(row, dates=("created_at", "finished_at"))
    if isinstance(row["target"], int) and row["target"] < 1:
        raise ValueError(f"the target is {row['target']} steps")
    values = {
        "quick": bool(row["quick"]),
        "settings": settings,
        "forecast": forecast,
        "counts": _table(row["counts"]),
        "wait": None if row["wait"] is None else _value(Wait, _table(row["wait"])),
        "published": None if row["published"] is None else _value(Published, _table(row["published"])),
        "trouble": None if row["trouble"] is None else _value(Trouble, _table(row["trouble"])),
    }
    return _value(RunRow, {**row, **values})


def session_of_row(row: Mapping[str, Any]) -> SessionRow:
    _check(row, dates=("started_at", "ended_at"))
    FailureKind(row["kind"])  # refused here, in words, when it is none
    facts = _table(row["facts"])
    for name in ("planned", "counts", "timings"):
        table = facts.get(name) or {}
        _check(table, numbers=tuple(table))
    if facts.get("planned"):
        _check(facts["planned"], numbers=("timeout_s", "deadline_s", "steps"))
    if facts.get("timings"):
        _check(facts, numbers=("gained",))
    texts = ("state", "container", "metric", "why_queued")
    for name, value in (facts.get("seen") or {}).items():
        if (name in texts) != isinstance(value, str) or isinstance(value, dict | list):
            raise ValueError(f"{name} = {value!r} is not what is seen of a session")
    names = ("image", "image_asked", "wheels_damaged")
    words = {name: facts[name] for name in names if name in facts} | (facts.get("versions") or {})
    if wrong := [name for name, value in words.items() if not isinstance(value, str)]:
        raise ValueError(f"{wrong[0]} = {words[wrong[0]]!r} is not text")
    optional = ("gained", "ran_s", "lost_s", "ending_s", "refusals", "accelerator_gain", "target")
    _check(facts, numbers=[name for name in optional if name in facts])
    return _value(SessionRow, {**row, "stage": Stage(row["stage"]), "facts": facts})


def summary_of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a report shows of a session; of every session of a run at each pass, so its dates alone are looked at."""
    for date in (row["started_at"], row["ended_at"]):
        if date is not None:
            datetime.fromisoformat(date)
    since = row["running_since"]
    return {**row, "versions": _table(row["versions"]), "running_since": None if since is None else iso(since)}


# What is read of the events of a kind.
_DATES_OF_EVENTS = {"forecast": ("done_at",)}
_NUMBERS_OF_EVENTS = {"forecast": ("sessions",), "quota": ("left_s", "total_s", "refresh_at"), "waits": ("until",)}


def event_of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    _check(row, dates=("at",), numbers=("generation",))
    detail, kind = _table(row["detail"]), row["kind"]
    _check(detail, dates=_DATES_OF_EVENTS.get(kind, ()), numbers=_NUMBERS_OF_EVENTS.get(kind, ()))
    return {**row, "detail": detail}


def _value(kind: type[_T], table: Mapping[str, Any]) -> _T:
    """A value of its own from what is stored of it, whose names and types are those of its fields."""
    for each in fields(kind):  # type: ignore[arg-type]
        value, accepted = table.get(each.name), _TYPES.get(str(each.type))
        if each.name in table and accepted is not None and not isinstance(value, accepted):
            raise ValueError(f"{each.name} = {value!r} is not {each.type}")
        if each.type == "Mapping[str, int]":
            _check(table.get(each.name, {}), numbers=tuple(table.get(each.name, {})))
    return kind(**table)


def _check(table: Mapping[str, Any], *, dates: Sequence[str] = (), numbers: Sequence[str] = ()) -> None:
    """Refuse a missing name, and what is neither None nor a date from 1970 on, or a number."""
    for name in dates:
        if table[name] is not None and datetime.fromisoformat(table[name]).timestamp() < 0:
            raise ValueError(f"{name} = {table[name]!r} is not a date of a session")
    for name in numbers:
        if not isinstance(table[name], int | float | None):
            raise ValueError(f"{name} = {table[name]!r} is not a number")


def _table(text: str) -> dict[str, Any]:
    table = json.loads(text)
    if not isinstance(table, dict):
        raise ValueError(f"{text[:80]!r} is not a table")
    return table
