"""A status is read while a session may be restored into the tree: it looks, and neither mends nor moves."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from small_trees import SCENARIO, SECTION, config_in, plant

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.checkpoints.atomic_swap import ready
from kaggle_manager.config import RunConfig
from kaggle_manager.dashboard.export_html import write_html
from kaggle_manager.errors import Unavailable
from kaggle_manager.platforms.platform import Limits, Platform
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow, SessionRow, Trouble
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.status.forecast import forecast_run
from kaggle_manager.status.history import History
from kaggle_manager.status.overview import overview
from kaggle_manager.status.run_status import describe_all, describe_run
from kaggle_manager.system.formatting import iso

NOW = 1_800_000_000.0


def run_in(folder: Path) -> tuple[RunRow, TrainingTree]:
    tree = TrainingTree(folder / "models", "walk")
    store = CheckpointStore(tree)
    for step in (10, 20):
        lineage = Lineage("r", 1, None, 0)
        store.save_latest(
            step=step, target=30, lineage=lineage, bundle_sha256="b", files={"model": b"m", "state": b"s"}
        )
    row = RunRow("r", "section", "walk", 30, False, str(tree.root), "local", "o", "s", "2026-11-22T00:00:00+00:00")
    return row, tree


def everything_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_damaged_checkpoint_stays_where_it_is(tmp_path: Path) -> None:
    row, tree = run_in(tmp_path)
    (tree.checkpoints / tree.manifest_name("latest", 20)).write_text("{}")
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.add_run(row)
        before = everything_in(tmp_path / "models")
        assert describe_run(RunState(journal, row), NOW).step == 10
        assert everything_in(tmp_path / "models") == before


def test_a_restore_between_two_of_its_renames_is_left_alone(tmp_path: Path) -> None:
    row, tree = run_in(tmp_path)
    tree.root.rename(ready(tree.root))
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.add_run(row)
        describe_run(RunState(journal, row), NOW)
    assert ready(tree.root).is_dir()
    assert not tree.root.exists()


def test_a_finished_run_whose_files_are_cut_or_gone_is_not_just_finished(tmp_path: Path) -> None:
    row, tree = run_in(tmp_path)
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.add_run(row)
        journal.finish_run(row.run_id, "finished", "2026-11-22T01:00:00+00:00")
        whole = describe_run(RunState(journal, journal.run(row.run_id)), NOW)
        assert not whole.human_action_required
        (tree.checkpoints / tree.name("latest", "model", 20)).write_bytes(b"")
        cut = describe_run(RunState(journal, journal.run(row.run_id)), NOW)
    assert (cut.state, cut.human_action_required) == ("finished", True)
    assert "0 bytes where 1 were committed" in cut.why
    assert cut.next.startswith("km checkpoints verify section --scenario walk")


AT = "2026-11-22T00:00:{:02}+00:00"


def trained_in(folder: Path) -> Path:
    """A workdir with a tree and the journal of its run of two sessions; returns the journal."""
    config = config_in(folder)
    plant(config.tree)
    row = RunRow("run", SECTION, SCENARIO, 9, False, str(config.tree), "local", "me", "slug", AT.format(0))
    facts = {"gained": 1, "ran_s": 12.0, "timings": {"setup": 8.0, "train": 1.0}}
    with closing(Journal(config.journal)) as journal:
        journal.add_run(row)
        for number, (began, ended) in enumerate(((0, 12), (20, 32)), start=1):
            ends = {"ended_at": AT.format(ended), "facts": facts}
            journal.add_session(
                SessionRow("run", number, Stage.CLOSED, None, number - 1, "b" * 64, "", AT.format(began), **ends)
            )
    return config.journal


def test_short_sessions_are_told_in_seconds(tmp_path: Path) -> None:
    with closing(Journal.to_read(trained_in(tmp_path))) as journal:
        lines = list(History(tuple(describe_all(journal, NOW))).lines())
    assert lines[1].startswith("  session 1, 12 s: ")
    assert "24 s in all" in lines[-1]


def test_a_forecast_says_what_lies_before_its_date(tmp_path: Path) -> None:
    with closing(Journal.to_read(trained_in(tmp_path))) as journal:
        lines = list(forecast_run(config_in(tmp_path), None, journal, NOW).lines())
    assert "pace: 1 steps/s after 8 s of set-up, 8 s between sessions" in lines
    assert "quota: not known now; the forecast assumes that it is enough" in lines
    with closing(Journal.to_read(tmp_path / "none")) as journal:
        long = list(forecast_run(config_in(tmp_path), None, journal, NOW).lines())
    assert not any("between" in line for line in long), "nothing is measured"


def test_a_forecast_needs_no_network(tmp_path: Path) -> None:
    def refused(config: RunConfig) -> Connection:
        raise Unavailable("Kaggle does not answer.")

    with closing(Journal.to_read(trained_in(tmp_path))) as journal:
        config = replace(config_in(tmp_path), platform="kaggle", quota_per_week_s=3600.0)
        lines = list(forecast_run(config, refused, journal, NOW).lines())
    assert "quota: not known now; the forecast assumes that it is enough" in lines
    assert any(line.startswith("target: ") for line in lines)


@pytest.mark.parametrize(("allowed_s", "told"), [(3600.0, "at most 1 h"), (400 * 3600.0, "at most 12 h")])
def test_a_forecast_has_no_session_longer_than_the_platform_allows(tmp_path: Path, allowed_s: float, told: str) -> None:
    class Cluster(Platform):
        def limits(self) -> Limits:
            return Limits(allowed_s, {}, 10**6)

    Cluster.__abstractmethods__ = frozenset()
    config = replace(config_in(tmp_path), platform="slurm")
    cluster = Connection(Cluster(), "me", "slurm", "it was asked for")  # type: ignore[abstract]
    with closing(Journal.to_read(tmp_path / "none")) as journal:
        assert told in forecast_run(config, lambda config: cluster, journal, NOW).next_session


COMMANDS = """
import sys
from typer.testing import CliRunner
from kaggle_manager.cli.commands import app
for command in sys.argv[1:]:
    done = CliRunner().invoke(app, command.split("|"))
    print(done.exit_code, command, done.output)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="takes from root what lets it write anywhere")
@pytest.mark.parametrize("was_trained", [True, False])
def test_what_only_reads_works_where_nothing_can_be_written(was_trained: bool, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    if was_trained:
        trained_in(place)
    workdir = f"--workdir|{place}"
    reads = ("status", "history", f"forecast|{SECTION}|--platform|local", f"checkpoints|ls|{SECTION}|--no-verify")
    commands = [*(f"{command}|{workdir}" for command in reads), f"stop|{SECTION}|--platform|local|{workdir}"]
    folders = [place, *(folder for folder in place.rglob("*") if folder.is_dir())]

    def give_up_writing_anywhere() -> None:
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # drops CAP_DAC_OVERRIDE, if this is root

    try:
        for folder in folders:
            folder.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS, *commands],
            cwd=Path(__file__).resolve().parents[3],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KM_PLATFORM": "local"},
            preexec_fn=give_up_writing_anywhere,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        for folder in folders:
            folder.chmod(0o755)
    codes = [line[:2].strip() for line in done.stdout.splitlines() if workdir in line]
    assert codes == ["0", "0", "0", "0", "1" if was_trained else "9"], done.stdout
    says = "could not be written down" if was_trained else "has no unfinished run"
    assert done.stdout.count(says) == 1, f"what writes says so: {done.stdout}"


def test_where_exactness_was_lost_is_shown_by_every_face(tmp_path: Path) -> None:
    row, tree = run_in(tmp_path)
    CheckpointStore(tree).save_latest(
        step=30,
        target=30,
        lineage=Lineage("r", 2, None, 0),
        bundle_sha256="b",
        files={"model": b"m", "state": b"s"},
        # The session that wrote this was exact again: the break is an earlier one's.
        exact={"exact": "none", "environment": "pickle", "broken": [{"step": 20, "why": "numpy: 1.26 -> 2.0"}]},
    )
    lost = "exact up to step 20, then numpy: 1.26 -> 2.0"
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.add_run(row)
        [report] = describe_all(journal, NOW)
        shown = overview(journal, None, NOW)
    assert report.as_json()["exactness"] == lost
    assert shown.as_json()["exactness"] == lost
    assert f"  {lost}" in list(shown.lines())
    assert f"  {lost}" in list(History((report,)).lines())
    write_html(tmp_path, tmp_path / "page.html")
    assert lost.replace(">", "&gt;") in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="there, no process is asked for by its number")
def test_a_command_that_works_on_a_run_is_named_with_the_run_as_long_as_it_lives(tmp_path: Path) -> None:
    row, tree = run_in(tmp_path)
    hold = "import sys; from pathlib import Path; from kaggle_manager.checkpoints.tree_lock import hold_tree"
    hold += "\nwith hold_tree(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    with (
        closing(Journal(tmp_path / "journal.sqlite")) as journal,
        subprocess.Popen(
            [sys.executable, "-c", hold, str(tree.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as worker,
    ):
        journal.add_run(row)
        assert worker.stdout is not None
        worker.stdout.readline()
        seen = describe_run(RunState(journal, row), NOW)
        assert f"a command works on it: process {worker.pid} of user" in seen.why
        assert seen.next.startswith("km logs"), "any that works on it would find it busy"
        worker.kill()
        worker.wait()
        assert "works on it" not in describe_run(RunState(journal, row), NOW).why


def test_quick_runs_that_are_over_are_shown_when_they_are_asked_for_or_there_is_nothing_else(tmp_path: Path) -> None:
    row, _ = run_in(tmp_path)
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        for number in range(3):
            old = replace(row, run_id=f"quick{number}", quick=True, tree=f"{row.tree}_{number}")
            journal.add_run(replace(old, finished_at=AT.format(number), outcome="given up"))
        alone = overview(journal, None, NOW).without_old_quick_runs()
        assert ([run.run_id for run in alone.runs], alone.left_out) == (["quick2"], 2)
        journal.add_run(replace(row, run_id="whole"))
        every = overview(journal, None, NOW)
        shown = every.without_old_quick_runs()
    assert [run.run_id for run in shown.runs] == ["whole"]
    assert "not shown: 3 quick runs that are over; km status --all" in list(shown.lines())[-1]
    assert shown.as_json()["left_out"] == 3
    assert len(every.only(scenario=None, seed=None, quick=True).runs) == 3
    assert every.only(scenario="walk", seed=None, quick=False).runs == every.runs
    none = every.only(scenario=None, seed=7, quick=False).without_old_quick_runs()
    (line,) = none.lines()
    assert line.startswith("no run here is what these options name; next: km status --all")
    assert none.left_out == 4


def test_a_forecast_tells_the_speed_of_a_running_session_and_that_it_does_not_count_yet(tmp_path: Path) -> None:
    with closing(Journal(trained_in(tmp_path))) as journal:
        for session in journal.sessions("run"):
            seen = {"step": 5, "target": 9, "steps_per_s": 93.0}
            journal.update_session(session, stage=Stage.PUSHED, facts={"seen": seen})
        lines = list(forecast_run(config_in(tmp_path), None, journal, NOW).lines())
    assert any("the session that runs tells of 93 steps/s, which counts once it has ended" in line for line in lines)


@pytest.mark.parametrize("why", ["job 7: it is held", ""])
def test_a_session_that_waits_for_its_machine_is_called_queued_with_the_reason_of_its_platform(
    tmp_path: Path, why: str
) -> None:
    row, _ = run_in(tmp_path)
    seen = {"state": "QUEUED", "queued_since": NOW, "why_queued": why}
    session = SessionRow("r", 1, Stage.PUSHED, None, 0, "b", "", row.created_at, "1", facts={"seen": seen})
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.add_run(row)
        journal.add_session(session)
        found = describe_run(RunState(journal, row), NOW)
        shown = [*overview(journal, None, NOW).lines()]
    assert found.state == "queued"
    assert found.why.endswith("; it waits in the queue" + f": {why}" * bool(why))
    assert shown[0].startswith("QUEUED ")


def test_two_seeds_side_by_side_are_told_apart_and_each_command_is_about_its_own(tmp_path: Path) -> None:
    row, _ = run_in(tmp_path)
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.add_run(replace(row, run_id="first"))
        journal.add_run(replace(row, run_id="third", settings={"seed": 3}, tree=f"{row.tree}_seed_3"))
        first, third = reversed(describe_all(journal, NOW))
        shown = "\n".join(overview(journal, None, NOW).lines())
        past = "\n".join(History((first, third)).lines())
    for text in (shown, past):
        assert "walk  " in text
        assert "walk, seed 3  " in text
    assert "--seed 3" in third.next
    assert "--seed" not in first.next
    assert (first.as_json()["seed"], third.as_json()["seed"]) == (None, 3)


@pytest.mark.parametrize("stage", [Stage.ENDED, Stage.CLOSED])
@pytest.mark.parametrize("trouble", [None, Trouble("stopped", "three crashes"), Trouble("OutputDamaged", "it is cut")])
def test_a_run_that_was_stopped_says_so_whatever_its_last_session_came_to(
    tmp_path: Path, stage: Stage, trouble: Trouble | None
) -> None:
    row, _ = run_in(tmp_path)
    forecast = {"done_at": iso(NOW + 60), "sessions": 1, "accelerator_s": 1.0, "made_at": None}
    row = replace(row, settings={"stopped": True}, trouble=trouble, forecast=forecast)
    session = SessionRow("r", 1, stage, None, 0, "b", "", row.created_at, "1", outcome="crashed", kind="code error")
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.add_run(row)
        journal.add_session(session)
        found = describe_run(RunState(journal, row), NOW)
    assert found.state == "stopped"
    assert found.forecast == {}, "no session follows that would reach the target"
    if stage is Stage.ENDED and trouble is not None:
        assert trouble.message in found.why, "what keeps the last session from being restored is not hidden"


def test_a_forecast_whose_date_has_passed_is_not_shown_as_coming(tmp_path: Path) -> None:
    row, _ = run_in(tmp_path)
    row = replace(row, forecast={"done_at": iso(NOW), "sessions": 1, "accelerator_s": 1.0, "made_at": None})
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.add_run(row)
        before, after = (describe_run(RunState(journal, row), moment) for moment in (NOW - 60, NOW))
    assert (before.forecast["done_at"], after.forecast) == (iso(NOW), {})


@pytest.mark.parametrize("trouble", [Trouble("stopped", "three crashes"), Trouble("OutputDamaged", "it is cut")])
def test_what_an_error_advised_is_what_comes_next_and_the_same_command_is_named(
    tmp_path: Path, trouble: Trouble
) -> None:
    row, _ = run_in(tmp_path)
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.add_run(row)
        for advice, added in (("read the log, and lower it", ""), ("run the same command again", "km run")):
            told = replace(row, trouble=replace(trouble, next_step=advice))
            seen = describe_run(RunState(journal, told), NOW).next
            assert seen.startswith(advice)
            assert added in seen
            assert (seen == advice) is (not added)


def test_a_quick_run_that_did_not_show_what_it_is_for_is_not_called_finished(tmp_path: Path) -> None:
    row, _ = run_in(tmp_path)
    shown = "The quick run reached its target but did not show: best model."
    row = replace(row, quick=True, outcome="finished", finished_at=row.created_at, target=20)
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.add_run(row)
        trouble = Trouble("VerificationError", shown, "mend the trainer first")
        found = describe_run(RunState(journal, replace(row, trouble=trouble)), NOW)
        passing = Trouble("RemoteError", "no answer", "wait", retryable=True)
        well = describe_run(RunState(journal, replace(row, trouble=passing)), NOW)
    assert (found.state, found.why, found.next) == ("error", shown, "mend the trainer first")
    assert found.human_action_required
    assert well.state != "error"
