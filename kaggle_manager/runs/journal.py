"""What the manager intends and what happened, on disk before and after every side effect.

One SQLite file (write-ahead log, full synchronisation): runs, their sessions, and an append-only list of events. A
session's row is written *before* its kernel is pushed, so a manager killed at any point finds out at its next start
what it may have started. Rows of events are never changed or deleted; secrets are never stored. Whatever cannot be read
or written is a `StorageError`, in every method.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from kaggle_manager.errors import NotFound
from kaggle_manager.runs.journal_file import copy_to_read, open_to_write, refusal, refusals_of
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import (
    RunRow,
    SessionRow,
    Totals,
    as_json,
    event_of_row,
    run_of_row,
    session_of_row,
    stored,
    summary_of_row,
)
from kaggle_manager.runs.session_image import moved_after
from kaggle_manager.runs.slots import Place

_OF_SESSION = ", ".join(field.name for field in fields(SessionRow))


class Journal:
    """The journal file.

    Args:
        path: SQLite file; made with its folder when missing.

    Raises:
        StorageError: the file cannot be opened, is not a journal of this version, or the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = open_to_write(path)
        self._db.row_factory = sqlite3.Row

    @classmethod
    def to_read(cls, path: Path) -> Journal:
        """The journal as it is at one moment, see `journal_file.copy_to_read`.

        Raises:
            StorageError: the file is not a journal of this version, or cannot be read.
        """
        journal = cls.__new__(cls)
        journal.path, journal._db = path, copy_to_read(path)
        journal._db.row_factory = sqlite3.Row
        return journal

    def close(self) -> None:
        self._db.close()

    # --- runs ---------------------------------------------------------------------------------------------------------

    def add_run(self, run: RunRow) -> None:
        with self._atomically() as db:
            _insert(db, "runs", replace(run, tree=self._as_stored(run.tree)))

    def run(self, run_id: str) -> RunRow:
        """Return a run.

        Raises:
            NotFound: it is not known here.
        """
        found = self._runs("SELECT * FROM runs WHERE run_id = ?", run_id)
        if not found:
            raise NotFound(
                f"The journal {self.path} knows no run {run_id!r}.", next_step="`status` lists those it knows"
            )
        return found[0]

    def runs(self) -> list[RunRow]:
        """All runs, oldest first."""
        return self._runs("SELECT * FROM runs ORDER BY created_at, rowid")

    def runs_of(self, tree: Path) -> list[RunRow]:
        """The runs of a tree, the newest first; the same folder by another path is the same."""
        here = _folder(tree)
        return [run for run in self._runs("SELECT * FROM runs ORDER BY rowid DESC") if _folder(run.tree) == here]

    def run_of(self, tree: Path, lineage: str | None = None) -> RunRow | None:
        """The run that a training tree is of: the one of its newest checkpoint, else the newest that trained there.

        Args:
            lineage: run id of the newest checkpoint in `tree`, when there is one.
        """
        runs = self.runs_of(tree)
        return next((run for run in runs if run.run_id == lineage), next(iter(runs), None))

    def newest_runs(self) -> frozenset[str]:
        """Of each training tree, the run that trained there last."""
        runs = self._runs("SELECT * FROM runs ORDER BY rowid")
        return frozenset({_folder(run.tree): run.run_id for run in runs}.values())

    def unfinished_run(self, tree: Path) -> RunRow | None:
        """The run that may have a live session of `tree`, whatever the tree holds by now."""
        return next((run for run in self.runs_of(tree) if run.finished_at is None), None)

    def line(self, pool: str) -> list[Place]:
        """Where runs stand that wait for room there."""
        query = "SELECT * FROM runs WHERE finished_at IS NULL AND json_extract(settings, '$.in_line.pool') = ?"
        return [run.place for run in self._runs(query, pool) if run.place and not run.stop_asked]

    def change_run(self, run_id: str, **columns: object) -> None:
        """Change columns of a run."""
        with self._atomically() as db:
            sets = ", ".join(f"{name} = ?" for name in columns)
            db.execute(f"UPDATE runs SET {sets} WHERE run_id = ?", (*map(stored, columns.values()), run_id))

    def change_settings(self, run_id: str, **settings: Any) -> None:
        """Add to a run's settings; a value of None takes one out."""
        with self._atomically() as db:
            db.execute(
                "UPDATE runs SET settings = json_patch(settings, ?) WHERE run_id = ?", (as_json(settings), run_id)
            )

    def reopen_run(self, run_id: str, target: int) -> None:
        """Go on with a run, towards `target`."""
        self.change_run(run_id, target=target, finished_at=None, outcome="")

    def move_run(self, run_id: str, platform: str, owner: str) -> None:
        """Let a run go on elsewhere. Its lineage, and so its id, stay; the images of another platform do not."""
        if self.run(run_id).platform != platform:
            newest = max((session.generation for session in self.sessions(run_id, newest=1)), default=0)
            self.change_settings(run_id, **moved_after(newest))
        self.change_run(run_id, platform=platform, owner=owner, published=None)  # which lies ready over there alone

    def move_tree(self, run_id: str, tree: Path) -> None:
        """Let a run's training tree be found in another place."""
        self.change_run(run_id, tree=self._as_stored(str(tree)))

    def finish_run(self, run_id: str, outcome: str, at: str) -> None:
        self.change_run(run_id, finished_at=at, outcome=outcome)

    # --- sessions -----------------------------------------------------------------------------------------------------

    def add_session(self, session: SessionRow) -> None:
        """Write the intent to push. A second row for one session number is refused by the key."""
        with self._atomically() as db:
            _insert(db, "sessions", session)

    def update_session(self, session: SessionRow, **changes: object) -> SessionRow:
        """Change columns of a session and return its new row."""
        sets = ", ".join(f"{name} = ?" for name in changes)
        with self._atomically() as db:
            db.execute(
                f"UPDATE sessions SET {sets} WHERE run_id = ? AND generation = ?",
                (*map(stored, changes.values()), session.run_id, session.generation),
            )
        return self._again(session)

    def add_facts(self, session: SessionRow, **facts: Any) -> SessionRow:
        """Add to what is known of a session, and return its new row."""
        with self._atomically() as db:
            db.execute(
                "UPDATE sessions SET facts = json_patch(facts, ?) WHERE run_id = ? AND generation = ?",
                (as_json(facts), session.run_id, session.generation),
            )
        return self._again(session)

    def drop_intent(self, session: SessionRow) -> None:
        """Take back an intent whose push was surely refused: the session number was never used."""
        with self._atomically() as db:
            db.execute(
                "DELETE FROM sessions WHERE run_id = ? AND generation = ? AND stage = ?",
                (session.run_id, session.generation, Stage.INTENDED),
            )

    def sessions(self, run_id: str, newest: int = -1) -> list[SessionRow]:
        """The sessions of a run, or so many of the newest; the first one first."""
        query = f"SELECT {_OF_SESSION} FROM sessions WHERE run_id = ? ORDER BY generation DESC LIMIT ?"
        with refusals_of(self.path):
            return [session_of_row(dict(row)) for row in self._db.execute(query, (run_id, newest))][::-1]

    def session(self, run_id: str, generation: int) -> SessionRow | None:
        """One session of a run; None when there is none of this number."""
        query = f"SELECT {_OF_SESSION} FROM sessions WHERE run_id = ? AND generation = ?"
        with refusals_of(self.path):
            row = self._db.execute(query, (run_id, generation)).fetchone()
            return session_of_row(dict(row)) if row else None

    def sharing(self, session: SessionRow) -> list[SessionRow]:
        """Sessions of other runs that share this one, and are not brought home yet."""
        query = f"SELECT {_OF_SESSION} FROM sessions WHERE run_id != ? AND stage != ? AND version = ? "
        query += "AND json_extract(facts, '$.address') = ?"
        with refusals_of(self.path):
            values = (session.run_id, Stage.CLOSED, session.version, session.address)
            return [session_of_row(dict(row)) for row in self._db.execute(query, values)]

    def open_at(self, address: str) -> list[SessionRow]:
        """Sessions, of whichever run, that were pushed to OWNER/SLUG and are not brought home yet."""
        query = f"SELECT {_OF_SESSION} FROM sessions WHERE stage != ? AND json_extract(facts, '$.address') = ?"
        with refusals_of(self.path):
            return [session_of_row(dict(row)) for row in self._db.execute(query, (Stage.CLOSED, address))]

    def totals(self, run_id: str) -> Totals:
        """Over all sessions of a run."""
        query = "SELECT COUNT(*), COALESCE(MAX(step), 0), COALESCE(MAX(min_step), 0) FROM sessions WHERE run_id = ?"
        with refusals_of(self.path):
            return Totals(*map(int, self._db.execute(query, (run_id,)).fetchone()))

    def hours_since(self, run_id: str, target: int) -> float:
        """How long the sessions of a run have lasted that began after it was over before another target than this."""
        earlier = "SELECT MAX(generation) FROM sessions WHERE run_id = ? AND json_extract(facts, '$.early.target') != ?"
        query = "SELECT COALESCE(SUM(ran_s), 0) / 3600.0 FROM sessions WHERE run_id = ? AND generation > "
        query += f"COALESCE(({earlier}), 0)"
        with refusals_of(self.path):
            return float(self._db.execute(query, (run_id, run_id, target)).fetchone()[0])

    def sessions_of(self, pool: str, since: str) -> list[SessionRow]:
        """The sessions of every run there (see `sessions.week`) that may have lasted longer than until `since`."""
        query = f"SELECT {_OF_SESSION} FROM sessions WHERE json_extract(facts, '$.pool') = ? "
        query += "AND (ended_at IS NULL OR ended_at > ?)"
        with refusals_of(self.path):
            return [session_of_row(dict(row)) for row in self._db.execute(query, (pool, since))]

    def versions(self, run_id: str, address: str) -> set[str]:
        """What the platform calls the sessions of the run that were started at OWNER/SLUG."""
        query = "SELECT version FROM sessions WHERE run_id = ? AND version IS NOT NULL "
        query += "AND json_extract(facts, '$.address') = ?"
        with refusals_of(self.path):
            return {str(row["version"]) for row in self._db.execute(query, (run_id, address))}

    def session_summaries(self, run_id: str) -> list[dict[str, Any]]:
        """Of each session what a report shows, without its other facts; the first one first."""
        columns = "generation, version, stage, outcome, kind, step, gained, ran_s, lost_s, started_at, ended_at, why"
        columns += "".join(
            f", coalesce(json_extract(facts, '$.{name}'), '') AS {name}" for name in ("address", "lane", "caution")
        )
        columns += ", coalesce(json_extract(facts, '$.image'), '') AS image"
        columns += ", coalesce(json_extract(facts, '$.versions'), '{}') AS versions"
        columns += ", json_extract(facts, '$.seen.running_since') AS running_since"
        query = f"SELECT {columns} FROM sessions WHERE run_id = ? ORDER BY generation"
        with refusals_of(self.path):
            return [summary_of_row(dict(row)) for row in self._db.execute(query, (run_id,))]

    # --- events -------------------------------------------------------------------------------------------------------

    def note(self, run_id: str, generation: int | None, kind: str, at: str, **detail: Any) -> None:
        """Append an event."""
        with self._atomically() as db:
            db.execute(
                "INSERT INTO events (at, run_id, generation, kind, detail) VALUES (?, ?, ?, ?, ?)",
                (at, run_id, generation, kind, as_json(detail)),
            )

    def events(self, run_id: str, kind: str | None = None) -> list[dict[str, Any]]:
        """The events of a run, or those of one kind, oldest first."""
        only, values = ("", (run_id,)) if kind is None else (" AND kind = ?", (run_id, kind))
        with refusals_of(self.path):
            rows = self._db.execute(f"SELECT * FROM events WHERE run_id = ?{only} ORDER BY id", values)
            return [event_of_row(dict(row)) for row in rows]

    def newest_events(self, kind: str) -> list[dict[str, Any]]:
        """The newest event of a kind of each run, oldest first."""
        newest = "SELECT MAX(id) FROM events WHERE kind = ? GROUP BY run_id"
        query = f"SELECT * FROM events WHERE id IN ({newest}) ORDER BY id"
        with refusals_of(self.path):
            return [event_of_row(dict(row)) for row in self._db.execute(query, (kind,))]

    def has_event(self, run_id: str, kind: str, generation: int) -> bool:
        with refusals_of(self.path):
            query = "SELECT 1 FROM events WHERE run_id = ? AND kind = ? AND generation = ? LIMIT 1"
            return self._db.execute(query, (run_id, kind, generation)).fetchone() is not None

    # --- transactions and rows ----------------------------------------------------------------------------------------

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
        with self._refusals_of_writing():
            self._db.execute("BEGIN IMMEDIATE")
        try:
            with self._refusals_of_writing():
                yield self._db
        except BaseException:
            if self._db.in_transaction:  # a full disk has rolled back already
                self._db.execute("ROLLBACK")
            raise
        with self._refusals_of_writing():
            self._db.execute("COMMIT")

    @contextmanager
    def _refusals_of_writing(self) -> Iterator[None]:
        """Only what SQLite refuses: an error of the code inside stays its own."""
        try:
            yield
        except sqlite3.IntegrityError:  # a defect of the caller
            raise
        except sqlite3.Error as error:
            raise refusal(self.path, error) from error

    def _runs(self, query: str, *values: object) -> list[RunRow]:
        with refusals_of(self.path):
            rows = [run_of_row(dict(row)) for row in self._db.execute(query, values)]
            return [replace(row, tree=self._as_read(row.tree)) for row in rows]

    def _as_stored(self, tree: str) -> str:
        """Relative to the journal, so that a project that is moved as a whole finds its runs again."""
        try:
            return Path(os.path.relpath(tree, self.path.parent)).as_posix()
        except ValueError:  # another drive
            return tree

    def _as_read(self, tree: str) -> str:
        return os.path.normpath(self.path.parent / tree)

    def _again(self, session: SessionRow) -> SessionRow:
        found = self.session(session.run_id, session.generation)
        assert found is not None, "it was just changed"
        return found


def _folder(path: str | Path) -> str:
    """Equal for every path to one folder: links are followed, and on Windows `c:\\` is `C:\\`."""
    return os.path.normcase(os.path.realpath(path))


def _insert(db: sqlite3.Connection, table: str, row: RunRow | SessionRow) -> None:
    names = [field.name for field in fields(row)]
    marks = ", ".join("?" for _ in names)
    values = [stored(getattr(row, name)) for name in names]
    db.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", values)
