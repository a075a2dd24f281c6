"""The journal: intents before effects, and nothing lost by a killed process."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from kaggle_manager.errors import NotFound, StorageError
from kaggle_manager.runs.journal import Journal, RunRow, SessionRow
from kaggle_manager.runs.lifecycle import Stage

RUN = RunRow("r1", "section", "scenario", 100, False, "/tree", "local", "local", "km-x", "2026-01-01T00:00:00+00:00")


def session(generation: int) -> SessionRow:
    return SessionRow("r1", generation, Stage.INTENDED, None, 0, "b" * 64, "s" * 64, 0, "2026-01-01T00:00:00+00:00")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    opened = Journal(tmp_path / "journal.sqlite")
    opened.add_run(RUN)
    return opened


def test_what_was_written_is_read_back_after_reopening(journal: Journal) -> None:
    journal.add_session(session(1))
    journal.update_session(session(1), stage=Stage.PUSHED, version=7)
    journal.note("r1", 1, "pushed", "2026-01-01T00:00:01+00:00", version=7)
    journal.close()
    again = Journal(journal.path)
    assert again.run("r1") == RUN
    assert [(s.stage, s.version) for s in again.sessions("r1")] == [(Stage.PUSHED, 7)]
    assert again.events("r1")[0]["detail"] == {"version": 7}


def test_a_generation_cannot_be_intended_twice(journal: Journal) -> None:
    journal.add_session(session(1))
    with pytest.raises(sqlite3.IntegrityError):
        journal.add_session(session(1))


def test_only_an_intent_can_be_taken_back(journal: Journal) -> None:
    journal.add_session(session(1))
    journal.update_session(session(1), stage=Stage.PUSHED, version=1)
    journal.drop_intent(session(1))
    assert len(journal.sessions("r1")) == 1


def test_an_unfinished_run_is_found_by_its_tree_and_a_finished_one_is_not(journal: Journal) -> None:
    found = journal.open_run(Path("/tree"))
    assert found is not None
    assert found.run_id == "r1"
    journal.finish_run("r1", "finished", "2026-01-02T00:00:00+00:00")
    assert journal.open_run(Path("/tree")) is None
    journal.reopen_run("r1", 200)
    assert journal.run("r1").target == 200
    assert journal.open_run(Path("/tree")) is not None


def test_what_belongs_together_is_written_whole_or_not_at_all(journal: Journal) -> None:
    journal.add_session(session(1))
    reader = Journal(journal.path)
    with journal.together():
        journal.update_session(session(1), stage=Stage.PUSHED, version=1)
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


def test_a_reader_sees_what_was_committed_and_writes_nothing(journal: Journal) -> None:
    reader = Journal.to_read(journal.path)
    assert reader.run("r1") == RUN
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.add_session(session(1))
    journal.close()
    before = sorted(journal.path.parent.iterdir())
    assert Journal.to_read(journal.path).run("r1") == RUN
    assert sorted(journal.path.parent.iterdir()) == before
    nothing = journal.path.parent / "nowhere" / "journal.sqlite"
    assert Journal.to_read(nothing).runs() == []
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
    assert len(Journal.to_read(there / "journal.sqlite").events("r1")) == 1
    (there / "journal.sqlite-wal").unlink()
    with pytest.raises(StorageError, match="cannot be used"):
        Journal(there / "journal.sqlite")


def test_an_unreadable_journal_is_refused_in_words_to_readers_too(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"this is not a database, it is a text of some length" * 50)
    with pytest.raises(StorageError, match="cannot be read"):
        Journal.to_read(tmp_path / "journal.sqlite")


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_committed_intent_survives_a_kill_of_its_writer(tmp_path: Path) -> None:
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[2])\n"
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
    assert [s.stage for s in Journal(file).sessions("r1")] == [Stage.INTENDED]
