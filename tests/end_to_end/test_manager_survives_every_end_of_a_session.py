"""However a session ends, what it saved is kept, the run goes on, and what cannot mend itself stops with its cause."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from small_project import TRAINER, Bench, Told, installed

from kaggle_manager.checkpoints import CheckpointStore
from kaggle_manager.checkpoints.vouched import Vouched
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import CheckpointIncompatible, ConfigError, Interrupted, KernelFailed
from kaggle_manager.local_kaggle.launcher import ensure_running, stop
from kaggle_manager.orchestrator import passes
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sessions import watch
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.status.overview import overview

pytestmark = pytest.mark.slow


def outcomes(report: Any) -> list[str]:
    return [session.outcome for session in report.sessions]


@pytest.fixture
def impatient_kaggle(bench: Bench, tmp_path: Path) -> Iterator[Bench]:
    """A Kaggle whose sessions are killed after ten seconds, without a word; a session that is well takes one."""
    root = tmp_path / "impatient"
    root.mkdir()
    (root / "limits.json").write_text(json.dumps({"ingestion_s": 0.0, "session_s": 10.0}))
    bench.server = ensure_running(root, idle_exit_s=60)
    yield bench
    stop(root)


def test_a_kaggle_of_this_machine_that_dies_is_started_again_and_its_session_goes_on(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "WATCH_S", 2.0)
    root = tmp_path / "mortal"
    root.mkdir()
    (root / "limits.json").write_text('{"ingestion_s": 0.0}')

    class Mortal(Bench):
        def connect(self, config: RunConfig) -> Connection:
            self.server = ensure_running(root, idle_exit_s=60)
            return super().connect(config)

    mortal = Mortal(bench.project, bench.workdir, ensure_running(root, idle_exit_s=60))
    mortal.told.hooks.append(("[STEP3]", lambda: os.kill(mortal.server.pid, signal.SIGKILL)))
    report = mortal.manager().run_validation_section("small", timesteps=2)
    stop(root)
    assert outcomes(report) == ["completed"]
    assert "costs no attempt" in mortal.output


def test_a_session_killed_at_the_wall_is_restored_from_its_manifests(impatient_kaggle: Bench) -> None:
    bench = impatient_kaggle
    bench.plan(g1="hang")
    report = bench.run(timesteps=3)
    assert outcomes(report) == ["killed", "completed"]
    assert "left no result" in bench.output
    assert report.sessions[0].why.startswith("ended by the platform at its time limit before it wrote its result (")
    assert "1 step gained, 1 saved" in report.sessions[0].why
    assert bench.steps() == [3, 2]


def test_a_trainer_killed_for_its_memory_leaves_what_it_saved(bench: Bench) -> None:
    bench.plan(g2="die")
    report = bench.run(timesteps=5)
    assert outcomes(report) == ["interrupted", "crashed", "completed"]
    assert "1 step gained, 3 saved" in report.sessions[1].why
    assert bench.steps() == [5, 4]


def test_a_crash_after_a_save_loses_nothing_that_was_saved(bench: Bench) -> None:
    bench.plan(g1="crash")
    report = bench.run(timesteps=3)
    assert outcomes(report) == ["crashed", "completed"]
    assert "RuntimeError: it went wrong after a step; 1 step gained, 1 saved" in report.sessions[0].why


def test_a_cancelled_session_is_restored_and_the_run_goes_on(bench: Bench) -> None:
    bench.plan(g1="hang")
    bench.told.hooks.append(("step 1/", lambda: (bench.newest_session() / "cancel").touch()))
    told = bench.told
    report = bench.manager().run_validation_section("small", timesteps=3)
    assert outcomes(report) == ["killed", "completed"]
    assert "CANCELLED" in told.text.getvalue()
    assert "1 step gained" in report.sessions[0].why


def test_a_deleted_kernel_is_gone_and_not_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "UNKNOWN_FOR_S", 0.2)
    bench.plan(g1="hang")

    def delete() -> None:
        with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:
            owner, slug = bench.output.split("[STEP2] push ")[1].split(" ")[0].split("/")
            client.delete(owner, slug)

    bench.told.hooks.append(("step 1/", delete))
    report = bench.manager().run_validation_section("small", timesteps=2)
    assert outcomes(report) == ["gone", "completed"]
    assert "is gone" in bench.output


def test_a_kernel_deleted_before_its_outputs_came_is_given_up_after_a_second_look(bench: Bench) -> None:
    bench.run(timesteps=2)

    def delete() -> None:
        with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:
            owner, slug = bench.output.split("[STEP2] push ")[1].split(" ")[0].split("/")
            client.delete(owner, slug)

    bench.told = Told()
    bench.told.hooks.append(("the platform says", delete))
    report = bench.manager().run_validation_section("small", timesteps=4)
    assert outcomes(report) == ["completed", "given up", "completed"]
    assert "is downloaded again" in bench.output
    assert bench.steps() == [4, 3]


def test_a_training_that_was_never_evaluated_takes_one_more_session(bench: Bench) -> None:
    bench.plan(g1="no final")
    report = bench.run(timesteps=2)
    assert outcomes(report) == ["interrupted", "completed"]
    final = CheckpointStore(bench.tree).final()
    assert final is not None
    assert final.step == 2


def test_only_the_final_model_was_missing_and_no_session_is_pushed_to_write_it(bench: Bench) -> None:
    bench.plan(g1="best only")
    report = bench.run(timesteps=2)
    assert (report.state, outcomes(report)) == ("finished", ["interrupted"])
    final, head = CheckpointStore(bench.tree).final(), CheckpointStore(bench.tree).find_latest_checkpoint()
    assert final is not None
    assert head is not None
    assert (final.step, final.read("model")) == (2, head.read("model"))
    known = Vouched(bench.workdir)
    assert known.who(final.manifest) == known.who(head.manifest) != ""


def test_a_target_lowered_while_a_session_runs_is_reached_by_what_it_leaves(bench: Bench) -> None:
    with pytest.raises(Interrupted):
        bench.run(timesteps=40, max_steps=3, interrupt_at="accepted as")
    report = bench.run(timesteps=2)
    assert (report.state, report.step, len(report.sessions)) == ("finished", 3, 1)


def test_a_claim_of_completion_without_a_step_cannot_repeat_for_ever(bench: Bench) -> None:
    bench.run(timesteps=2)
    bench.plan(g2="claim", g3="claim", g4="claim")
    with pytest.raises(KernelFailed, match=r"completed.*; 0 steps gained"):
        bench.run(timesteps=4)


def test_three_equal_crashes_stop_with_their_cause_and_the_same_command_goes_on_once_it_is_mended(
    bench: Bench,
) -> None:
    bench.run(timesteps=2)
    main = installed(bench.project) / TRAINER
    good = main.read_text()
    main.write_text("import a_module_that_is_not_there\n" + good)
    with pytest.raises(KernelFailed) as caught:
        bench.run(timesteps=4)
    assert caught.value.exit_code == 1
    assert "3 sessions in a row ended with the same failure: crashed: ModuleNotFoundError" in caught.value.message
    assert "No module named 'a_module_that_is_not_there'" in caught.value.message
    log = Path(caught.value.next_step.split("read ")[1].split(",")[0])
    assert "Traceback" in log.read_text()
    assert bench.steps() == [2, 1]
    main.write_text(good)
    report = bench.run(timesteps=4)
    assert (report.step, outcomes(report)) == (4, ["completed", "crashed", "crashed", "crashed", "completed"])


def test_a_session_that_finds_another_experiment_says_what_is_left_to_do_once_and_what_would_help(bench: Bench) -> None:
    bench.plan(g1="refuse", g2="refuse what can be accepted")
    for helps in (False, True):
        with pytest.raises(CheckpointIncompatible, match="another experiment") as stopped:
            bench.run()
        said = stopped.value.next_step
        assert ("--accept-changes" in said) is helps
        assert "--fresh" in said
        assert said.count("run `km run small") == 1
        with closing(Journal.to_read(bench.workdir / "journal.sqlite")) as journal:
            assert overview(journal, None, time.time()).as_json()["next"] == said, "a session is not spent once more"


def test_a_module_that_stayed_here_costs_one_session_and_the_line_it_needs_is_said(bench: Bench) -> None:
    (bench.project / "my_helpers.py").write_text("STATES = 3\n")
    bench.edit("sections/small/environment.py", "^STATES = 3$", "from my_helpers import STATES")
    bench.plan(g1="import", g2="import")
    with pytest.raises(ConfigError, match=r'add "my_helpers\.py" to `include`') as stopped:
        bench.run(timesteps=2)
    assert "correct section.toml" in stopped.value.next_step
    bench.edit("sections/small/section.toml", "^accelerator =", 'include = ["my_helpers.py"]\naccelerator =')
    report = bench.run(timesteps=2)
    assert outcomes(report) == ["crashed", "completed"]
