"""The state of the local Kaggle: one SQLite file and the folders beside it, all under one root.

The server is the only writer, one request at a time; runners speak through the files of their session. Everything that
a restart needs is on disk before a request is answered.

    account.json  limits.json (optional, by hand)  world.sqlite3  server.json  server.log
    image_packages.txt (optional, by hand) and images/    see `image_site`
    sessions/<id>/    one session, see `runner`
    datasets/<id>/<version>/files/    one dataset version, and its archive once somebody asked for it
    inputs/           data of others, put there by hand, see `shelf`
    blobs/<token>     uploads that no dataset has taken yet
    incoming/         dataset versions being made
    trash/            folders on their way out
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

from kaggle_manager.errors import UPDATE, ConfigError
from kaggle_manager.local_kaggle import disk, sandbox
from kaggle_manager.local_kaggle.account import Account

_START_GRACE_S = 60.0  # a runner that has not begun by then never will
SCHEMA = 1
_TABLES = f"""
CREATE TABLE IF NOT EXISTS kernels (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    slug TEXT NOT NULL,
    title TEXT NOT NULL,
    created_at REAL NOT NULL,
    deleted_at REAL
);
CREATE UNIQUE INDEX IF NOT EXISTS living_kernels ON kernels (slug) WHERE deleted_at IS NULL;
CREATE TABLE IF NOT EXISTS sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kernel_id INTEGER NOT NULL REFERENCES kernels (id),
    version INTEGER NOT NULL,
    settings TEXT NOT NULL,  -- JSON: what was pushed
    accelerator TEXT NOT NULL,
    limit_s REAL NOT NULL,
    status TEXT NOT NULL,
    failure TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL,
    ended_at REAL,
    UNIQUE (kernel_id, version)
);
CREATE TABLE IF NOT EXISTS datasets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    slug TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    info TEXT NOT NULL  -- JSON: what else was said about it
);
CREATE TABLE IF NOT EXISTS dataset_versions (
    dataset_id INTEGER NOT NULL REFERENCES datasets (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    notes TEXT NOT NULL,
    failed INTEGER NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,
    ready_at REAL NOT NULL,
    PRIMARY KEY (dataset_id, number)
);
CREATE TABLE IF NOT EXISTS blobs (
    token TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    length INTEGER NOT NULL,
    created_at REAL NOT NULL
);
PRAGMA user_version = {SCHEMA};
"""


@dataclass(frozen=True)
class Limits:
    """Kaggle's limits; `limits.json` in the root may name others. Times in seconds, sizes in bytes.

    Attributes:
        oldest_image, newest_image: numbers of the images that a session can be started in; see `images`.
    """

    session_s: float = 12 * 3600.0
    tpu_session_s: float = 9 * 3600.0
    gpu_sessions: int = 2
    cpu_sessions: int = 5
    tpu_sessions: int = 1
    gpu_week_s: float = 30 * 3600.0
    tpu_week_s: float = 20 * 3600.0
    source_bytes: int = 1024 * 1024
    output_bytes: int = 20 * 1024**3
    output_files: int = 500
    dataset_bytes: int = 200 * 1024**3
    ingestion_s: float = 1.0
    mount_s: float = 0.0
    link_s: float = 3600.0
    oldest_image: int = 1
    newest_image: int = 1

    @classmethod
    def of(cls, root: Path) -> Limits:
        """The limits of the server in `root`.

        Raises:
            ConfigError: `limits.json` is not an object of known names and numbers.
        """
        path = root / "limits.json"
        known = {item.name for item in fields(cls)}
        try:
            given = disk.read_json(path) or {}
            kinds = get_type_hints(cls)
            return cls(**{name: kinds[name](value) for name, value in given.items()})
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ConfigError(
                f"{path} cannot be used: {error!r}.",
                safe="Nothing was started.",
                next_step=f"Give it as one object of numbers; the names are {', '.join(sorted(known))}.",
            ) from error


class ServerState:
    """The state of one server: a root folder and its database.

    Args:
        root: the folder; it exists.
        address: `http://127.0.0.1:PORT`, where the links it gives out lead.
        clock: the time in Unix seconds.
    """

    def __init__(self, root: Path, *, address: str, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self.address = address
        self.clock = clock
        self.account = Account.of(root)
        self.limits = Limits.of(root)
        shutil.rmtree(root / "incoming", ignore_errors=True)  # what a killed server left half made
        for name in ("sessions", "datasets", "blobs", "incoming", "trash"):
            (root / name).mkdir(exist_ok=True)
        self._lock = threading.RLock()
        self._database = sqlite3.connect(root / "world.sqlite3", check_same_thread=False, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        self._check()
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(_TABLES)
        # Numbers of different things start far apart: one taken for another finds nothing.
        for table, first in (("kernels", 100_000), ("datasets", 200_000), ("sessions", 300_000)):
            self._database.execute(
                "INSERT INTO sqlite_sequence (name, seq) SELECT ?, ? "
                "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?)",
                (table, first, table),
            )

    def _check(self) -> None:
        found: int = self._database.execute("PRAGMA user_version").fetchone()[0]
        if found > SCHEMA:
            self._database.close()
            raise ConfigError(
                f"The local Kaggle in {self.root} is of a later version of kaggle-manager (schema {found}; this one "
                f"reads {SCHEMA}).",
                safe="Runs and datasets in that folder are as they were.",
                next_step=f"{UPDATE}; or use another --workdir",
            )

    def close(self) -> None:
        with self._lock:
            self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One request's view: alone, with every session's verdict known, all or nothing."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._settle()
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def session_folder(self, session_id: int) -> Path:
        return self.root / "sessions" / str(session_id)

    def dataset_folder(self, dataset_id: int, number: int) -> Path:
        return self.root / "datasets" / str(dataset_id) / str(number)

    def link(self, path: str) -> str:
        """A full address for `path` that needs no credentials and expires."""
        return self.address + self.account.link(path, self.clock() + self.limits.link_s)

    def tidy(self) -> int:
        """Delete folders that no row names any more; returns how many sessions are alive.

        Waits until none is: a session keeps the inputs it started with, whatever became of them since.
        """
        with self.transaction() as database:
            alive: int = database.execute("SELECT count(*) FROM sessions WHERE ended_at IS NULL").fetchone()[0]
            if alive == 0:
                versions = database.execute(
                    "SELECT dataset_id, number FROM dataset_versions WHERE NOT deleted"
                ).fetchall()
                sessions = database.execute(
                    "SELECT s.id FROM sessions s JOIN kernels k ON k.id = s.kernel_id WHERE k.deleted_at IS NULL"
                ).fetchall()
                known = {self.dataset_folder(row["dataset_id"], row["number"]) for row in versions}
                known |= {self.session_folder(row["id"]) for row in sessions}
                for folder in {*self.root.glob("datasets/*/*"), *self.root.glob("sessions/*")} - known:
                    folder.rename(self.root / "trash" / uuid.uuid4().hex)
        for folder in (self.root / "trash").iterdir():
            shutil.rmtree(folder, ignore_errors=True)  # what resists is tried again next time
        return alive

    def _settle(self) -> None:
        """Bring the sessions that were alive at the last look up to date with what their runners left."""
        for row in self._database.execute("SELECT * FROM sessions WHERE ended_at IS NULL").fetchall():
            status, failure, ended_at = self._look(row)
            if (status, ended_at) != (row["status"], row["ended_at"]):
                self._database.execute(
                    "UPDATE sessions SET status = ?, failure = ?, ended_at = ? WHERE id = ?",
                    (status, failure, ended_at, row["id"]),
                )

    def _look(self, row: sqlite3.Row) -> tuple[str, str, float | None]:
        """(status, failure message, end) of a session that has not been settled."""
        folder = self.session_folder(row["id"])
        started = (folder / "started.json").exists()
        held = disk.is_held(folder / "runner.lock")
        # The verdict is read after the lock: a runner that ends in between has written it by then.
        if verdict := disk.read_json(folder / "verdict.json"):
            return verdict["status"], verdict["failure"], verdict["ended_at"]
        if held or (not started and self.clock() < row["created_at"] + _START_GRACE_S):
            if (folder / "cancel").exists():
                return "CANCEL_REQUESTED", "", None
            return ("RUNNING" if started else "QUEUED"), "", None
        self.ask_to_end(row["id"])  # should it start after all
        if started:
            sandbox.clear(folder, disk.read_json(folder / "order.json"))
        return "ERROR", "The process that ran this session is gone and left no verdict.", self._last_sign(folder)

    def _last_sign(self, folder: Path) -> float:
        """When a lost session was last seen alive: its log is the best witness."""
        log = folder / "log.jsonl"
        return log.stat().st_mtime if log.exists() else self.clock()

    def ask_to_end(self, session_id: int) -> None:
        """Ask a session's runner to end it; it does within a fraction of a second."""
        folder = self.session_folder(session_id)
        folder.mkdir(exist_ok=True)
        (folder / "cancel").touch()
