"""A fresh machine with the credentials and a run id takes the run up, whatever its newest session is doing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from small_project import SCENARIO, SECTION, Bench

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree, unpack_tree
from kaggle_manager.checkpoints.vouched import FILE_NAME
from kaggle_manager.errors import ConfigError, Interrupted, NotFound
from kaggle_manager.orchestrator import adopt
from kaggle_manager.runs.journal import Journal

pytestmark = pytest.mark.slow


def run_id_of(bench: Bench) -> str:
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        return journal.runs()[-1].run_id


def elsewhere(bench: Bench, tmp_path: Path) -> Bench:
    return Bench(bench.project, tmp_path / "another machine", bench.server)


def with_a_checkpoint_of_another_run(folder: Path, root: Path, *, warn: Callable[[str], None]) -> None:
    unpack_tree(folder, root, warn=warn)
    tree, lineage = TrainingTree(root, SCENARIO), Lineage("another", 1, None, 0)
    head = CheckpointStore(tree, warn=warn).find_latest_checkpoint()
    assert head is not None
    other = CheckpointStore(TrainingTree(folder / "other", SCENARIO))
    identity = head.manifest.identity
    other.save_latest(
        step=1,
        target=6,
        lineage=lineage,
        bundle_sha256="b" * 64,
        identity=identity,
        files={"model": b"m", "state": b"s"},
    )
    shutil.copytree(other.tree.checkpoints, tree.checkpoints, dirs_exist_ok=True)


@pytest.mark.parametrize("generation", [1, 2])
def test_a_session_that_was_left_running_is_taken_up_with_the_tree_it_continues(
    bench: Bench, tmp_path: Path, generation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        bench.run(timesteps=6, interrupt_at=f"/{generation} (Ctrl-C")
    other = elsewhere(bench, tmp_path)
    monkeypatch.setattr(adopt, "unpack_tree", with_a_checkpoint_of_another_run)
    adopted = other.manager().adopt(SECTION, run_id_of(bench))
    trusted = (other.workdir / FILE_NAME).read_text() if generation == 2 else ""
    assert trusted.count("adopted from") == generation - 1, "only what the run itself saved"
    assert (adopted.generation, adopted.target) == (generation, 6)
    assert adopted.step == (None if generation == 1 else 2)
    report = other.run(timesteps=6)
    assert (report.state, report.step) == ("finished", 6)
    assert [session.generation for session in report.sessions] == list(range(generation, 4))


def test_a_run_whose_newest_session_left_nothing_goes_on_from_the_tree_in_its_dataset(
    bench: Bench, tmp_path: Path
) -> None:
    bench.plan(g2="crash at once")
    with pytest.raises(Interrupted):
        bench.run(timesteps=6, interrupt_at="/2 (Ctrl-C")
    other = elsewhere(bench, tmp_path)
    other.manager().adopt(SECTION, run_id_of(bench))
    report = other.run(timesteps=6)
    assert [session.outcome for session in report.sessions] == ["crashed", "interrupted", "completed"]
    assert report.sessions[1].gained == 2, "from step 2, not from zero"


def test_what_cannot_be_adopted_says_why_and_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.run(timesteps=2)
    known = run_id_of(bench)
    with pytest.raises(ConfigError, match="known here already"):
        bench.manager().adopt(SECTION, known)
    other = elsewhere(bench, tmp_path)
    with pytest.raises(NotFound, match="no session called"):
        other.manager().adopt(SECTION, "0" * 32)
    with pytest.raises(ConfigError, match="not a run id"):
        other.manager().adopt(SECTION, "../up")
    other.run(timesteps=2)
    with pytest.raises(ConfigError, match="another training"):
        other.manager().adopt(SECTION, known)
