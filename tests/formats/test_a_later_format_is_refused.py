"""What a later version has written is left as it is, and the error says that an update is what comes next."""

from __future__ import annotations

import json
import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from format_place import RELEASES, put_to_work

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree, find_latest_checkpoint, read_metadata
from kaggle_manager.checkpoints.archive import INDEX_NAME, read_index
from kaggle_manager.checkpoints.sealed_json import seal
from kaggle_manager.config import build_config
from kaggle_manager.errors import UPDATE, KaggleManagerError
from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.protocol.launch_order import read_order
from kaggle_manager.protocol.session_result import parse_result
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sweeps.study import Study
from kaggle_manager.trees.export.listing import LISTING_NAME, parse_listing

LATER = 1_000


def seal_later(path: Path) -> None:
    body = {name: value for name, value in json.loads(path.read_bytes()).items() if name not in ("schema", "seal")}
    path.write_bytes(seal(body, schema=LATER))


def say_later(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"schema": LATER}))


def number_later(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {LATER}")


def toy(place: Path) -> TrainingTree:
    return TrainingTree(place / "work/sections/toy/trained/models", "toy")


def read_result_of(place: Path, path: Path) -> object:
    said = json.loads(path.read_bytes())
    return parse_result(path.read_bytes(), **{name: said[name] for name in ("run_id", "generation", "bundle_sha256")})


def state_of_a_later_trainer(place: Path, path: Path) -> object:
    resume_point = pytest.importorskip("kaggle_manager.trainer.sb3.resume_point")
    return resume_point.read_state(pickle.dumps({"schema": LATER, "record": "{}", "items": {}}))


Reader = Callable[[Path, Path], object]
MANIFESTS = "work/sections/toy/**/*.manifest.json"
STUDY = "work/sweeps/swept/study.json"
CASES: dict[str, tuple[str, Callable[[Path], None], Reader]] = {
    "manifest, looked for": (MANIFESTS, seal_later, lambda place, _: find_latest_checkpoint(toy(place).root, "toy")),
    "manifest, claimed": (MANIFESTS, seal_later, lambda place, _: CheckpointStore(toy(place)).recover()),
    "metadata": (
        "work/sections/*/trained/models/training_metadata.json",
        say_later,
        lambda _, path: read_metadata(path),
    ),
    "archive": (f"work/**/{INDEX_NAME}", seal_later, lambda _, path: read_index(path.parent)),
    "export": (f"export/{LISTING_NAME}", seal_later, lambda _, path: parse_listing(path.read_bytes(), "it")),
    "journal, written": ("work/journal.sqlite", number_later, lambda _, path: Journal(path)),
    "journal, read": ("work/journal.sqlite", number_later, lambda _, path: Journal.to_read(path)),
    "local Kaggle": (
        "work/local_kaggle/world.sqlite3",
        number_later,
        lambda _, path: ServerState(path.parent, address="http://127.0.0.1:9"),
    ),
    "sweep": (STUDY, say_later, lambda _, path: Study.read(path.parent)),
    "trial of a sweep": (
        STUDY,
        say_later,
        lambda place, _: build_config(
            "swept", scenario="swept_trial_0", workdir=place / "work", project_root=place / "project", environ={}
        ),
    ),
    "launch order": ("said/launch_order.json", say_later, lambda _, path: read_order(json.loads(path.read_bytes()))),
    "session result": ("work/**/session_result.json", say_later, read_result_of),
    "state of a training": ("said/launch_order.json", say_later, state_of_a_later_trainer),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_left_as_it_is_and_an_update_comes_next(case: str, tmp_path: Path) -> None:
    pattern, make_later, read = CASES[case]
    place = put_to_work(RELEASES[-1], tmp_path)
    found = sorted(place.glob(pattern))
    for path in found:
        make_later(path)

    def content() -> dict[str, Any]:
        files = (path for path in (place / "work/sections").rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in (*files, *found) if path.suffix != ".lock"}

    before = content()
    with pytest.raises(KaggleManagerError) as refused:
        read(place, found[0])
    assert UPDATE in refused.value.next_step, refused.value
    assert "version" in refused.value.message or "newer" in refused.value.message
    assert refused.value.safe
    assert content() == before
