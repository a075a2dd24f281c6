"""What a session left comes here once: a cut download goes on, what a hash proves is here does not travel again."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from scripted_kaggle import Reply, ScriptedKaggle, answer, serve_file

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import LineageMismatch, OutputDamaged, Unavailable
from kaggle_manager.platforms.platform import SessionRef
from kaggle_manager.protocol.events import ResultEvent, format_event, session_tag
from kaggle_manager.protocol.file_names import RESULT_FILE
from kaggle_manager.protocol.session_result import SessionResult
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.download import DownloadedSession, download_session
from kaggle_manager.sessions.stored_log import LOG_FILE

VERSION = SessionRef("alice", "km-run", "7")
CODE = "c" * 64
SESSION = SessionRow("run", 2, Stage.ENDED, None, 0, CODE, "6", "2026-11-22T00:00:00Z", version="7")
DICE = random.Random(4)
SEALED, OPEN, MODEL = (DICE.randbytes(size) for size in (400_000, 150_000, 50_000))
TREE = {
    "training_tree/checkpoints/replay/0.seg": SEALED,
    "training_tree/checkpoints/replay/1.seg": OPEN,
    "training_tree/checkpoints/model.zip": MODEL,
}


class Session:
    """A scripted session's outputs, and how often each was asked for."""

    def __init__(self, kaggle: ScriptedKaggle, folder: Path) -> None:
        self.kaggle, self.folder, self.said = kaggle, folder, io.StringIO()
        self.slept: list[float] = []

    def leaves(self, files: Mapping[str, bytes], *, result: Mapping[str, Any] | None = None) -> None:
        """These files are listed and served; `result` changes the last word, None leaves it as it should be."""
        entries = [{"name": n, "size": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in files.items()]
        word = {
            "schema": SessionResult.SCHEMA,
            "outcome": "interrupted",
            "exit_code": 0,
            "run_id": "run",
            "generation": 2,
            "bundle_sha256": CODE,
            "files": entries,
            **(result or {}),
        }
        self.serves({**files, RESULT_FILE: json.dumps(word).encode()})

    def serves(self, files: Mapping[str, bytes], *, log: str = "") -> None:
        for name, data in files.items():
            self.kaggle.script(name.rpartition("/")[2], serve_file(data))
        self.kaggle.script("ListKernelSessionOutput", self.listing(files, log=log))

    def listing(self, names: Iterable[str], *, log: str = "") -> Reply:
        files = [{"fileName": name, "url": f"{self.kaggle.url}/{name.rpartition('/')[2]}"} for name in names]
        return answer({"files": files, "log": log})

    def download(self, **options: Any) -> DownloadedSession:
        self.kaggle.seen.clear()
        client = self.kaggle.client()
        return download_session(
            client, VERSION, self.folder, SESSION, Reporter(self.said), self.slept.append, **options
        )

    def asked(self, *names: str) -> list[int]:
        return [len(self.kaggle.asked(name)) for name in names]

    @property
    def text(self) -> str:
        return self.said.getvalue()


@pytest.fixture
def session(tmp_path):
    with ScriptedKaggle() as kaggle:
        yield Session(kaggle, tmp_path / "generation_2")


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (RESULT_FILE, LOG_FILE)
    }


def test_a_download_that_was_cut_goes_on_where_it_was_cut(session):
    session.leaves(TREE)
    session.kaggle.script("1.seg", answer({}, 503))  # for as long as the patience lasts
    session.kaggle.script("0.seg", serve_file(SEALED, cut=300_000), answer({}, 503))
    with pytest.raises(Unavailable):
        session.download()
    session.leaves(TREE)
    downloaded = session.download()
    assert content(session.folder) == TREE
    assert downloaded.result is not None
    assert session.kaggle.asked("0.seg")[0].headers["range"] == "bytes=300000-"
    assert session.asked("0.seg", "1.seg") == [1, 1]


def test_what_is_here_and_verified_is_not_downloaded_again(session):
    session.leaves(TREE)
    session.download()
    session.download()
    assert session.asked("0.seg", "1.seg", "model.zip", RESULT_FILE) == [0, 0, 0, 1]
    assert "0 files downloaded (0 B), 3 downloaded before (600.0 kB)" in session.text


def test_what_is_here_under_the_right_name_and_size_with_other_bytes_is_downloaded(session):
    session.leaves(TREE)
    session.download()
    (session.folder / "training_tree/checkpoints/model.zip").write_bytes(bytes(len(MODEL)))
    session.download()
    assert session.asked("0.seg", "model.zip") == [0, 1]
    assert content(session.folder) == TREE


def test_a_part_of_other_bytes_is_found_out(session):
    session.leaves(TREE)
    part = session.folder / "training_tree/checkpoints/replay/0.seg.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(300_000))
    session.download()
    assert content(session.folder) == TREE


def test_what_an_earlier_listing_left_and_this_last_word_does_not_name_is_not_believed(session):
    session.leaves({**TREE, "training_tree/checkpoints/foreign.manifest.json": b"{}", "notes/x.txt": b"x"})
    session.download()
    (session.folder / "training_tree/checkpoints/replay/7.seg.part").write_bytes(b"half")
    (session.folder / "training_tree/link").symlink_to(session.folder)
    session.leaves(TREE)
    session.download()
    assert content(session.folder) == TREE
    assert not (session.folder / "notes").exists()
    assert not (session.folder / "training_tree/link").is_symlink()


def test_an_earlier_last_word_is_not_believed(session):
    session.leaves(TREE)
    session.download()
    session.serves(TREE)  # now without a last word
    assert session.download().result is None


def test_unchanged_files_of_the_local_tree_do_not_travel(session, tmp_path):
    local = tmp_path / "models"
    (local / "checkpoints/replay").mkdir(parents=True)
    (local / "checkpoints/replay/0.seg").write_bytes(SEALED)
    (local / "checkpoints/replay/1.seg").write_bytes(OPEN[:-10])  # it has grown since
    (local / "checkpoints/model.zip").write_bytes(bytes(len(MODEL)))  # same name and size
    session.leaves(TREE)
    session.download(local_tree=local)
    assert session.asked("0.seg", "1.seg", "model.zip") == [0, 1, 1]
    assert content(session.folder) == TREE
    assert "1 unchanged in the local tree (400.0 kB)" in session.text
    here, there = session.folder / "training_tree/checkpoints/replay/0.seg", local / "checkpoints/replay/0.seg"
    assert here.stat().st_ino != there.stat().st_ino  # damage to one is not damage to both


def test_the_same_bytes_under_two_names_travel_once(session, tmp_path):
    """A best model is often a checkpoint's: kept once where it was made, sent as two files."""
    tree = {**TREE, "training_tree/best_model/best_model.zip": MODEL}
    session.leaves(tree)
    session.download()
    assert session.asked("model.zip", "best_model.zip") == [1, 0]
    assert content(session.folder) == tree
    shutil.rmtree(session.folder)
    session.kaggle.script("model.zip", *[serve_file(b"flipped")] * 9)
    with pytest.raises(OutputDamaged, match=r"model\.zip"):
        session.download()


def test_the_local_tree_is_only_read(session, tmp_path):
    local = tmp_path / "models"
    (local / "checkpoints/replay").mkdir(parents=True)
    (local / "checkpoints/replay/0.seg").write_bytes(SEALED)
    session.leaves(TREE)
    session.download(local_tree=local)
    assert content(local) == {"checkpoints/replay/0.seg": SEALED}


def killed(tmp_path: Path) -> tuple[dict[str, bytes], str]:
    """The tree of a session that was killed: two real checkpoints."""
    tree = TrainingTree(tmp_path / "remote/training_tree", "little")
    store = CheckpointStore(tree)
    for step in (100, 200):
        store.save_latest(
            step=step,
            files={
                "model": b"model %d" % step * 5000,
                "state": b"state %d" % step,
                f"nets/{step}.pt": b"own %d" % step,
            },
            target=400,
            lineage=Lineage("run", 2, None, 0),
            bundle_sha256=CODE,
            identity={},
        )
    return content(tmp_path / "remote"), tree.name("latest", "model", 200)


def test_a_session_without_a_last_word_is_downloaded_once_by_what_its_manifests_vouch_for(session, tmp_path):
    files, model = killed(tmp_path)
    session.serves(files)
    session.download()
    assert content(session.folder) == files
    assert session.asked(model) == [1]
    session.download()
    assert content(session.folder) == files
    assert session.asked(model) == [0]


def test_a_damaged_file_of_a_killed_session_does_not_keep_the_rest_away(session, tmp_path):
    files, model = killed(tmp_path)
    name = next(name for name in files if name.endswith(model))
    session.serves({**files, name: b"flipped"})
    downloaded = session.download()
    assert downloaded.tree is not None
    (valid,) = CheckpointStore(TrainingTree(downloaded.tree, "little")).valid_checkpoints()
    assert valid.step == 100


def test_a_last_word_that_is_announced_is_waited_for(session):
    session.leaves(TREE)
    event = ResultEvent(
        run_id="run",
        generation=2,
        bundle_sha256=CODE,
        outcome="completed",
        reason="",
        exit_code=0,
        step=1,
        output_files=3,
    )
    text = format_event(event, session_tag("run", 2))
    log = json.dumps([{"stream_name": "stdout", "time": 1.0, "data": text}])
    late, whole = session.listing(TREE, log=log), session.listing({**TREE, RESULT_FILE: b""}, log=log)
    session.kaggle.script("ListKernelSessionOutput", late, late, whole)
    assert session.download().result is not None
    assert len(session.slept) == 2


def test_a_session_that_only_its_log_ended_is_not_taken_for_one_that_left_nothing(session):
    session.kaggle.script("ListKernelSessionOutput", session.listing(()))
    with pytest.raises(Unavailable, match="shows no outputs"):
        session.download(ended_by_log=True)
    assert session.download().result is None  # and without that knowledge it is


def test_a_last_word_of_another_session_changes_nothing_here(session):
    session.leaves(TREE)
    session.download()
    session.leaves(TREE, result={"generation": 1})
    with pytest.raises(LineageMismatch):
        session.download()
    assert content(session.folder) == TREE


@pytest.mark.parametrize("renamed", [(), ("zip",), ("zip", "state")])
def test_a_save_that_was_cut_between_its_renames_comes_back_whole(session, tmp_path, renamed):
    files, _ = killed(tmp_path)
    newest = "training_tree/checkpoints/little_checkpoint_200_steps"
    for end in ("manifest.json", "state", "zip"):
        if end not in renamed:
            files[f"{newest}.{end}.next"] = files.pop(f"{newest}.{end}")
    session.serves(files)
    downloaded = session.download()
    assert content(session.folder) == files
    store = CheckpointStore(TrainingTree(downloaded.tree, "little"))
    assert store.valid_checkpoints()[0].step == 200


def test_a_cut_save_of_best_and_final_comes_back_with_statistics_and_a_scripts_own_files(session, tmp_path):
    killed(tmp_path)
    tree = TrainingTree(tmp_path / "remote/training_tree", "little")
    facts = {"target": 400, "lineage": Lineage("run", 2, None, 0), "bundle_sha256": CODE}
    files = {"model": b"usable", "statistics": b"of the observations", "nets/a.pt": b"own"}
    CheckpointStore(tree).save_best(score=1.0, step=200, files=files, **facts)
    CheckpointStore(tree).save_final(step=200, files=files, **facts)
    for kind, cut in (("best", ("nets/a.pt",)), ("final", ("model", "nets/a.pt"))):
        manifest = tree.folder(kind) / tree.manifest_name(kind)
        for path in (manifest, *(tree.path(kind, role) for role in cut)):
            path.rename(f"{path}.next")
    session.serves(content(tmp_path / "remote"))
    store = CheckpointStore(TrainingTree(session.download().tree, "little"))
    for found in (store.best(), store.final()):
        assert {role: found.read(role) for role in files} == files


@pytest.mark.parametrize("users", [b"", b"{}", b"{" * 5000, b"not json", b"\xff\xfe", b'{"schema": 3}'])
def test_a_users_file_in_the_place_of_the_result_costs_a_killed_session_nothing(session, tmp_path, users):
    files, _ = killed(tmp_path)
    session.serves({**files, RESULT_FILE: users})
    assert session.download().result is None
    assert content(session.folder) == files
    assert not (session.folder / RESULT_FILE).exists()


def test_in_the_last_try_one_damaged_or_missing_file_costs_no_other(session, tmp_path):
    files, model = killed(tmp_path)
    damaged = next(name for name in files if name.endswith(model))
    gone = next(name for name in files if "best_model" in name or name.endswith("100_steps.state"))
    session.leaves(files)
    session.kaggle.script(damaged.rpartition("/")[2], serve_file(b"flipped"))
    session.kaggle.script("ListKernelSessionOutput", session.listing([RESULT_FILE, *sorted(set(files) - {gone})]))
    with pytest.raises(OutputDamaged):
        session.download()
    downloaded = session.download(settle_for_less=True)
    assert downloaded.result is not None
    assert f"{damaged} is damaged" in session.text
    assert set(content(session.folder)) == set(files) - {gone}


def test_a_file_that_is_named_and_never_listed_is_damage(session):
    session.leaves(TREE)
    session.kaggle.script("ListKernelSessionOutput", session.listing([RESULT_FILE, *list(TREE)[1:]]))
    with pytest.raises(OutputDamaged, match=r"0\.seg"):
        session.download()
    assert session.asked("1.seg") == [0]
