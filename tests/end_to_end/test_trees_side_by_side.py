"""Sections, seeds and quick runs beside each other: no command acts on the tree of another one."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from small_project import SCENARIO, SECTION, Bench

from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.errors import CheckpointIncompatible, ConfigError, Interrupted
from kaggle_manager.orchestrator.stop import stop_run
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.status.forecast import forecast_run
from kaggle_manager.status.session_log import session_log
from kaggle_manager.trees.backups import back_up, find_copies


def config_of(bench: Bench, **which: object) -> RunConfig:
    return build_config(SECTION, workdir=bench.workdir, project_root=bench.project, environ={}, **which)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_copy_is_restored_into_the_tree_that_it_is_of_and_into_no_other(bench: Bench, tmp_path: Path) -> None:
    bench.run(timesteps=2)
    bench.run(timesteps=2, seed=3)
    bench.run(timesteps=2, quick=True)
    own, third, quick = config_of(bench), config_of(bench, seed=3), config_of(bench, quick=True)
    for of, refused_for, option in ((third, own, "--seed 3"), (quick, own, "--quick"), (own, third, SCENARIO)):
        copy = back_up(of, "a test").folder
        assert copy in [each.folder for each in find_copies(of)]
        assert copy not in [each.folder for each in find_copies(refused_for)]
        before = sorted(refused_for.tree.rglob("*"))
        with pytest.raises(CheckpointIncompatible, match="is a copy of another training tree") as refusal:
            bench.manager().restore_copy(refused_for, copy)
        assert refusal.value.next_step == of.command("restore", "--from", copy)
        assert option in refusal.value.next_step
        assert sorted(refused_for.tree.rglob("*")) == before
        assert bench.manager().restore_copy(of, copy).step == 2
    bench.workdir = tmp_path / "where the journal knows nothing"
    with pytest.raises(CheckpointIncompatible) as refusal:
        bench.manager().restore_copy(SECTION, third.tree)
    assert "--seed 3" in refusal.value.next_step
    assert bench.manager().restore_copy(SECTION, third.tree, seed=3).step == 2


def test_a_tree_that_was_copied_is_not_a_second_tree_of_its_run_and_one_that_was_moved_takes_it_along(
    bench: Bench,
) -> None:
    run_id = bench.run(timesteps=2).run_id
    copy = bench.tree.root.with_name("models_seed_3")
    shutil.copytree(bench.tree.root, copy)
    with pytest.raises(ConfigError, match="is a copy of the training tree of run") as refusal:
        bench.run(timesteps=4, seed=3)
    assert refusal.value.next_step.startswith(config_of(bench).command("run"))
    shutil.rmtree(copy)
    moved = bench.tree.root.with_name("elsewhere")
    bench.tree.root.rename(moved)
    bench.edit("sections/small/section.toml", r"^models = \"data/models\"$", 'models = "data/elsewhere"')
    report = bench.run(timesteps=4)
    assert (report.run_id, report.step, Path(report.tree)) == (run_id, 4, moved)


def test_a_run_is_taken_up_in_the_tree_of_its_seed_and_in_no_other(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        bench.run(timesteps=2, seed=3, interrupt_at="[STEP3]")
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        (run,) = journal.runs()
    bench.workdir = tmp_path / "another machine"
    with pytest.raises(ConfigError, match="seed 3; ") as refusal:
        bench.manager().adopt(SECTION, run.run_id)
    assert refusal.value.next_step == config_of(bench, seed=3).command("adopt", run.run_id)
    assert bench.manager().adopt(SECTION, run.run_id, seed=3).run_id == run.run_id
    assert bench.run(timesteps=2, seed=3).step == 2


def test_a_tick_never_calls_finished_what_has_a_session_that_runs(bench: Bench) -> None:
    """An older run's tree was put back while a newer one's session runs."""
    first = bench.run(timesteps=2)
    bench.plan(g1="hang")
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, fresh=True, interrupt_at="[STEP3]")
    (archived,) = (bench.workdir / "archive").iterdir()
    bench.manager().restore_copy(SECTION, archived)
    with pytest.raises(ConfigError, match="may still be queued or running"):
        bench.manager().tick(SECTION)
    for session in (bench.server.root / "sessions").iterdir():
        (session / "cancel").touch()
    with closing(Journal.to_read(bench.workdir / "journal.sqlite")) as journal:
        assert {run.run_id: run.target for run in journal.runs()}[first.run_id] == 2, "not the target of the other"


def test_a_run_is_carried_on_and_stopped_where_it_is_although_credentials_for_another_place_were_found(
    bench: Bench,
) -> None:
    bench.plan(g1="hang")
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, interrupt_at="[STEP3]")
    bench.platform, asked = "auto", []

    def connect(config: RunConfig) -> Connection:
        asked.append(config.platform)
        platform = "kaggle" if config.platform == "auto" else config.platform  # as credentials make of it
        return replace(bench.connect(config), platform=platform)

    manager = bench.manager()
    manager._connect_to = connect
    manager.tick(SECTION)
    auto = config_of(bench)
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        assert next(session_log(auto, journal, 1, follow=True, connect_to=connect, reporter=bench.told))
        forecast_run(auto, connect, journal, time.time())
        stop_run(auto, connect, journal, bench.told, time.time())
        assert set(asked) == {"local"}
        with pytest.raises(ConfigError, match="is on local as") as refusal:
            stop_run(config_of(bench, platform="kaggle"), connect, journal, bench.told, time.time())
    assert refusal.value.next_step == auto.command("stop", "--platform", "local")


def test_run_and_tick_go_to_one_target_over_sessions_of_one_length(bench: Bench) -> None:
    def settings() -> tuple[int, float]:
        with closing(Journal.to_read(bench.workdir / "journal.sqlite")) as journal:
            (run,) = journal.runs()
            return run.target, run.settings["session_limit_s"]

    with pytest.raises(Interrupted):
        bench.run(timesteps=8, session_limit="90m", interrupt_at="/1 (Ctrl-C")
    bench.manager().tick(SECTION)
    assert settings() == (8, 5400.0)
    bench.told.hooks.append(("/1 (Ctrl-C", lambda: (_ for _ in ()).throw(KeyboardInterrupt)))
    with pytest.raises(Interrupted):
        bench.manager().run_validation_section(SECTION)
    assert settings() == (8, 5400.0)
    bench.edit("sections/small/section.toml", r"^timesteps = 4$", "timesteps = 6")
    bench.manager().tick(SECTION, may_push=False)
    assert settings() == (6, 5400.0)


def test_every_push_is_tried_before_it_a_rehearsal_and_a_continued_run_as_well(bench: Bench) -> None:
    def refuse(*_: object) -> None:
        raise ConfigError("it was tried")

    manager = bench.manager()
    manager._passes.check_before_push = refuse
    with pytest.raises(ConfigError, match="it was tried"):
        manager.tick(SECTION, quick=True)
    bench.run(timesteps=2)
    with pytest.raises(ConfigError, match="it was tried"):
        manager.tick(SECTION, timesteps=4)


@pytest.mark.slow
def test_what_fails_its_trial_sets_nothing_aside(bench: Bench) -> None:
    def refuse(*_: object) -> None:
        raise ConfigError("it was tried")

    bench.run(timesteps=2, quick=True)
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, interrupt_at="relaunch")
    manager = bench.manager()
    manager._passes.check_before_push = refuse
    for again in (config_of(bench, quick=True), config_of(bench, fresh=True)):
        before = sorted(again.tree.rglob("*"))
        with pytest.raises(ConfigError, match="it was tried"):
            manager.run_validation_section(again)
        assert sorted(again.tree.rglob("*")) == before
        assert not again.archive.exists()
    assert bench.run(timesteps=4).step == 4, "the run was not given up"
