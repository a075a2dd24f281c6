"""A run over Slurm jobs, through whatever ends a manager, a job or the controller: the bits of an undisturbed one."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from loopback_slurm import LoopbackSlurm
from small_project import SCENARIO, SECTION, Told, installed

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.config import build_config
from kaggle_manager.errors import ConfigError
from kaggle_manager.local_kaggle.launcher import stop
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator import passes, push
from kaggle_manager.orchestrator.manager import ValidationKaggleManager
from kaggle_manager.orchestrator.stop import stop_run
from kaggle_manager.platforms.slurm import client
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sections.input_folders import files_in
from kaggle_manager.sessions import output_listing
from kaggle_manager.sessions.connection import connect

pytestmark = pytest.mark.slow
TARGET = 6
HANGS_S = 600.0  # ends a test that waits for what does not come
EXAMPLES = Path(__file__).resolve().parents[2] / "docs/platforms"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "TROUBLE_WAIT_S", 0.5)
    monkeypatch.setattr(push, "UNANSWERED_WAIT_S", 0.5)
    monkeypatch.setattr(client, "SUBMITTED_WITHIN_S", 0.0)


def manager(project: Path, workdir: Path, platform: str = "slurm", told: Told | None = None) -> ValidationKaggleManager:
    return ValidationKaggleManager(
        platform=platform,
        workdir=workdir,
        project_root=project,
        reporter=told or Told(),
        check_before_push=lambda config, reporter, stated: None,
        notifier=Notifier(),
    )


def tree_of(workdir: Path) -> TrainingTree:
    return TrainingTree(workdir / "sections" / SECTION / "data/models", SCENARIO)


def final_bits(workdir: Path) -> bytes:
    final = CheckpointStore(tree_of(workdir)).final()
    assert final is not None
    assert final.step == TARGET
    return final.read("model")


def uninterrupted() -> bytes:
    """What the small trainer makes of `TARGET` steps; each step makes its model of the one before."""
    model = b""
    for step in range(1, TARGET + 1):
        model = hashlib.sha256(model + b"%d" % step).digest()
    return model


def plan(project: Path, **steps: str) -> None:
    main = installed(project) / "kaggle_manager/trainer/main.py"
    wanted = {int(key[1:]): value for key, value in steps.items()}
    main.write_text(re.sub(r"^PLAN = .*$", f"PLAN = {wanted}", main.read_text(), flags=re.MULTILINE))


def sessions(workdir: Path) -> list[tuple[int, str | None]]:
    with closing(Journal(workdir / "journal.sqlite")) as journal:
        (run,) = journal.runs()
        return [(session.generation, session.version) for session in journal.sessions(run.run_id)]


def test_a_target_is_reached_over_jobs_whatever_ends_a_job_the_manager_and_the_controller(
    slurm: LoopbackSlurm, project: Path, tmp_path: Path
) -> None:
    """Job 2 ends itself, managers end around a submission and in a watch, the controller goes: nothing runs twice."""
    work = tmp_path / "work"
    plan(project, g2="die")
    assert killed("before sbatch", project, work)
    assert killed("after sbatch", project, work)
    assert killed("watch", project, work)
    slurm.controller_down()
    try:
        assert "controller" in told(project, work, until="controller")
    finally:
        slurm.controller_up()
    report = manager(project, work).run_validation_section(SECTION, timesteps=TARGET)
    assert report.step == TARGET
    assert final_bits(work) == uninterrupted()
    worked = [path.parent.name for path in (work / "slurm/runs").glob("*/*/started")]
    assert sorted(worked) == sorted(job for _, job in sessions(work)), "one job for each session number"
    assert slurm.jobs() == []


def test_a_line_of_setup_that_fails_is_said_with_its_words_and_no_second_job_comes(
    slurm: LoopbackSlurm, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KM_SLURM_SETUP", "true\necho 'no module cuda/99' >&2; false\ntrue")
    with pytest.raises(ConfigError, match=r"cuda/99' >&2; false' failed: no module cuda/99 .*exit code 1"):
        manager(project, tmp_path / "work").run_validation_section(SECTION, timesteps=TARGET)
    assert len(sessions(tmp_path / "work")) == 1


@pytest.mark.parametrize("setup", ["", "true"], ids=["of this Python", "of another one"])
def test_what_is_pinned_and_not_there_is_named_and_nothing_is_installed(
    slurm: LoopbackSlurm, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setup: str
) -> None:
    """Its Python is the user's: before a job where that is known here, else by the first one."""
    monkeypatch.setenv("KM_SLURM_SETUP", setup)
    section = project / "sections" / SECTION / "section.toml"
    section.write_text(section.read_text().replace("[kernel]", '[kernel]\npackages = ["gymnasium==0.0.1"]'))
    with pytest.raises(ConfigError, match=r"pins gymnasium==0\.0\.1"):
        manager(project, tmp_path / "work").run_validation_section(SECTION, timesteps=TARGET)
    assert len(sessions(tmp_path / "work")) == (1 if setup else 0)


def test_a_run_reads_its_data_from_the_clusters_disk_and_each_checkpoint_says_which(
    slurm: LoopbackSlurm, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data := tmp_path / "data").mkdir()
    (data / "demand.csv").write_text("1,2")
    monkeypatch.setenv("KM_SLURM_INPUTS", f"ann/demand={data}")
    section = project / "sections" / SECTION / "section.toml"
    section.write_text(
        section.read_text().replace("trains = true", 'trains = true\ninputs = ["ann/demand/versions/3"]')
    )
    assert manager(project, tmp_path / "work").run_validation_section(SECTION, timesteps=4).step == 4
    final = CheckpointStore(tree_of(tmp_path / "work")).final()
    assert final is not None
    assert final.manifest.identity["inputs"] == {"ann/demand": 3}
    assert final.manifest.identity["input_files"] == {"ann/demand": files_in(data)}


def test_a_run_changes_its_platform_and_comes_back_with_one_lineage(
    slurm: LoopbackSlurm, project: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    try:
        assert manager(project, work, "local").run_validation_section(SECTION, timesteps=2).step == 2
        assert manager(project, work).run_validation_section(SECTION, timesteps=4).step == 4
        assert manager(project, work, "local").run_validation_section(SECTION, timesteps=TARGET).step == TARGET
    finally:
        stop(work / "local_kaggle")
    assert final_bits(work) == uninterrupted()
    with closing(Journal(work / "journal.sqlite")) as journal:
        (run,) = journal.runs()
    assert run.platform == "local"
    assert [number for number, _ in sessions(work)] == [1, 2, 3], "one history"


def test_a_run_is_carried_by_a_platform_that_a_user_has_written(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    plan(project, g2="die")
    carried = manager(project, tmp_path / "work", "own_platform:ThisMachine", told := Told())
    report = carried.run_validation_section(SECTION, timesteps=TARGET)
    assert report.step == TARGET
    shown = told.text.getvalue().replace("kaggle_manager", "").replace("kaggle-manager", "")
    assert [line for line in shown.splitlines() if "kaggle" in line.lower()] == []
    assert report.platform == "own_platform:ThisMachine"
    assert final_bits(tmp_path / "work") == uninterrupted()


def test_another_machine_adopts_a_run_by_its_number(
    slurm: LoopbackSlurm, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the cluster's disk has is enough: the order of the newest session, and the tree that it continues."""
    monkeypatch.setenv("KM_SLURM_FOLDER", str(tmp_path / "cluster"))
    plan(project, g2="hang")
    watching = _manager(project, tmp_path / "first", "")
    deadline = time.monotonic() + HANGS_S
    while not list((tmp_path / "cluster/runs").glob("*/2/started")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    watching.kill()
    watching.wait()
    with closing(Journal.to_read(tmp_path / "first/journal.sqlite")) as journal:
        (run,) = journal.runs()
    there = manager(project, tmp_path / "second")
    adopted = there.adopt(SECTION, run.run_id)
    assert (adopted.generation, adopted.step) == (2, 2)
    slurm.ask("scancel", "--full", *slurm.jobs())
    plan(project, g2="train")
    assert there.run_validation_section(SECTION, timesteps=TARGET).step == TARGET
    assert final_bits(tmp_path / "second") == uninterrupted()


def test_a_first_job_that_is_held_is_queued_with_its_reason_and_gives_way_to_a_fresh_start_once_it_is_stopped(
    slurm: LoopbackSlurm, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    monkeypatch.setenv("KM_SLURM_SBATCH_OPTIONS", "--hold")
    seen = manager(project, work).tick(SECTION, timesteps=TARGET)
    assert seen.state == "queued"
    assert "it is held by its user: scontrol release" in seen.why
    with pytest.raises(ConfigError, match="may still be queued or running on slurm") as refused:
        manager(project, work).run_validation_section(SECTION, timesteps=TARGET, fresh=True)
    config = build_config(SECTION, platform="slurm", workdir=work, project_root=project, environ={})
    assert refused.value.next_step.startswith(config.command("stop"))
    with closing(Journal(config.journal)) as journal:
        assert stop_run(config, connect, journal, Told(), time.time()).cancelled
    monkeypatch.delenv("KM_SLURM_SBATCH_OPTIONS")
    report = manager(project, work, told=(told := Told())).run_validation_section(SECTION, timesteps=2, fresh=True)
    assert (report.step, len(report.sessions)) == (2, 1)
    assert "was not downloaded" not in told.text.getvalue(), "there was nothing"


def test_a_first_job_that_is_cancelled_in_the_queue_has_never_run_and_cost_nothing(
    slurm: LoopbackSlurm, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_listing, "LOOK_EVERY_S", 0.0)
    monkeypatch.setenv("KM_SLURM_SBATCH_OPTIONS", "--hold")
    assert manager(project, tmp_path / "work").tick(SECTION, timesteps=TARGET).state == "queued"
    slurm.ask("scancel", *slurm.jobs())
    report = manager(project, tmp_path / "work").tick(SECTION)
    (session,) = report.sessions
    assert session.why.startswith("ended before it ran (CANCELLED job ")
    assert (session.ran_s, session.lost_s, report.accelerator_s) == (0.0, 0.0, 0.0)
    assert report.state == "ready"


# A manager in a process of its own. It ends itself where it is told to.
RUN = """
import os, signal, sys
from pathlib import Path
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator import passes, push
from kaggle_manager.orchestrator.manager import ValidationKaggleManager
from kaggle_manager.platforms.slurm import client, remote, shell
from kaggle_manager.sessions import reconcile, watch
project, workdir, section, target, where = sys.argv[1:]
watch.FIRST_POLL_S, reconcile.LOOK_EVERY_S, client.SUBMITTED_WITHIN_S = 0.1, 0.1, 0.0
passes.TROUBLE_WAIT_S = push.UNANSWERED_WAIT_S = 0.5
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def script(self, text, *arguments, **options):
    done = run(self, text, *arguments, **options)
    return die() if text == remote.SUBMIT and where == "after sbatch" else done
run, shell.Shell.script = shell.Shell.script, script
if where == "before sbatch":
    client.sbatch = die
if where == "watch":
    watch._Watch.take_rest = die
ValidationKaggleManager(
    platform="slurm", workdir=Path(workdir), project_root=Path(project), notifier=Notifier(),
    check_before_push=lambda config, reporter, stated: None,
).run_validation_section(section, timesteps=int(target))
"""


def killed(where: str, project: Path, workdir: Path) -> bool:
    """Whether a manager ended itself there."""
    with _manager(project, workdir, where) as process:
        return process.wait(HANGS_S) == -signal.SIGKILL


def told(project: Path, workdir: Path, until: str) -> str:
    """What a manager printed until it had printed this word, and was killed."""
    with _manager(project, workdir, "") as process:
        deadline = time.monotonic() + HANGS_S
        while until not in (said := workdir.with_name("told.txt").read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
    return said


def _manager(project: Path, workdir: Path, where: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-u", "-c", RUN, str(project), str(workdir), SECTION, str(TARGET), where]
    environment = {**os.environ, "PYTHONPATH": str(installed(project))}
    with workdir.with_name("told.txt").open("wb") as out:
        return subprocess.Popen(words, cwd=project, env=environment, stdout=out, stderr=out)
