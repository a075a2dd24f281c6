"""A sweep of a script on the local Kaggle: trials pause at a rung, go on with the same bits, outlive their manager."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from script_project import SECTION, TRAIN, ScriptBench, files_of, state_after
from small_project import free_slots

from kaggle_manager.checkpoints import CheckpointStore, Disk, TrainingTree
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.local_kaggle.launcher import ServerInfo
from kaggle_manager.platforms.platform import SessionStatus
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sections.trial import study_folder
from kaggle_manager.sessions import reconcile, watch
from kaggle_manager.sweeps import loop as sweeping
from kaggle_manager.sweeps.loop import SweepLoop
from kaggle_manager.sweeps.report import SweepReport, report_of
from kaggle_manager.sweeps.study import Study

pytestmark = pytest.mark.slow

SWEEP = """
[sweep]
metric = "loss"
direction = "minimize"
sampler = "random"
reduction = 2
rungs = [10]
trials = 3

[sweep.space]
arguments.lr = { low = 0.0, high = 1.0 }
"""
# The loss depends on the value that is tried, and the state on every step.
SCRIPT = TRAIN.replace("abs(step - 30)", "abs(float(sys.argv[2]) - 0.3)")
VALUES = (0.9, 0.35, 0.6)


@pytest.fixture
def bench(tmp_path: Path, kaggle_here: ServerInfo, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptBench]:
    monkeypatch.setattr(watch, "FIRST_POLL_S", 0.1)
    monkeypatch.setattr(reconcile, "LOOK_EVERY_S", 0.0)
    # What Optuna would say is not what is tested here, and it may not be installed.
    monkeypatch.setattr(sweeping, "suggest", lambda study, at: {"arguments.lr": VALUES[study.next_number]})
    monkeypatch.setattr(sweeping, "write_storage", lambda study: None)
    (tmp_path / "project").mkdir()
    yield ScriptBench(tmp_path / "project", tmp_path / "work", kaggle_here)
    free_slots(kaggle_here.root)


def write(bench: ScriptBench, plan: str = "pass") -> None:
    bench.write(plan, script=SCRIPT, more='arguments = ["--lr", "0.5"]')
    with (bench.project / "sections" / SECTION / "section.toml").open("a") as file:
        file.write(SWEEP)


def run_of(bench: ScriptBench, scenario: str, seed: int | None) -> RunConfig:
    return build_config(
        SECTION, scenario=scenario, seed=seed, workdir=bench.workdir, project_root=bench.project, environ={}
    )


def loop_of(bench: ScriptBench, max_sessions: int = 2) -> SweepLoop:
    config = run_of(bench, SECTION, None)
    table = config.section.sweep
    assert table is not None
    study = Study.begin(study_folder(bench.workdir, SECTION), SECTION, table.stops(config.target), table, "it")
    return SweepLoop(bench.manager(), study, partial(run_of, bench), bench.told, table.trials, max_sessions)


def tree_of(bench: ScriptBench, number: int, suffix: str = "") -> TrainingTree:
    folder = bench.workdir / "sections" / SECTION / f"data/models_trial_{number}{suffix}"
    return TrainingTree(folder, f"{SECTION}_trial_{number}")


def found_by(bench: ScriptBench, tmp_path: Path) -> tuple[SweepReport, dict[str, bytes], dict[int, list[int]]]:
    """What a sweep has come to: its report, the files of its best trial's final model, and the sessions of each."""
    report = report_of(Study.read(study_folder(bench.workdir, SECTION)))
    final = CheckpointStore(tree_of(bench, report.best[0])).final()
    assert final is not None, bench.output
    sessions = {}
    for trial in report.trials:
        saved = CheckpointStore(tree_of(bench, trial.number)).valid_checkpoints()
        sessions[trial.number] = [each.manifest.lineage.generation for each in saved]
    return report, files_of(final, tmp_path), sessions


def test_the_best_goes_on_past_its_rung_with_the_bits_of_one_that_never_paused(
    bench: ScriptBench, tmp_path: Path
) -> None:
    write(bench)
    going = loop_of(bench)
    going.run()
    report, files, _ = found_by(bench, tmp_path / "final")
    assert [(trial.state, trial.steps) for trial in report.trials] == [
        ("paused", (10,)),
        ("complete", (10, 40)),
        ("paused", (10,)),
    ], bench.output
    assert report.trial(1).scores == pytest.approx((0.05, 0.05))
    assert files["state.bin"] == state_after(40), "as if it had never been paused"
    assert "trial 1 continues to step 40" in bench.output
    confirmed = report_of(going.study, going.confirm(report.best[:1], [8, 9])).confirmed
    assert confirmed[0].scores == pytest.approx((0.05, 0.05))
    final = CheckpointStore(tree_of(bench, 1, "_seed_9")).final()
    assert final is not None
    assert files_of(final, tmp_path / "seed")["state.bin"] == state_after(40, seed=9)


def test_a_tick_whose_session_ends_at_once_starts_no_second_one_past_the_pause(bench: ScriptBench) -> None:
    write(bench)
    manager = bench.manager()

    def to_its_end(*given: Any, until: float, **options: Any) -> SessionStatus:
        return watch.watch(*given, until=float("inf"), **options)

    manager._passes.watch_session = to_its_end
    report = manager.tick(replace(run_of(bench, SECTION, None), max_steps=10))
    assert (report.state, report.step, len(report.sessions)) == ("ready", 10, 1), bench.output


def test_a_trial_that_crashes_costs_the_others_nothing(bench: ScriptBench) -> None:
    write(bench, "if sys.argv[2] == '0.9': raise RuntimeError('no such rate')")
    loop_of(bench).run()
    report = report_of(Study.read(study_folder(bench.workdir, SECTION)))
    assert [trial.state for trial in report.trials] == ["failed", "complete", "paused"], bench.output
    assert "no such rate" in report.trials[0].failure


def test_killed_around_every_write_of_the_sweep_it_ends_with_the_same_trials_and_bits(
    bench: ScriptBench, tmp_path: Path
) -> None:
    """The manager is a process of its own, killed before and after each write of study.json, and around a push."""
    write(bench)
    died: list[str] = []
    while place := _in_a_process(bench, died, tmp_path / "died"):
        assert place not in died
        died.append(place)
    assert sum("study" in place for place in died) == 2 * (1 + 3 + 4 + 1), (
        "begun, three trials, four results, a promotion"
    )
    report, files, sessions = found_by(bench, tmp_path / "final")
    assert [(trial.number, trial.values, trial.state) for trial in report.trials] == [
        (number, {"arguments.lr": value}, "complete" if number == 1 else "paused")
        for number, value in enumerate(VALUES)
    ]
    assert [trial.steps for trial in report.trials] == [(10,), (10, 40), (10,)], "each told once at each rung"
    assert files["state.bin"] == state_after(40)
    assert {number: max(generations) for number, generations in sessions.items()} == {0: 1, 1: 2, 2: 1}


def _in_a_process(bench: ScriptBench, already: list[str], died: Path) -> str:
    """Carry the sweep on in a new process, which kills itself at the first place where none did; '' at the end."""
    died.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:

            def reached(place: str) -> None:
                if place not in already:
                    died.write_text(place)
                    os.kill(os.getpid(), signal.SIGKILL)

            def watched(owner: Any, name: str, place: Callable[..., str]) -> None:
                real = getattr(owner, name)

                def call(*given: Any, **options: Any) -> Any:
                    told = place(*given)
                    if told:
                        reached(f"before {told}")
                    result = real(*given, **options)
                    if told:
                        reached(f"after {told}")
                    return result

                setattr(owner, name, call)

            def write_of_study(_disk: Disk, source: Path, to: Path) -> str:
                return f"study {hashlib.sha256(source.read_bytes()).hexdigest()}" if to.name == "study.json" else ""

            watched(Disk, "replace", write_of_study)
            watched(Journal, "add_session", lambda *_: "the first push")
            loop_of(bench, 1).run()
            os._exit(0)
        except BaseException as error:
            died.with_suffix(".error").write_text(f"{error!r}\n{bench.output}")
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return died.read_text()
    assert status == 0, died.with_suffix(".error").read_text()
    return ""
