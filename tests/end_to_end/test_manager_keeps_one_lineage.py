"""One tree is one lineage: damage falls back or asks, another experiment is refused whole, zero must be asked for."""

from __future__ import annotations

import re
import shlex
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from small_project import SCENARIO, SECTION, Bench

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.checkpoints.vouched import Vouched
from kaggle_manager.config import build_config
from kaggle_manager.errors import (
    CheckpointCorrupt,
    CheckpointIncompatible,
    CheckpointNotFound,
    ConfigError,
    Interrupted,
    NotFinished,
    StorageError,
    VerificationError,
)
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sessions import watch
from kaggle_manager.status.overview import overview
from kaggle_manager.status.run_status import describe_all
from kaggle_manager.trees.compatibility import current_identity

pytestmark = pytest.mark.slow

NET = "sections/small/section.toml", r"^net_arch = .*$"


def damage(bench: Bench, *steps: int) -> None:
    for step in steps:
        path = bench.tree.checkpoints / bench.tree.name("latest", "model", step)
        path.write_bytes(b"?" * path.stat().st_size)


def status(bench: Bench) -> tuple[str, bool]:
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        report = describe_all(journal, time.time())[0]
    return report.state, report.human_action_required


def save_one(bench: Bench, *, step: int, target: int) -> dict[str, Any]:
    """A checkpoint nobody's journal knows of; what others beside it have in common with it."""
    config = build_config(SECTION, workdir=bench.workdir, project_root=bench.project)
    common = {"lineage": Lineage("a" * 32, 1, None, 0), "bundle_sha256": "b", "identity": current_identity(config)}
    CheckpointStore(bench.tree).save_latest(step=step, target=target, files={"model": b"m", "state": b"s"}, **common)
    return common


def kernel_of(bench: Bench, output: str) -> tuple[str, str]:
    owner, slug = output.split("[STEP2] push ")[1].split(" ")[0].split("/")
    return owner, slug


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_damaged_newest_checkpoint_falls_back_loudly(bench: Bench) -> None:
    bench.run(timesteps=2)
    damage(bench, 2)
    report = bench.run(timesteps=3)
    assert "It was moved to" in bench.output
    assert "The checkpoint of step 1 is used" in bench.output
    assert "step 1 goes in as dataset" in bench.output
    assert (report.step, bench.steps()) == (3, [3, 2])


def test_damage_beside_a_good_head_does_not_stop_the_run(bench: Bench) -> None:
    bench.run(timesteps=2)
    damage(bench, 1)
    bench.tree.best_model.write_bytes(b"?")
    report = bench.run(timesteps=4)
    assert (report.step, bench.steps()) == (4, [4, 3])


def test_with_every_checkpoint_damaged_nothing_starts_from_zero_and_the_command_it_names_mends_it(bench: Bench) -> None:
    bench.run(timesteps=4)
    damage(bench, 3, 4)
    for _ in range(2):  # everything stays where it is, so the second time says the same
        with pytest.raises(CheckpointCorrupt) as caught:
            bench.run(timesteps=6)
        assert caught.value.exit_code == 3
        assert "step 4 is in" in caught.value.safe
        assert "--fresh" in caught.value.next_step
    command = shlex.split(caught.value.next_step.splitlines()[0])
    assert command[:3] == ["km", "restore", "small"]
    assert command[-4:-1] == ["--workdir", str(bench.workdir), "--from"]
    bench.manager().restore_copy("small", Path(command[-1]))
    assert bench.steps() == [4, 3]
    report = bench.run(timesteps=6)
    assert [session.generation for session in report.sessions] == [1, 2, 3]
    assert (report.step, bench.steps()) == (6, [6, 5])


def test_a_tree_that_vanished_is_asked_about_and_fresh_starts_over(bench: Bench) -> None:
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, interrupt_at="relaunch")
    bench.tree.root.rename(bench.workdir / "moved away")
    with pytest.raises(CheckpointCorrupt, match="holds no checkpoint"):
        bench.run(timesteps=4)
    assert bench.run(timesteps=2, fresh=True).step == 2


def test_a_copy_that_is_none_is_refused_with_the_tree_untouched(bench: Bench, tmp_path: Path) -> None:
    bench.run(timesteps=2)
    with pytest.raises(CheckpointNotFound):
        bench.manager().restore_copy("small", tmp_path)
    with pytest.raises(ConfigError, match="the training tree itself"):
        bench.manager().restore_copy("small", bench.tree.root)
    assert bench.steps() == [2, 1]


# --- another experiment -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_changed_network_is_refused_and_fresh_archives_the_tree_and_starts_over(bench: Bench) -> None:
    first = bench.run(timesteps=2)
    bench.edit(*NET, "net_arch = [128, 128]")
    with pytest.raises(CheckpointIncompatible) as caught:
        bench.run(timesteps=4)
    assert caught.value.exit_code == 7
    assert "Architecture: checkpoint=[64, 64], current=[128, 128]" in caught.value.message
    assert "--fresh" in caught.value.next_step
    assert bench.steps() == [2, 1]

    report = bench.run(timesteps=2, fresh=True)
    assert (report.step, len(report.sessions)) == (2, 1)
    assert report.run_id != first.run_id
    (archived,) = (bench.workdir / "archive").iterdir()
    kept = CheckpointStore(TrainingTree(archived, SCENARIO)).valid_checkpoints()
    assert [checkpoint.step for checkpoint in kept] == [2, 1]
    assert "--fresh" in (archived / "reason.txt").read_text()

    bench.edit(*NET, "net_arch = [64, 64]")  # and back: the archive can be taken up again
    bench.manager().restore_copy("small", archived)
    again = bench.run(timesteps=4)
    assert (again.run_id, again.step) == (first.run_id, 4)


@pytest.mark.slow
def test_what_a_session_trained_before_a_change_comes_home_and_fresh_archives_it(bench: Bench) -> None:
    bench.run(timesteps=2)
    with pytest.raises(Interrupted):
        bench.run(timesteps=6, interrupt_at="[STEP3]")
    bench.edit(*NET, "net_arch = [128, 128]")
    with pytest.raises(CheckpointIncompatible):
        bench.run(timesteps=6)
    assert bench.steps() == [4, 3], "and no further session is started"
    bench.edit(*NET, "net_arch = [64, 64]")
    assert bench.run(timesteps=6).step == 6, "undone: nothing was lost"

    bench.edit(*NET, "net_arch = [128, 128]")
    assert bench.run(timesteps=2, fresh=True).step == 2
    (archived,) = (bench.workdir / "archive").iterdir()
    assert CheckpointStore(TrainingTree(archived, SCENARIO)).valid_checkpoints()[0].step == 6


# --- fresh, targets, journals -----------------------------------------------------------------------------------------


def test_fresh_beside_an_open_session_is_refused_until_it_is_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "UNKNOWN_FOR_S", 0.2)
    bench.plan(g1="hang")
    with pytest.raises(Interrupted):
        bench.run(timesteps=2, interrupt_at="step 1/")
    owner, slug = kernel_of(bench, bench.output)
    with pytest.raises(ConfigError, match="may still be queued or running") as caught:
        bench.run(timesteps=2, fresh=True, interrupt_at="[STEP2]")
    assert f"{owner}/{slug}" in caught.value.message
    assert caught.value.next_step.startswith("km stop ")
    with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:
        client.delete(owner, slug)
    bench.plan()
    assert len(bench.run(timesteps=2, fresh=True).sessions) == 1


def test_after_a_fresh_start_the_command_to_go_on_is_the_one_without_fresh(bench: Bench) -> None:
    with pytest.raises(Interrupted) as caught:
        bench.run(timesteps=2, fresh=True, interrupt_at="[STEP3]")
    assert "without --fresh" in caught.value.next_step
    assert len(bench.run(timesteps=2).sessions) == 1


def test_a_raised_target_continues_the_same_lineage(bench: Bench) -> None:
    first = bench.run(timesteps=2)
    second = bench.run(timesteps=4)
    assert second.run_id == first.run_id
    heads = CheckpointStore(bench.tree).valid_checkpoints()
    assert [(head.step, head.manifest.lineage.generation) for head in heads] == [(4, 2), (3, 2)]
    passed = bench.run(timesteps=3)
    assert (passed.step, passed.target, passed.state) == (4, 4, "finished"), "a target that is passed needs no session"


def test_less_than_what_is_saved_pushes_nothing(bench: Bench) -> None:
    common = save_one(bench, step=3, target=9)
    store = CheckpointStore(bench.tree)
    with pytest.raises(ConfigError, match="at step 3 already, on its way to 9") as refused:
        bench.run(timesteps=2)
    assert "nothing was pushed" in refused.value.safe
    assert "--timesteps 9" in refused.value.next_step
    assert "[STEP1]" not in bench.output
    store.save_final(step=3, target=9, files={"model": b"m"}, **common)
    assert bench.run(timesteps=2).state == "finished"
    assert "the final model here is of step 3" in bench.output
    assert "[STEP1]" not in bench.output


def test_an_old_final_model_does_not_end_a_longer_training_that_goes_on(bench: Bench) -> None:
    bench.run(timesteps=2)
    with pytest.raises(Interrupted):
        bench.run(timesteps=9, interrupt_at="relaunch")
    with pytest.raises(ConfigError, match="at step 4 already, on its way to 9"):
        bench.run(timesteps=2)
    assert status(bench) == ("ready", False), "the command was wrong, and not the run"


def test_a_command_that_is_refused_leaves_a_finished_run_finished(bench: Bench) -> None:
    bench.run(timesteps=2)
    bench.edit(*NET, "net_arch = [128, 128]")
    with pytest.raises(CheckpointIncompatible):
        bench.run(timesteps=4)
    assert status(bench) == ("finished", False)
    bench.edit(*NET, "net_arch = [64, 64]")
    report = bench.manager().tick(SECTION)
    assert (report.state, report.step, report.target) == ("finished", 2, 2)


def test_a_run_that_was_stopped_stays_so_where_a_command_for_it_is_refused(bench: Bench) -> None:
    with pytest.raises(Interrupted):
        bench.run(timesteps=5, interrupt_at="relaunch")
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        journal.change_settings(journal.runs()[0].run_id, stopped=True)
    bench.edit(*NET, "net_arch = [128, 128]")
    with pytest.raises(CheckpointIncompatible):
        bench.run(timesteps=5, session_limit="90m")
    bench.edit(*NET, "net_arch = [64, 64]")
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        settings = journal.runs()[0].settings
    assert (settings.get("stopped"), settings["session_limit_s"]) == (True, 12 * 3600)
    with pytest.raises(NotFinished):
        bench.manager().tick(SECTION)


def test_a_misspelt_hyperparameter_of_a_trained_run_is_called_misspelt(bench: Bench) -> None:
    bench.run(timesteps=2)
    table = f"[scenarios.{SCENARIO}.hyperparameters"
    bench.edit("sections/small/section.toml", rf"^{re.escape(table)}", f"{table}]\ngama = 0.9\n\n{table}")
    with pytest.raises(VerificationError, match="did you mean gamma"):
        bench.run(timesteps=4)


def test_a_target_that_is_refused_is_forgotten_and_the_one_before_counts(bench: Bench) -> None:
    with pytest.raises(Interrupted):
        bench.run(timesteps=5, interrupt_at="relaunch")
    bench.edit(*NET, "net_arch = [128, 128]")
    with pytest.raises(CheckpointIncompatible):
        bench.run(timesteps=9)
    assert status(bench) == ("ready", False)
    bench.edit(*NET, "net_arch = [64, 64]")
    assert bench.manager().run_validation_section(SECTION).target == 5


@pytest.mark.slow
def test_who_says_no_target_goes_on_to_the_one_the_run_was_given(bench: Bench) -> None:
    with pytest.raises(Interrupted):
        bench.run(timesteps=5, interrupt_at="relaunch")
    report = bench.manager().run_validation_section(SECTION)
    assert (report.target, report.step) == (5, 5)


def test_a_target_changed_in_the_section_counts_where_none_is_said(bench: Bench) -> None:
    with pytest.raises(Interrupted):
        bench.run(timesteps=5, interrupt_at="relaunch")
    bench.edit(f"sections/{SECTION}/section.toml", "^timesteps = 4$", "timesteps = 3")
    assert bench.manager().run_validation_section(SECTION).target == 3


@pytest.mark.slow
def test_a_tick_trains_again_what_an_older_copy_lacks(bench: Bench, tmp_path: Path) -> None:
    bench.run(timesteps=2)
    shutil.copytree(bench.tree.root, tmp_path / "copy")
    bench.run(timesteps=3)
    bench.manager().restore_copy(SECTION, tmp_path / "copy")
    assert status(bench) == ("ready", False)
    while (report := bench.manager().tick(SECTION)).state != "finished":
        time.sleep(0.05)  # the session is a real process
    assert (report.step, bench.steps()[0]) == (3, 3)


def test_a_finished_tree_that_vanished_is_not_called_finished(bench: Bench) -> None:
    bench.run(timesteps=2)
    bench.tree.root.rename(bench.workdir / "moved away")
    assert status(bench) == ("error", True)
    with pytest.raises(CheckpointCorrupt, match="holds no checkpoint"):
        bench.manager().tick(SECTION)


def test_without_its_journal_the_run_goes_on_from_the_tree(bench: Bench) -> None:
    first = bench.run(timesteps=2)
    for path in bench.workdir.glob("journal.sqlite*"):
        path.unlink()
    second = bench.run(timesteps=4)
    assert second.run_id == first.run_id
    assert [session.generation for session in second.sessions] == [2]
    assert second.step == 4


def test_a_tree_that_no_journal_knows_is_shown_with_the_command_that_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_one(bench, step=3, target=9)
    monkeypatch.chdir(bench.project)
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        seen = overview(journal, None, time.time()).as_json()
    assert f"{bench.tree.root} holds a training at step 3" in seen["why"]
    again = f"km run {SECTION} --scenario {SCENARIO} --workdir {bench.workdir}"
    assert seen["next"] == f"{again} --trust"
    (newest,) = CheckpointStore(bench.tree).valid_checkpoints()
    Vouched(bench.workdir).add([newest.manifest], "a test")
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        assert overview(journal, None, time.time()).as_json()["next"] == again


def test_without_its_journal_a_running_session_is_adopted(bench: Bench) -> None:
    bench.run(timesteps=2)
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, interrupt_at="[STEP3]")
    for path in bench.workdir.glob("journal.sqlite*"):
        path.unlink()
    report = bench.run(timesteps=4)
    assert "adopted" in bench.output
    assert "[STEP2]" not in bench.output
    assert (report.step, [session.generation for session in report.sessions]) == (4, [2])


def test_a_damaged_journal_is_named_and_can_be_moved_away(bench: Bench) -> None:
    bench.run(timesteps=2)
    for path in bench.workdir.glob("journal.sqlite?*"):
        path.unlink()
    (bench.workdir / "journal.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError) as caught:
        bench.run(timesteps=4)
    assert "move it away" in caught.value.next_step
    (bench.workdir / "journal.sqlite").rename(bench.workdir / "away")
    assert bench.run(timesteps=4).step == 4


def test_an_unfinished_run_moves_to_another_platform_only_when_asked_to(bench: Bench) -> None:
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, interrupt_at="[STEP3]")
    bench.platform = "kaggle"
    with pytest.raises(ConfigError, match="unfinished on local") as caught:  # its session is there
        bench.run(timesteps=4)
    assert "to move it" not in caught.value.next_step
    bench.platform = "local"
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, interrupt_at="relaunch")
    bench.platform = "kaggle"
    report = bench.run(timesteps=4)
    assert "moves from local" in bench.output
    assert (report.platform, report.step, len(report.sessions)) == ("kaggle", 4, 2)


@pytest.mark.slow
def test_another_trainings_tree_put_here_is_continued_as_what_it_is(bench: Bench) -> None:
    first = bench.run(timesteps=2)
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, fresh=True, interrupt_at="relaunch")
    (archived,) = (bench.workdir / "archive").iterdir()
    bench.manager().restore_copy("small", archived)
    report = bench.run(timesteps=4)
    assert "is given up" in bench.output
    assert (report.run_id, report.step) == (first.run_id, 4)
