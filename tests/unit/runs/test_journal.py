"""The journal: intents before effects, and nothing lost by a killed process."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import pytest
from full_disk import no_file_over

from kaggle_manager.errors import NotFound, StorageError
from kaggle_manager.runs import journal_file
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.journal_file import VERSION, refusal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow, SessionRow

RUN = RunRow("r1", "section", "scenario", 100, False, "/tree", "local", "local", "km-x", "2026-01-01T00:00:00+00:00")


def session(generation: int) -> SessionRow:
    return SessionRow("r1", generation, Stage.INTENDED, None, 0, "b" * 64, "", "2026-01-01T00:00:00+00:00")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.sqlite")) as opened:
        opened.add_run(RUN)
        yield opened


@pytest.fixture
def reader(journal: Journal) -> Iterator[Journal]:
    """The same file, opened once more."""
    with closing(Journal(journal.path)) as opened:
        yield opened


def test_what_was_written_is_read_back_after_reopening(journal: Journal) -> None:
    journal.add_session(session(1))
    journal.update_session(session(1), stage=Stage.PUSHED, version="7")
    journal.note("r1", 1, "pushed", "2026-01-01T00:00:01+00:00", version=7)
    journal.close()
    with closing(Journal(journal.path)) as again:
        assert again.run("r1") == RUN
        assert [(s.stage, s.version) for s in again.sessions("r1")] == [(Stage.PUSHED, "7")]
        assert again.events("r1")[0]["detail"] == {"version": 7}


def test_a_generation_cannot_be_intended_twice(journal: Journal) -> None:
    journal.add_session(session(1))
    with pytest.raises(sqlite3.IntegrityError):
        journal.add_session(session(1))


def test_only_an_intent_can_be_taken_back(journal: Journal) -> None:
    journal.add_session(session(1))
    journal.update_session(session(1), stage=Stage.PUSHED, version="1")
    journal.drop_intent(session(1))
    assert len(journal.sessions("r1")) == 1


def test_an_unfinished_run_is_found_by_its_tree_and_a_finished_one_is_not(journal: Journal) -> None:
    found = journal.unfinished_run(Path("/tree"))
    assert found is not None
    assert found.run_id == "r1"
    journal.finish_run("r1", "finished", "2026-01-02T00:00:00+00:00")
    assert journal.unfinished_run(Path("/tree")) is None
    journal.reopen_run("r1", 200)
    assert journal.run("r1").target == 200
    assert journal.unfinished_run(Path("/tree")) is not None


def test_the_run_of_a_tree_is_that_of_its_checkpoints_else_the_newest(journal: Journal) -> None:
    journal.add_run(replace(RUN, run_id="r2", created_at="2026-01-02T00:00:00+00:00"))
    newest, restored = journal.run_of(Path("/tree")), journal.run_of(Path("/tree"), "r1")
    assert (newest and newest.run_id, restored and restored.run_id) == ("r2", "r1")
    assert journal.run_of(Path("/another")) is None


def test_a_tree_is_the_same_by_a_link_and_after_its_project_was_moved(tmp_path: Path) -> None:
    here = tmp_path / "project"
    (here / "tree").mkdir(parents=True)
    with closing(Journal(here / "state/journal.sqlite")) as journal:
        journal.add_run(replace(RUN, tree=str(here / "tree")))
        (tmp_path / "link").symlink_to(here)
        assert journal.run_of(tmp_path / "link/tree") == replace(RUN, tree=str(here / "tree"))
    (tmp_path / "link").unlink()
    there = here.rename(tmp_path / "moved")
    with closing(Journal(there / "state/journal.sqlite")) as journal:
        found = journal.run_of(there / "tree")
    assert found is not None
    assert found.tree == str(there / "tree")


def test_what_belongs_together_is_written_whole_or_not_at_all(journal: Journal, reader: Journal) -> None:
    journal.add_session(session(1))
    with journal.together():
        journal.update_session(session(1), stage=Stage.PUSHED, version="1")
        journal.note("r1", 1, "pushed", "2026-01-01T00:00:01+00:00")
        assert reader.sessions("r1")[0].stage is Stage.INTENDED
        assert reader.events("r1") == []
    assert reader.sessions("r1")[0].stage is Stage.PUSHED

    def ends_and_fails() -> None:
        with journal.together():
            journal.update_session(session(1), stage=Stage.ENDED)
            journal.add_session(session(1))

    with pytest.raises(sqlite3.IntegrityError):
        ends_and_fails()
    assert reader.sessions("r1")[0].stage is Stage.PUSHED


def test_an_unknown_run_is_not_found(journal: Journal) -> None:
    with pytest.raises(NotFound, match="no run 'nope'"):
        journal.run("nope")


def test_a_file_that_is_no_journal_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"this is not a database, it is a text of some length" * 50)
    with pytest.raises(StorageError, match="cannot be used"):
        Journal(tmp_path / "journal.sqlite")


def made_by(path: Path, version: int) -> Path:
    with closing(sqlite3.connect(path)) as database:
        journaling = "PRAGMA journal_mode=WAL"  # as every version has written it
        database.executescript(f"{journaling}; CREATE TABLE runs (run_id TEXT); PRAGMA user_version = {version};")
    return path


@pytest.mark.parametrize(("version", "who"), [(0, "development version"), (VERSION + 1, "newer kaggle-manager")])
def test_a_journal_of_another_version_is_refused_in_words_and_left_as_it_is(
    version: int, who: str, tmp_path: Path
) -> None:
    path = made_by(tmp_path / "journal.sqlite", version)
    before = path.read_bytes()
    for opened in (Journal, Journal.to_read):
        with pytest.raises(StorageError, match=who) as refused:
            opened(path)
        assert refused.value.next_step
    assert path.read_bytes() == before


RUN_READERS = {"run", "runs", "run_of"}
DAMAGES = {
    "UPDATE runs SET settings = 'no JSON'": RUN_READERS,
    'UPDATE runs SET settings = \'{"first_refused": {"at": "noon"}}\'': RUN_READERS,
    "UPDATE runs SET wait = '[1]'": RUN_READERS,
    "UPDATE runs SET trouble = '{\"unknown\": 1}'": RUN_READERS,
    "UPDATE runs SET counts = '{\"updates\": []}'": RUN_READERS,
    "ALTER TABLE runs ADD COLUMN newer TEXT": RUN_READERS,
    "UPDATE runs SET created_at = 'yesterday'": RUN_READERS,
    "UPDATE runs SET target = 'far'": RUN_READERS,
    "UPDATE runs SET target = 0": RUN_READERS,
    "UPDATE sessions SET ended_at = 'soon'": {"sessions"},
    "UPDATE sessions SET facts = '{\"seen\": [1]}'": {"sessions"},
    f"UPDATE events SET detail = '{'[' * 100_000}'": {"events"},
    "UPDATE sessions SET stage = 'of a newer version'": {"sessions"},
    "UPDATE sessions SET facts = '3'": {"sessions"},
    "UPDATE sessions SET kind = 'of a newer version'": {"sessions"},
    "UPDATE sessions SET started_at = x'17'": {"sessions"},
    "UPDATE events SET detail = '{'": {"events"},
    "DROP TABLE events": {"events", "has_event"},
}


@pytest.mark.parametrize(("damage", "refusing"), DAMAGES.items())
def test_a_damaged_row_is_a_typed_error_in_every_method_that_reads_it(
    damage: str, refusing: set[str], journal: Journal
) -> None:
    journal.add_session(session(1))
    journal.note("r1", 1, "pushed", "2026-01-01T00:00:01+00:00")
    with closing(sqlite3.connect(journal.path)) as database, database:
        database.execute(damage)
    readings = {
        "run": lambda: journal.run("r1"),
        "runs": journal.runs,
        "run_of": lambda: journal.run_of(Path("/tree")),
        "sessions": lambda: journal.sessions("r1"),
        "events": lambda: journal.events("r1"),
        "has_event": lambda: journal.has_event("r1", "pushed", 1),
    }
    for name in readings:
        if name in refusing:
            with pytest.raises(StorageError) as refused:
                readings[name]()
            assert refused.value.next_step
        else:
            readings[name]()


def test_a_reader_that_comes_by_a_link_sees_what_a_writer_has_not_put_into_the_file_yet(
    journal: Journal, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere/journal.sqlite"
    link.symlink_to(journal.path)
    with closing(Journal.to_read(link)) as reader:
        assert [run.run_id for run in reader.runs()] == ["r1"]


def test_a_full_disk_is_not_called_damage(tmp_path: Path) -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    assert "free space" in refusal(tmp_path / "journal.sqlite", full).next_step


def test_a_reader_sees_what_was_committed_and_writes_nothing(journal: Journal) -> None:
    with closing(Journal.to_read(journal.path)) as reader:
        assert reader.run("r1") == RUN
        with pytest.raises(StorageError, match="readonly"):
            reader.add_session(session(1))
    journal.close()
    before = sorted(journal.path.parent.iterdir())
    with closing(Journal.to_read(journal.path)) as reader:
        assert reader.run("r1") == RUN
    assert sorted(journal.path.parent.iterdir()) == before
    nothing = journal.path.parent / "nowhere" / "journal.sqlite"
    with closing(Journal.to_read(nothing)) as reader:
        assert reader.runs() == []
    assert not nothing.parent.exists()


def test_a_journal_that_cannot_be_written_is_read_with_all_that_its_log_still_holds(
    journal: Journal, tmp_path: Path
) -> None:
    """A folder in the place of its index, which thus cannot be made: not even by root."""
    journal.note("r1", 1, "pushed", "2026-01-01T00:00:01+00:00")
    there = tmp_path / "there"
    (there / "journal.sqlite-shm").mkdir(parents=True)
    for name in ("journal.sqlite", "journal.sqlite-wal"):
        shutil.copyfile(tmp_path / name, there / name)
    assert (there / "journal.sqlite-wal").stat().st_size > 0
    with closing(Journal.to_read(there / "journal.sqlite")) as reader:
        assert len(reader.events("r1")) == 1
    (there / "journal.sqlite-wal").unlink()
    with pytest.raises(StorageError, match="cannot be used"):
        Journal(there / "journal.sqlite")


@pytest.mark.skipif(os.name == "nt", reason="RLIMIT_FSIZE")
@pytest.mark.parametrize("log_is_empty", [True, False])
def test_what_a_writer_leaves_that_a_full_disk_has_refused_keeps_no_reader_out(
    log_is_empty: bool, tmp_path: Path
) -> None:
    """It leaves the beginning of an index, and a log: an empty one, or that of a manager which was killed."""
    at_work, path = tmp_path / "journal.sqlite", tmp_path / "full/journal.sqlite"
    path.parent.mkdir()
    with closing(Journal(at_work)) as journal:
        journal.add_run(RUN)
    with closing(Journal(at_work)) as journal:
        if not log_is_empty:
            journal.note("r1", 1, "pushed", "2026-01-01T00:00:01+00:00")
        for file in tmp_path.glob("journal.sqlite*"):
            if not file.name.endswith("-shm"):
                shutil.copyfile(file, path.parent / file.name)
    copies = 0 if log_is_empty else 32_000  # what is copied is smaller, and an index is larger
    with no_file_over(copies):
        with pytest.raises(StorageError, match="disk I/O error"):
            Journal(path)
        assert (path.parent / "journal.sqlite-shm").stat().st_size <= copies
        assert ((path.parent / "journal.sqlite-wal").stat().st_size == 0) is log_is_empty
        with closing(Journal.to_read(path)) as reader:
            assert len(reader.runs()) == 1
            assert len(reader.events("r1")) == (not log_is_empty)


WRITER_WITHOUT_A_LOG = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size=1")
database.execute("BEGIN IMMEDIATE")
database.execute("UPDATE runs SET target = 999")
for number in range(200):
    database.execute("INSERT INTO events (at, run_id, kind, detail) VALUES ('', 'r1', 'x', ?)", ("x" * 4000,))
print("half written", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_where_no_log_can_be_kept_a_reader_sees_nothing_that_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither beside the writer, which has written half of it into the file, nor after its death."""
    monkeypatch.setattr(journal_file, "_set_write_ahead_log", lambda database: None)
    monkeypatch.setattr(journal_file, "PATIENCE_S", 0.1)
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path)) as journal:
        journal.add_run(RUN)
    with closing(Journal.to_read(path)) as reader:
        assert reader.run("r1") == RUN
    command = [sys.executable, "-c", WRITER_WITHOUT_A_LOG, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half written\n"
        with pytest.raises(StorageError, match="locked"):
            Journal.to_read(path)
        writer.send_signal(signal.SIGKILL)
    with closing(Journal.to_read(path)) as reader:
        assert reader.run("r1") == RUN
        assert reader.events("r1") == []


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        (PureWindowsPath(r"\\server\share\a b\journal.sqlite"), "file:////server/share/a%20b/journal.sqlite?mode=ro"),
        (PureWindowsPath(r"C:\a\journal.sqlite"), "file:///C%3A/a/journal.sqlite?mode=ro"),
        (PurePosixPath("/a/50%?#/journal.sqlite"), "file:///a/50%25%3F%23/journal.sqlite?mode=ro"),
    ],
)
def test_a_journal_on_a_share_has_an_address_that_sqlite_takes(path: PurePath, uri: str) -> None:
    assert journal_file._uri(path, "mode=ro") == uri


def test_an_unreadable_journal_is_refused_in_words_to_readers_too(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"this is not a database, it is a text of some length" * 50)
    with pytest.raises(StorageError, match="cannot be used"):
        Journal.to_read(tmp_path / "journal.sqlite")


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_committed_intent_survives_a_kill_of_its_writer(tmp_path: Path) -> None:
    program = (
        "import sys, time; sys.path[:0] = [sys.argv[2], sys.argv[2] + '/tests/support']\n"
        "from pathlib import Path\n"
        "from tests.unit.runs.test_journal import RUN, session\n"
        "from kaggle_manager.runs.journal import Journal\n"
        "j = Journal(Path(sys.argv[1])); j.add_run(RUN); j.add_session(session(1)); print('written', flush=True)\n"
        "time.sleep(60)\n"
    )
    file = tmp_path / "journal.sqlite"
    root = str(Path(__file__).resolve().parents[3])
    writer = subprocess.Popen([sys.executable, "-c", program, str(file), root], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer.stdout:
        assert writer.stdout.readline() == "written\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    with closing(Journal(file)) as journal:
        assert [s.stage for s in journal.sessions("r1")] == [Stage.INTENDED]


OPENER = """
import sys, time
from pathlib import Path
from kaggle_manager.runs.journal import Journal
begin = float(sys.stdin.readline())
for number in range(12):
    while time.time() < begin + 0.03 * number:  # all of them at one moment
        pass
    Journal(Path(sys.argv[1]) / f"{number}.sqlite").close()
"""


def test_commands_that_begin_a_journal_at_the_same_moment_share_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPENER, str(tmp_path)]
    openers = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write(f"{time.time() + 0.2}\n")
        opener.stdin.flush()
    assert [opener.communicate()[1] for opener in openers] == [""] * 4


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (sqlite3.SQLITE_IOERR_LOCK, "has no locks that work"),
        (sqlite3.SQLITE_PROTOCOL, "has no locks that work"),
        (sqlite3.SQLITE_BUSY, "another program"),
        (sqlite3.SQLITE_FULL, "free space"),
        (sqlite3.SQLITE_CORRUPT, "move it away"),
    ],
)
def test_only_damage_is_advised_to_be_moved_away(tmp_path: Path, code: int, says: str) -> None:
    error = sqlite3.OperationalError("refused")
    error.sqlite_errorcode = code
    advice = refusal(tmp_path / "journal.sqlite", error).next_step
    assert says in advice
    assert ("move it away" in advice) == (code == sqlite3.SQLITE_CORRUPT)


def test_a_folder_is_one_tree_in_either_spelling_of_windows(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.normcase", str.lower)  # what it does there
    assert journal.run_of(Path("/TREE")) is not None


def test_a_number_that_is_not_finite_is_written_as_unknown(journal: Journal) -> None:
    session = SessionRow("r1", 1, Stage.ENDED, None, 0, "b", "", RUN.created_at)
    journal.add_session(session)
    nan = float("nan")
    facts = journal.add_facts(session, ran_s=1.5, other=[nan, 2.0]).facts
    assert facts == {"ran_s": 1.5, "other": [None, 2.0]}
    journal.note("r1", 1, "closed", RUN.created_at, lost_s=float("inf"))
    assert journal.events("r1")[-1]["detail"] == {"lost_s": None}


def test_a_folder_whose_name_is_no_utf8_is_read_and_never_called_damage(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"w\xff")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    with closing(Journal(folder / "journal.sqlite")) as journal, pytest.raises(StorageError) as raised:
        journal.run(folder.name)
    assert "not text in UTF-8" in str(raised.value)
    assert "move it away" not in str(raised.value)
    with closing(Journal.to_read(folder / "journal.sqlite")) as journal:
        assert journal.runs() == []
