"""A run carried by ticks alone: each does what can be done, waits for nothing, and says where the run stands."""

from __future__ import annotations

import time
from contextlib import closing

import pytest
from small_project import SECTION, TRAINER, Bench, installed

from kaggle_manager.config import build_config
from kaggle_manager.errors import ConfigError, Interrupted, KernelFailed, NotFinished, NotFound
from kaggle_manager.orchestrator.stop import Stopped, stop_run
from kaggle_manager.runs.journal import Journal
from kaggle_manager.status.forecast import forecast_run
from kaggle_manager.status.history import History
from kaggle_manager.status.overview import overview
from kaggle_manager.status.report import RunReport
from kaggle_manager.status.session_log import session_log

WORDS = {"state", "why", "next", "human_action_required"}


def tick(bench: Bench, timesteps: int | None = None) -> RunReport:
    return bench.manager().tick(SECTION, timesteps=timesteps)


def ticks_until(bench: Bench, state: str) -> list[RunReport]:
    reports = []
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        reports.append(tick(bench))
        if reports[-1].state == state:
            return reports
        time.sleep(0.05)  # the session is a real process
    raise AssertionError(f"never {state}: {reports[-1]}")


def tick_for_ever(bench: Bench) -> None:
    while True:
        tick(bench)
        time.sleep(0.05)


def journal(bench: Bench) -> Journal:
    return Journal(bench.workdir / "journal.sqlite")


def stop(bench: Bench, *, delete: bool = False) -> Stopped:
    config = build_config(SECTION, workdir=bench.workdir, project_root=bench.project)
    with closing(journal(bench)) as opened:
        return stop_run(config, bench.connect, opened, bench.told, time.time(), delete=delete)


@pytest.mark.slow
def test_ticks_alone_reach_the_target_with_the_target_and_limit_the_run_was_started_with(bench: Bench) -> None:
    first = bench.manager().tick(SECTION, timesteps=5, session_limit="90s")
    assert first.state in ("queued", "running")
    last = ticks_until(bench, "finished")[-1]
    assert (last.step, last.target) == (5, 5)
    assert [session.generation for session in last.sessions] == [1, 2, 3]
    with closing(journal(bench)) as opened:
        (row,) = opened.runs()
        assert row.settings["session_limit_s"] == 90.0
        assert {session.facts["planned"]["timeout_s"] <= 90.0 for session in opened.sessions(row.run_id)} == {True}
    assert tick(bench).state == "finished", "and nothing is started once it is"
    with closing(journal(bench)) as opened:
        assert len(opened.runs()) == 1


def test_a_status_always_says_the_state_why_what_next_and_whether_a_person_is_needed(bench: Bench) -> None:
    bench.plan(g1="hang")
    with closing(journal(bench)) as opened:
        nothing = overview(opened, None, time.time()).as_json()
        assert nothing.keys() >= WORDS
        tick(bench, 4)
        running = overview(opened, SECTION, time.time())
        assert running.as_json()["state"] in ("queued", "running")
        assert "session 1 was launched" in running.as_json()["why"]
        assert not running.as_json()["human_action_required"]
        assert [line for line in running.lines() if "0 of 4" in line or "1 of 4" in line]
        assert running.as_json()["runs"][0].keys() >= WORDS


@pytest.mark.slow
def test_a_stop_ends_the_session_by_the_id_it_printed_and_nothing_follows_until_a_person_runs_again(
    bench: Bench,
) -> None:
    bench.plan(g1="hang")
    tick(bench, 4)
    deadline = time.monotonic() + 120
    while tick(bench).progress.get("step") != 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(ConfigError, match="would lose what it has saved"):
        stop(bench, delete=True)
    stopped = stop(bench)
    assert stopped.cancelled, stopped.words
    with pytest.raises(NotFinished, match="asked to stop"):
        tick_for_ever(bench)
    assert bench.steps() == [1], "what it had saved was restored"
    assert "relaunch" not in bench.output, "no session follows"
    with closing(journal(bench)) as opened:
        seen = overview(opened, None, time.time()).as_json()
    assert (seen["state"], seen["human_action_required"]) == ("stopped", True)
    [session] = seen["sessions"]
    assert (session["outcome"], session["kind"]) == ("stopped", ""), "what was asked for is no failure"
    assert bench.run(timesteps=4).step == 4


@pytest.mark.slow
def test_a_session_that_was_stopped_is_no_failure_of_the_run_that_goes_on_at_once(bench: Bench) -> None:
    bench.plan(g1="hang")
    tick(bench, 4)
    deadline = time.monotonic() + 120
    while tick(bench).progress.get("step") != 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert stop(bench).cancelled
    bench.plan(g1="train")
    report = bench.run(timesteps=4)
    assert (report.state, report.step) == ("finished", 4)
    assert report.sessions[0].outcome == "stopped"
    assert sum(bench.slept) < 60, "no pause as after a failure"


def test_a_stop_deletes_nothing_of_a_session_whose_outputs_were_never_restored(bench: Bench) -> None:
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, interrupt_at="relaunch")
    with closing(journal(bench)) as opened:
        (session,) = opened.sessions(opened.runs()[0].run_id)
        outcome = session.outcome
        for lost in ("given up", "gone"):
            opened.update_session(session, outcome=lost)
            with pytest.raises(ConfigError, match="was never restored"):
                stop(bench, delete=True)
        opened.update_session(session, outcome=outcome)
    assert stop(bench, delete=True).deleted


def test_a_stop_of_nothing_says_so(bench: Bench) -> None:
    with pytest.raises(NotFound, match="unfinished"):
        stop(bench)


@pytest.mark.slow
def test_a_run_that_failed_stays_stopped_for_ticks_and_is_tried_again_when_a_person_asks(bench: Bench) -> None:
    main = installed(bench.project) / TRAINER
    good = main.read_text()
    main.write_text("import a_module_that_is_not_there\n" + good)
    tick(bench, 2)
    for _ in range(2):
        with pytest.raises(KernelFailed):
            tick_for_ever(bench)
    with closing(journal(bench)) as opened:
        assert len(opened.sessions(opened.runs()[0].run_id)) == 3
        seen = overview(opened, None, time.time()).as_json()
    assert seen["state"] in ("failed", "error")
    assert seen["human_action_required"]
    main.write_text(good)
    assert bench.run(timesteps=2).step == 2


def test_history_sums_what_sessions_cost_and_logs_are_kept(bench: Bench) -> None:
    bench.plan(g1="crash")
    report = bench.run(timesteps=3)
    history = History((report,))
    assert history.totals["sessions"] == len(report.sessions) == 2
    assert history.totals["gained"] == 3
    assert history.totals["failed_sessions"] == 1
    lines = list(history.lines())
    assert "code error" in lines[1]
    assert "2 sessions of 1 run, 1 of them failed" in lines[-1]
    assert "GPU" not in lines[-1], "it may have been the CPU"
    config = build_config(SECTION, workdir=bench.workdir, project_root=bench.project)
    with closing(journal(bench)) as opened:
        log = list(session_log(config, opened, 1, connect_to=bench.connect, reporter=bench.told))
        assert any("it went wrong after a step" in line for line in log)
        seen = forecast_run(config, bench.connect, opened, time.time())
    assert (seen.step, seen.target) == (3, 3), "the run's own target"
    assert any("1 " in line or "saved" in line for line in seen.lines())


def test_a_session_is_judged_by_the_target_it_was_sent_for_and_not_by_one_that_was_raised_since(bench: Bench) -> None:
    bench.plan(g1="no final")
    tick(bench, 2)
    deadline = time.monotonic() + 120
    while len(tick(bench).sessions) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    report = bench.run(timesteps=4)  # while the second session makes the final model of step 2 and gains no step
    second = report.sessions[1]
    assert (second.outcome, second.kind) == ("completed", ""), second
    assert report.step == 4


def test_outputs_are_downloaded_once_more_without_touching_the_tree(bench: Bench) -> None:
    bench.run(timesteps=4)
    before = {path: path.read_bytes() for path in bench.tree.root.rglob("*") if path.is_file()}
    downloaded = bench.manager().download_outputs(SECTION, 1)
    assert downloaded.tree is not None
    assert {path: path.read_bytes() for path in bench.tree.root.rglob("*") if path.is_file()} == before
    with pytest.raises(NotFound):
        bench.manager().download_outputs(SECTION, 9)


def test_a_session_that_cannot_end_one_rollout_is_refused_before_it_is_pushed(bench: Bench) -> None:
    toml = f"sections/{SECTION}/section.toml"
    bench.edit(toml, r'^algorithm = "DQN"$', 'algorithm = "PPO"')
    bench.edit(toml, r"^net_arch = .*$", "net_arch = [64, 64]\n[scenarios.little_task.hyperparameters]\nn_steps = 1000")
    first = bench.run(timesteps=2)
    with closing(journal(bench)) as opened:
        opened.add_facts(opened.sessions(first.run_id)[0], timings={"setup": 5.0, "train": 2.0})  # one step a second
    with pytest.raises(ConfigError, match="one rollout of 1,000 timesteps takes 1000 s") as refused:
        bench.run(timesteps=4, session_limit="60s")
    assert "[STEP1]" not in bench.output
    assert "--session-limit 18m" in refused.value.next_step
    config = build_config(SECTION, timesteps=4, session_limit="60s", workdir=bench.workdir, project_root=bench.project)
    with closing(journal(bench)) as opened:
        seen = forecast_run(config, None, opened, time.time())
    assert seen.next_session.startswith("none: no session of 60 s can save anything")
    assert seen.done_at is None
