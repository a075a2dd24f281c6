"""The journal's SQLite file: opened for writing, or copied for reading; of this version, or refused in words."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePath
from urllib.parse import quote

from kaggle_manager.errors import UPDATE, StorageError
from kaggle_manager.system.place import check

VERSION = 5
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, section TEXT NOT NULL, scenario TEXT NOT NULL, target INTEGER NOT NULL,
    quick INTEGER NOT NULL, tree TEXT NOT NULL, platform TEXT NOT NULL, owner TEXT NOT NULL, slug TEXT NOT NULL,
    created_at TEXT NOT NULL, finished_at TEXT, outcome TEXT NOT NULL, settings TEXT NOT NULL,
    wait TEXT, trouble TEXT, told TEXT NOT NULL, seen_to INTEGER NOT NULL, forecast TEXT NOT NULL,
    published TEXT, counts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
    run_id TEXT NOT NULL REFERENCES runs(run_id), generation INTEGER NOT NULL, stage TEXT NOT NULL,
    parent_sha256 TEXT, min_step INTEGER NOT NULL, bundle_sha256 TEXT NOT NULL,
    baseline_version TEXT NOT NULL, version TEXT, outcome TEXT NOT NULL, why TEXT NOT NULL,
    fingerprint TEXT NOT NULL, step INTEGER, started_at TEXT NOT NULL, ended_at TEXT,
    kind TEXT NOT NULL, facts TEXT NOT NULL,
    gained INTEGER AS (json_extract(facts, '$.gained')) STORED, ran_s REAL AS (json_extract(facts, '$.ran_s')) STORED,
    lost_s REAL AS (json_extract(facts, '$.lost_s')) STORED,
    PRIMARY KEY (run_id, generation));
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, run_id TEXT NOT NULL, generation INTEGER, kind TEXT NOT NULL,
    detail TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_of_run ON events (run_id, kind, generation);
PRAGMA user_version = {VERSION};
"""
_SAFE = "nothing was changed; checkpoints and running sessions are untouched"
_MOVE_AWAY = "move it away and run the same command again: the run continues from its training tree"
# What comes of file locks that the file system does not have (sqlite.org/rescode.html).
_OF_THE_LOCKS = (
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_UNLOCK,
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
    sqlite3.SQLITE_IOERR_SHMLOCK,
)
# So long another command is waited for; what it writes at once takes milliseconds.
PATIENCE_S = 30.0
_OF_THE_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


def open_to_write(path: Path) -> sqlite3.Connection:
    """The file, made with its folder when missing.

    Raises:
        StorageError: it cannot be opened, is not a journal of this version, or the disk refuses.
    """
    with refusals_of(path):
        check(path, is_file=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)
        try:
            _set_write_ahead_log(database)
            database.execute("PRAGMA synchronous=FULL")
            _make_or_check(database, path)
        except BaseException:
            database.close()
            raise
        return database


def copy_to_read(path: Path) -> sqlite3.Connection:
    """The journal as it is at one moment, in memory; empty when there is no file yet.

    The file may lie in a folder that cannot be written, or belong to a manager at work: it is opened for reading only
    and never held locked.

    Raises:
        StorageError: the file is not a journal of this version, or cannot be read.
    """
    check(path, is_file=True)
    path = path.resolve()  # its log lies beside the file, not beside a link to it
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        with refusals_of(path):
            if path.exists():
                _copy(path, copy)
            _make_or_check(copy, path)
            copy.execute("PRAGMA query_only=ON")  # what was written would be lost with the copy
    except BaseException:
        copy.close()
        raise
    return copy


@contextmanager
def refusals_of(path: Path) -> Iterator[None]:
    """Whatever the file, the disk or a damaged row refuses inside becomes a `StorageError` with the way out."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise refusal(path, error) from error
    except UnicodeEncodeError as error:
        raise StorageError(
            f"The journal {path} cannot name {error.object}: it is not text in UTF-8 here.",
            safe=_SAFE,
            next_step="set PYTHONUTF8=1 where the locale is not UTF-8; else rename that folder",
        ) from error
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        ArithmeticError,
    ) as error:  # JSON that is none, an unknown stage or column
        raise StorageError(
            f"The journal {path} is damaged, or was written by a newer version: {error}.",
            safe=_SAFE,
            next_step=f"update kaggle-manager; if the file itself is damaged, {_MOVE_AWAY}",
        ) from error


def refusal(path: Path, error: sqlite3.Error | OSError) -> StorageError:
    """What the disk or the file refused, in words; a full disk is no damage, and neither is another command."""
    code = getattr(error, "sqlite_errorcode", None)
    is_disk = isinstance(error, OSError) or (code is not None and code & 0xFF in _OF_THE_DISK)
    next_step = f"if the file itself is damaged, {_MOVE_AWAY}"
    if code in _OF_THE_LOCKS:
        next_step = f"the file system of {path.parent} has no locks that work: use a folder on a disk of this machine, "
        next_step += "--workdir FOLDER"
    elif is_disk:
        next_step = f"free space, or make {path.parent} writable, and run the same command again"
    elif code is not None and code & 0xFF == sqlite3.SQLITE_BUSY:
        next_step = f"another program has held it for {PATIENCE_S:g} s: run the same command again when it has ended"
    return StorageError(f"The journal {path} cannot be used: {error}.", safe=_SAFE, next_step=next_step)


def _set_write_ahead_log(database: sqlite3.Connection) -> None:
    """SQLite does not wait here, as it does elsewhere, for another command that opens a new file at this moment."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _make_or_check(database: sqlite3.Connection, path: Path) -> None:
    # One statement, and so one moment: another command may make the tables now.
    about = "SELECT user_version, EXISTS (SELECT 1 FROM sqlite_master) FROM pragma_user_version"
    found, has_tables = database.execute(about).fetchone()
    if found > VERSION:
        raise StorageError(
            f"The journal {path} was written by a newer kaggle-manager (its version is {found}; this one reads "
            f"{VERSION}).",
            safe=_SAFE,
            next_step=f"{UPDATE}; or use another --workdir",
        )
    if has_tables and found < VERSION:
        raise StorageError(
            f"The journal {path} was written by a development version of kaggle-manager before its first release "
            f"(version {found}; this one reads {VERSION}).",
            safe=_SAFE,
            next_step=_MOVE_AWAY,
        )
    if not has_tables:
        database.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
    elif (problem := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise sqlite3.DatabaseError(problem)


def _copy(path: Path, into: sqlite3.Connection) -> None:
    """Copy a journal as it is, without leaving anything beside it."""
    log, undo = path.with_name(path.name + "-wal"), path.with_name(path.name + "-journal")
    # Of those that keep a log, one with nothing in it is at rest, and any other is read by an index beside it, which a
    # manager at work has made. Where a file system can have no such index, SQLite's locks say what is committed.
    how = "immutable=1" if _keeps_log(path) and not _has_content(log) else "mode=ro"
    try:
        with closing(sqlite3.connect(_uri(path, how), uri=True, timeout=PATIENCE_S, isolation_level=None)) as file:
            file.execute("BEGIN")
            file.execute("SELECT 1 FROM sqlite_master").fetchone()  # waits for a writer; the copy would, for ever
            file.backup(into)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in _OF_THE_DISK or error.sqlite_errorcode in _OF_THE_LOCKS:
            raise
        # No index, and none can be made here (the disk is full, or may not be written), or a writer that died: nobody
        # is at work, so a copy elsewhere has all that is in the log, and nothing that was not committed.
        with tempfile.TemporaryDirectory() as folder:
            for part in (path, log, undo):
                if part.is_file():
                    shutil.copyfile(part, Path(folder) / part.name)
            with closing(sqlite3.connect(Path(folder) / path.name)) as file:
                file.execute("PRAGMA locking_mode=EXCLUSIVE")  # its index is in memory then
                file.backup(into)


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _keeps_log(path: Path) -> bool:
    """Whether the file's header says that it has a write-ahead log."""
    with path.open("rb") as file:
        return file.read(20)[18:] == b"\2\2"


def _uri(path: PurePath, how: str) -> str:
    """With no host, whatever the path: SQLite takes that of a Windows share for one, and refuses it."""
    name = path.as_posix()
    return f"file://{'' if name.startswith('/') else '/'}{quote(os.fsencode(name))}?{how}"  # bytes: it may be no UTF-8
