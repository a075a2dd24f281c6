"""What the manager intends and what happened, on disk before and after every side effect.

One SQLite file (write-ahead log, full synchronisation): runs, their sessions, and an append-only list of events. A
session's row is written *before* its kernel is pushed, so a manager killed at any point finds out at its next start
what it may have started. Rows of events are never changed or deleted; secrets are never stored.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from kaggle_manager.errors import NotFound, StorageError
from kaggle_manager.runs.lifecycle import Stage

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, section TEXT NOT NULL, scenario TEXT NOT NULL, target INTEGER NOT NULL,
    quick INTEGER NOT NULL, tree TEXT NOT NULL, platform TEXT NOT NULL, owner TEXT NOT NULL, slug TEXT NOT NULL,
    created_at TEXT NOT NULL, finished_at TEXT, outcome TEXT NOT NULL DEFAULT '',
    settings TEXT NOT NULL DEFAULT '{}');
CREATE TABLE IF NOT EXISTS sessions (
    run_id TEXT NOT NULL REFERENCES runs(run_id), generation INTEGER NOT NULL, stage TEXT NOT NULL,
    parent_sha256 TEXT, min_step INTEGER NOT NULL, bundle_sha256 TEXT NOT NULL,
    baseline_version INTEGER NOT NULL, version INTEGER, outcome TEXT NOT NULL DEFAULT '', why TEXT NOT NULL DEFAULT '',
    fingerprint TEXT NOT NULL DEFAULT '', step INTEGER, started_at TEXT NOT NULL, ended_at TEXT,
    kind TEXT NOT NULL DEFAULT '', facts TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (run_id, generation));
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, run_id TEXT NOT NULL, generation INTEGER, kind TEXT NOT NULL,
    detail TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_of_run ON events (run_id, id);
"""
# Columns that journals of earlier versions lack.
LATER_COLUMNS = (
    ("runs", "settings", "TEXT NOT NULL DEFAULT '{}'"),
    ("sessions", "kind", "TEXT NOT NULL DEFAULT ''"),
    ("sessions", "facts", "TEXT NOT NULL DEFAULT '{}'"),
)


@dataclass(frozen=True)
class RunRow:
    """One target. `tree` is the training tree's folder; `platform` is `local` or `kaggle`.

    `settings` is what a later `tick` needs to go on as the run was started: session limit, seed, platform asked for.
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


@dataclass(frozen=True)
class SessionRow:
    """One launch of a run. `baseline_version` is the kernel's newest version before the push (0: none).

    `fingerprint` identifies a failure's cause and `kind` its sort (`failures.FailureKind`); `step` is the last step
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


class Journal:
    """The journal file.

    Args:
        path: SQLite file; made with its folder when missing.

    Raises:
        StorageError: the file cannot be opened, is not a journal, or the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA)
            self._add_later_columns()
            self._check()
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"The journal {path} cannot be used: {error}.",
                safe="checkpoints and running kernels are untouched",
                # A damaged one is not needed: runs and sessions are found again from the tree and the platform.
                next_step=f"make {path.parent} writable; if the file itself is damaged, move it away and run the same "
                "command again: the run goes on from its training tree",
            ) from error

    @classmethod
    def to_read(cls, path: Path) -> Journal:
        """The journal as it is at one moment, copied into memory; empty when there is no file yet.

        The file may lie in a folder that cannot be written, or belong to a manager at work: it is opened for reading
        only and never held locked. A journal of an earlier version is completed in the copy alone.

        Raises:
            StorageError: the file is not a journal, or cannot be read.
        """
        journal = cls.__new__(cls)
        journal.path, journal._db = path, sqlite3.connect(":memory:", isolation_level=None)
        journal._db.row_factory = sqlite3.Row
        try:
            if path.is_file():
                _copy(path, journal._db)
            journal._db.executescript(SCHEMA)
            journal._add_later_columns()
            journal._check()
            journal._db.execute("PRAGMA query_only=ON")  # what was written would be lost with the copy
        except (sqlite3.Error, OSError) as error:
            journal.close()
            raise StorageError(
                f"The journal {path} cannot be read: {error}.",
                safe="nothing was changed; checkpoints and running kernels are untouched",
                next_step="if the file itself is damaged, move it away and run the same command again: the run goes on "
                "from its training tree",
            ) from error
        return journal

    def _check(self) -> None:
        if (found := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found)

    def _add_later_columns(self) -> None:
        for table, column, kind in LATER_COLUMNS:
            if column not in {row["name"] for row in self._db.execute(f"PRAGMA table_info({table})")}:
                self._db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written inside is written at once, when it ends; of a process that dies in it, nothing is.

        For what must never be known by half: a session's new stage and the event that tells of it.
        """
        with self._atomically():
            yield

    @contextmanager
    def _atomically(self) -> Iterator[sqlite3.Connection]:
        inside = self._db.in_transaction
        if inside:  # of `together`, which begins and ends it
            yield self._db
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            if self._db.in_transaction:  # a full disk has rolled back already
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def add_run(self, run: RunRow) -> None:
        with self._atomically() as db:
            _insert(db, "runs", run)

    def run(self, run_id: str) -> RunRow:
        """Return a run. Raises NotFound."""
        row = self._db.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None:
            raise NotFound(f"The journal {self.path} knows no run {run_id!r}.", next_step="kaggle-manager history")
        return _run(row)

    def runs(self) -> list[RunRow]:
        """All runs, oldest first."""
        return [_run(row) for row in self._db.execute("SELECT * FROM runs ORDER BY created_at, rowid")]

    def open_run(self, tree: Path) -> RunRow | None:
        """The newest unfinished run that trains `tree`."""
        row = self._db.execute(
            "SELECT * FROM runs WHERE tree = ? AND finished_at IS NULL ORDER BY rowid DESC LIMIT 1", (str(tree),)
        ).fetchone()
        return None if row is None else _run(row)

    def newest_run(self, tree: Path) -> RunRow | None:
        """The newest run that trains `tree`, finished or not."""
        row = self._db.execute("SELECT * FROM runs WHERE tree = ? ORDER BY rowid DESC LIMIT 1", (str(tree),)).fetchone()
        return None if row is None else _run(row)

    def reopen_run(self, run_id: str, target: int) -> None:
        """Go on with a run, towards `target`."""
        with self._atomically() as db:
            db.execute(
                "UPDATE runs SET target = ?, finished_at = NULL, outcome = '' WHERE run_id = ?", (target, run_id)
            )

    def change_settings(self, run_id: str, **settings: Any) -> None:
        """Add to a run's settings; a value of None takes one out."""
        with self._atomically() as db:
            db.execute(
                "UPDATE runs SET settings = json_patch(settings, ?) WHERE run_id = ?", (json.dumps(settings), run_id)
            )

    def move_run(self, run_id: str, platform: str, owner: str) -> None:
        """Let a run go on elsewhere. Its lineage, and so its id, stay."""
        with self._atomically() as db:
            db.execute("UPDATE runs SET platform = ?, owner = ? WHERE run_id = ?", (platform, owner, run_id))

    def finish_run(self, run_id: str, outcome: str, at: str) -> None:
        with self._atomically() as db:
            db.execute("UPDATE runs SET finished_at = ?, outcome = ? WHERE run_id = ?", (at, outcome, run_id))

    def add_session(self, session: SessionRow) -> None:
        """Write the intent to push. A second row for one generation is refused by the key."""
        with self._atomically() as db:
            _insert(db, "sessions", session)

    def update_session(self, session: SessionRow, **changes: object) -> SessionRow:
        """Change columns of a session and return its new row."""
        columns = ", ".join(f"{name} = ?" for name in changes)
        with self._atomically() as db:
            db.execute(
                f"UPDATE sessions SET {columns} WHERE run_id = ? AND generation = ?",
                (*map(_stored, changes.values()), session.run_id, session.generation),
            )
        return self._session(session)

    def add_facts(self, session: SessionRow, **facts: Any) -> SessionRow:
        """Add to what is known of a session, and return its new row."""
        with self._atomically() as db:
            db.execute(
                "UPDATE sessions SET facts = json_patch(facts, ?) WHERE run_id = ? AND generation = ?",
                (json.dumps(facts), session.run_id, session.generation),
            )
        return self._session(session)

    def _session(self, session: SessionRow) -> SessionRow:
        key = (session.run_id, session.generation)
        return _session(self._db.execute("SELECT * FROM sessions WHERE run_id = ? AND generation = ?", key).fetchone())

    def drop_intent(self, session: SessionRow) -> None:
        """Take back an intent whose push was surely refused: the generation was never used."""
        with self._atomically() as db:
            db.execute(
                "DELETE FROM sessions WHERE run_id = ? AND generation = ? AND stage = ?",
                (session.run_id, session.generation, Stage.INTENDED),
            )

    def sessions(self, run_id: str) -> list[SessionRow]:
        """The sessions of a run, first generation first."""
        rows = self._db.execute("SELECT * FROM sessions WHERE run_id = ? ORDER BY generation", (run_id,))
        return [_session(row) for row in rows]

    def note(self, run_id: str, generation: int | None, kind: str, at: str, **detail: Any) -> None:
        """Append an event."""
        with self._atomically() as db:
            db.execute(
                "INSERT INTO events (at, run_id, generation, kind, detail) VALUES (?, ?, ?, ?, ?)",
                (at, run_id, generation, kind, json.dumps(detail, sort_keys=True)),
            )

    def events(self, run_id: str) -> list[dict[str, Any]]:
        """The events of a run, oldest first."""
        rows = self._db.execute("SELECT * FROM events WHERE run_id = ? ORDER BY id", (run_id,))
        return [{**dict(row), "detail": json.loads(row["detail"])} for row in rows]


def _copy(path: Path, into: sqlite3.Connection) -> None:
    """Copy a journal as it is, without leaving anything beside it."""
    log = path.with_name(path.name + "-wal")
    # Without a log it is at rest. One with a log is read by an index beside it, which a manager at work has made.
    how = "mode=ro" if log.is_file() else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=30)) as file:
            file.backup(into)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        # No index, and none can be made here: nobody is at work, so a copy elsewhere has all that is in the log.
        with tempfile.TemporaryDirectory() as folder:
            for part in (path, log):
                if part.is_file():
                    shutil.copyfile(part, Path(folder) / part.name)
            with closing(sqlite3.connect(Path(folder) / path.name)) as file:
                file.backup(into)


def _insert(db: sqlite3.Connection, table: str, row: RunRow | SessionRow) -> None:
    names = [field.name for field in fields(row)]
    marks = ", ".join("?" for _ in names)
    values = [_stored(getattr(row, name)) for name in names]
    db.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", values)


def _stored(value: object) -> object:
    return json.dumps(value) if isinstance(value, Mapping) else value


def _run(row: sqlite3.Row) -> RunRow:
    return RunRow(**{**dict(row), "quick": bool(row["quick"]), "settings": json.loads(row["settings"])})


def _session(row: sqlite3.Row) -> SessionRow:
    return SessionRow(**{**dict(row), "stage": Stage(row["stage"]), "facts": json.loads(row["facts"])})
