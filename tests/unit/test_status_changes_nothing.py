"""A status is read while a session may be restored into the tree: it looks, and neither mends nor moves."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.checkpoints.swap import ready
from kaggle_manager.journal import Journal, RunRow
from kaggle_manager.status import describe_run

NOW = 1_800_000_000.0


def run_in(folder: Path) -> tuple[RunRow, TrainingTree]:
    tree = TrainingTree(folder / "models", "walk")
    store = CheckpointStore(tree)
    for step in (10, 20):
        lineage = Lineage("r", 1, None, 0)
        store.save_latest(step=step, target=30, lineage=lineage, bundle_sha256="b", model=b"m", state=b"s")
    row = RunRow("r", "section", "walk", 30, False, str(tree.root), "local", "o", "s", "2026-11-22T00:00:00+00:00")
    return row, tree


def everything_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_damaged_checkpoint_stays_where_it_is(tmp_path: Path) -> None:
    row, tree = run_in(tmp_path)
    (tree.checkpoints / tree.manifest_name(20)).write_text("{}")
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.add_run(row)
        before = everything_in(tmp_path / "models")
        assert describe_run(journal, row, NOW).step == 10
        assert everything_in(tmp_path / "models") == before


def test_a_restore_between_two_of_its_renames_is_left_alone(tmp_path: Path) -> None:
    row, tree = run_in(tmp_path)
    tree.root.rename(ready(tree.root))
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.add_run(row)
        describe_run(journal, row, NOW)
    assert ready(tree.root).is_dir()
    assert not tree.root.exists()


def test_a_finished_run_whose_files_are_cut_or_gone_is_not_just_finished(tmp_path: Path) -> None:
    row, tree = run_in(tmp_path)
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.add_run(row)
        journal.finish_run(row.run_id, "finished", "2026-11-22T01:00:00+00:00")
        whole = describe_run(journal, journal.run(row.run_id), NOW)
        assert not whole.human_action_required
        (tree.checkpoints / tree.model_name(20)).write_bytes(b"")
        cut = describe_run(journal, journal.run(row.run_id), NOW)
    assert (cut.state, cut.human_action_required) == ("finished", True)
    assert "0 bytes where 1 were committed" in cut.why
    assert cut.next.startswith("kaggle-manager checkpoints verify --section section --scenario walk")
