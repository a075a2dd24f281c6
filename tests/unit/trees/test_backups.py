"""Every kept copy is listed, a backup is a whole tree, and what is freed is never the last copy nor the tree."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from small_trees import SCENARIO, config_in, content, flip, plant
from typer.testing import CliRunner

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.checkpoints.tree_lock import hold_tree
from kaggle_manager.cli.commands import app
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import CheckpointCorrupt, CheckpointNotFound, ConfigError, OutputDamaged
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.trees.backups import (
    Copy,
    back_up,
    find_copies,
    free,
    newest_valid,
    plan_limit,
    plan_prune,
    stamped_name,
    within_limit,
)
from kaggle_manager.trees.compatibility import current_identity
from kaggle_manager.trees.recover import head_of, set_aside


def copy_of(kind: str, number: int, *, size: int = 10, step: int | None = 1, in_use: bool = False) -> Copy:
    return Copy(kind, Path(f"{kind}{number}"), step, 1, "run", size, f"2026-01-{number:02}", "", in_use)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A tree, and one copy of each kind; the journal knows the run, and that its second session is still open."""
    config = config_in(tmp_path)
    plant(config.tree)
    plant(config.downloads / "run" / "generation_1" / "training_tree", (1,))
    plant(config.downloads / "run" / "generation_2" / "training_tree", (2,))
    plant(config.replaced / "run" / "before_generation_2", (1,))
    plant(config.archive / stamped_name(config), (1, 3), run_id="earlier")
    (config.tree / "quarantine" / "broken_1").mkdir(parents=True)
    (config.tree / "quarantine" / "broken_1" / "reason.txt").write_text("its hash\n")
    journal = Journal(config.journal)
    tree, at = str(config.tree), "2026-01-01"
    for run_id, place in (("run", tree), ("quick", tree + "_quick")):
        journal.add_run(RunRow(run_id, "s", SCENARIO, 9, False, place, "local", "me", "slug", at))
    for generation, stage in ((1, Stage.CLOSED), (2, Stage.ENDED)):
        journal.add_session(SessionRow("run", generation, stage, None, 0, "", "", at))
    journal.close()
    return config


def kinds(copies: list[Copy]) -> list[str]:
    return sorted(copy.kind for copy in copies)


def test_every_copy_of_this_tree_is_listed_and_none_of_another(config: RunConfig) -> None:
    plant(config.downloads / "quick" / "generation_1" / "training_tree", run_id="quick")
    plant(config.archive / stamped_name(replace(config, tree=config.tree.with_name("models_quick"))), run_id="run")
    plant(config.tree.with_name("models_archived"), run_id="on the laptop")
    (config.state / "backups" / "cut.incoming").mkdir(parents=True)
    found = find_copies(config)
    assert kinds(found) == ["archive", "archive", "download", "download", "quarantine", "replaced"]
    assert [copy.folder.parent.name for copy in found if copy.in_use] == ["generation_2"]
    assert next(copy.reason for copy in found if copy.kind == "quarantine") == "its hash"


def test_a_backup_is_the_whole_tree_verified_and_goes_back_by_one_command(config: RunConfig, tmp_path: Path) -> None:
    before = content(config.tree)
    made = back_up(config, "before an experiment")
    assert (made.kind, made.step, made.reason) == ("backup", 2, "before an experiment")
    whole = {name: data for name, data in before.items() if not name.startswith("quarantine")}
    assert content(made.folder) == {**whole, "reason.txt": b"before an experiment\n"}
    assert made in find_copies(config)
    assert back_up(config, "again").folder != made.folder
    flip(config.tree / "checkpoints" / TrainingTree(config.tree, SCENARIO).name("latest", "model", 2))
    assert back_up(config, "of what is left").step == 1
    with pytest.raises(CheckpointNotFound):
        back_up(config_in(tmp_path / "empty"), "nothing")


def test_a_backup_that_was_cut_is_no_backup_and_its_remains_go(config: RunConfig) -> None:
    cut = config.state / "backups" / f"{stamped_name(config)}.incoming"
    plant(cut)
    assert "backup" not in kinds(find_copies(config))
    back_up(config, "another")
    assert not cut.exists()


def test_prune_is_dry_unless_told_and_never_touches_the_tree_nor_the_newest_copy(config: RunConfig) -> None:
    before = content(config.state)
    run, options = CliRunner().invoke, ["--workdir", str(config.state)]
    dry = json.loads(run(app, ["checkpoints", "prune", *options, "--json"]).stdout)
    assert (dry["dry_run"], dry["freed"], len(dry["copies"])) == (True, 0, 3)
    assert dry["bytes"] == sum(copy["size"] for copy in dry["copies"]) > 0
    assert "nothing was touched" in run(app, ["checkpoints", "prune", *options]).stdout
    assert {name: data for name, data in content(config.state).items() if "lock" not in name} == before

    done = json.loads(run(app, ["checkpoints", "prune", *options, "--yes", "--json"]).stdout)
    assert (done["dry_run"], done["freed"]) == (False, dry["bytes"])
    left = content(config.state)
    tree = config.tree.relative_to(config.state).as_posix()
    kept = {name: data for name, data in before.items() if name.startswith(tree) and "quarantine" not in name}
    assert kept.items() <= left.items()
    assert kinds(find_copies(config)) == ["archive", "download"], "the newest, and the one a session needs"


def test_prune_waits_for_whoever_works_in_the_tree(config: RunConfig) -> None:
    with hold_tree(config.tree):
        done = CliRunner().invoke(app, ["checkpoints", "prune", "--workdir", str(config.state), "--yes"])
    assert done.exit_code == 10
    assert len(find_copies(config)) == 5


def test_the_newest_copy_that_verifies_is_spared_even_when_newer_ones_do_not(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    for number, moment in ((1, "20260101T000000"), (2, "20260102T000000")):
        plant(config.archive / stamped_name(config).replace(stamped_name(config)[-15:], moment), (number,))
    newer, older = sorted(find_copies(config), key=lambda copy: copy.folder.name, reverse=True)
    flip(newer.folder / "checkpoints" / TrainingTree(newer.folder, SCENARIO).name("latest", "model", 2))
    assert newest_valid([newer, older], SCENARIO) == older
    assert plan_prune([newer, older], older) == []


def test_of_copies_saved_within_one_second_the_newest_is_the_one_of_the_later_session(tmp_path: Path) -> None:
    """Of a tree whose sessions take less than a second, the error would name the command that goes back too far."""
    config, same = config_in(tmp_path), "2026-01-01T00:00:00+00:00"
    mine = current_identity(config)
    plant(config.replaced / "run" / "before_generation_2", (1, 2), identity=mine, saved_at=same)
    newest = plant(
        config.downloads / "run/generation_2/training_tree", (4,), generation=2, identity=mine, saved_at=same
    )
    damaged = plant(config.archive / stamped_name(config), (3, 9), generation=2, identity=mine, saved_at=same)
    flip(damaged.checkpoints / damaged.name("latest", "model", 9))
    assert [copy.step for copy in find_copies(config)] == [9, 4, 2]
    with pytest.raises(CheckpointCorrupt) as caught:
        head_of(CheckpointStore(TrainingTree(config.tree, SCENARIO)), config, saved_step=4)
    assert str(newest.root) in caught.value.next_step.splitlines()[0]


def test_the_plan_spares_the_newest_what_is_in_use_and_other_kinds() -> None:
    copies = [copy_of("archive", 4), copy_of("backup", 3), copy_of("download", 2, in_use=True), copy_of("download", 1)]
    assert plan_prune(copies, copies[0]) == [copies[1], copies[3]]
    assert plan_prune(copies, copies[0], keep=2) == [copies[3]]
    assert plan_prune(copies, copies[0], kinds=["backup"]) == [copies[1]]
    with pytest.raises(ConfigError):
        plan_prune(copies, None, keep=0)


def test_over_the_limit_what_can_be_had_again_goes_first_and_the_newest_never() -> None:
    copies = [copy_of("backup", 5), copy_of("archive", 4), copy_of("download", 3), copy_of("download", 2)]
    assert plan_limit(copies, copies[0], 40) == []
    assert plan_limit(copies, copies[0], 35) == [copies[3]]
    assert plan_limit(copies, copies[0], 20) == [copies[3], copies[2]]
    assert plan_limit(copies, copies[0], 0) == [copies[3], copies[2], copies[1]]


def test_a_new_archive_drops_what_is_over_the_limit_and_says_so(config: RunConfig) -> None:
    assert within_limit(config) == []
    newest = set_aside(config, "--fresh was given")
    assert newest is not None
    lines = within_limit(replace(config, keep_bytes=0))
    assert kinds(find_copies(config)) == ["archive", "download"]
    assert len(lines) == 3
    assert all("KM_KEEP_GB" in line for line in lines)


def test_what_is_freed_is_never_reached_through_a_link(config: RunConfig, tmp_path: Path) -> None:
    outside = plant(tmp_path / "outside")
    link = config.archive / stamped_name(config).replace("2026", "2025")
    link.symlink_to(outside.root)
    assert all(copy.folder != link for copy in find_copies(config))
    with pytest.raises(ConfigError, match="symbolic link"):
        free([replace(find_copies(config)[0], folder=link)])
    assert outside.root.is_dir()


def test_a_tree_without_a_good_checkpoint_is_not_backed_up(config: RunConfig) -> None:
    tree = TrainingTree(config.tree, SCENARIO)
    for step in (1, 2):
        flip(tree.checkpoints / tree.name("latest", "model", step))
    with pytest.raises((CheckpointNotFound, OutputDamaged)):
        back_up(config, "too late")


def test_a_restored_backup_is_named_and_so_is_what_it_replaced(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    plant(config.tree, identity=current_identity(config))
    run, options = CliRunner().invoke, ["--workdir", str(config.state)]
    made = back_up(config, "before an experiment")
    listed = run(app, ["checkpoints", "ls", *options]).stdout
    assert f"`latest` is the newest backup: step 2 in {made.folder}" in listed
    told = run(app, ["restore", "--from", "latest", *options])
    assert told.exit_code == 0, told.output
    assert f"restoring the backup of step 2, session 1, saved {made.saved_at}, from {made.folder}" in told.stdout
    assert "replaced by the backup of step 2: " in run(app, ["checkpoints", "ls", *options]).stdout
    (replaced,) = [copy for copy in find_copies(config) if copy.kind == "archive"]
    again = run(app, ["restore", "--from", replaced.folder.name, *options])
    assert f"from {replaced.folder}" in again.stdout, "any copy is known by its name"
    unknown = run(app, ["restore", "--from", "newest", *options])
    assert (unknown.exit_code, "called 'newest'" in unknown.stderr) == (9, True)
    assert "km checkpoints ls" in unknown.stderr


def test_the_command_it_prints_can_be_typed_as_it_stands(tmp_path: Path) -> None:
    config = config_in(tmp_path / "my work's folder")
    plant(config.tree, identity=current_identity(config))
    run, workdir = CliRunner().invoke, ["--workdir", str(config.state)]
    printed = run(app, ["checkpoints", "backup", *workdir]).stdout.split("back again: km ")[1]
    assert run(app, shlex.split(printed)).exit_code == 0
