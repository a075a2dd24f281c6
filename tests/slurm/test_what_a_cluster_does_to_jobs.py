"""What else happens on a cluster: lost answers, killed jobs that Slurm forgets, a slurmd that restarts, a full disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loopback_slurm import LoopbackSlurm, why_not

from kaggle_manager.errors import AmbiguousPush, StorageError, Unavailable
from kaggle_manager.platforms.platform import SessionRef, SessionRequest, SessionState, SessionStatus
from kaggle_manager.platforms.slurm.client import SlurmPlatform

pytestmark = pytest.mark.slow
PRELUDE = "import os, sys, time, pathlib\nout = pathlib.Path(os.environ['KM_WORKING_DIR'])\n"
HANGS_S = 600.0  # ends a test that waits for what does not come
UNTIL_GO = "while not (out / 'go').exists(): time.sleep(0.05)"


@pytest.fixture(scope="module")
def slurm_here() -> Iterator[LoopbackSlurm]:
    """One that forgets a job a few seconds after its end."""
    if why := why_not():
        pytest.skip(why)
    slurm = LoopbackSlurm(min_job_age_s=2)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()


def start(platform: SlurmPlatform, code: str) -> SessionRef:
    return platform.start(SessionRequest(platform.whoami(), "km-test", PRELUDE + code)).version


def until(platform: SlurmPlatform, ref: SessionRef, is_it: Callable[[SessionStatus], bool]) -> SessionStatus:
    deadline = time.monotonic() + HANGS_S
    while not is_it(status := platform.status(ref)):
        assert time.monotonic() < deadline, status
        time.sleep(0.1)
    return status


def newest(platform: SlurmPlatform) -> SessionRef:
    """The session that was started last, as soon as Slurm says."""
    deadline = time.monotonic() + HANGS_S
    while True:
        try:
            found = platform.newest(platform.whoami(), "km-test")
        except Unavailable:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        else:
            assert found is not None
            return found[0]


def folder(platform: SlurmPlatform, ref: SessionRef) -> Path:
    return Path(platform.page(ref.owner, ref.slug).removesuffix(" on this machine"), ref.id)


def test_a_submission_that_was_not_answered_and_did_start_is_found_and_runs_once(
    platform: SlurmPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin/sbatch"
    said = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    fake.write_text(f'#!/bin/sh\n{shutil.which("sbatch")} "$@" >/dev/null; echo "{said}" >&2; exit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(AmbiguousPush):
        start(platform, UNTIL_GO)
    found = platform.newest(platform.whoami(), "km-test")
    assert found is not None
    assert UNTIL_GO in found[1]
    until(platform, found[0], lambda status: status.state is SessionState.RUNNING)
    (folder(platform, found[0]) / "output/go").touch()
    assert until(platform, found[0], lambda status: status.state.is_terminal).state is SessionState.COMPLETE


def test_a_controller_that_answers_late_has_started_one_job_and_ended_none(
    platform: SlurmPlatform, slurm: LoopbackSlurm
) -> None:
    """It stands still for as long as Slurm's commands wait for it, and then does what it was asked for."""
    running = start(platform, UNTIL_GO)
    until(platform, running, lambda status: status.state is SessionState.RUNNING)
    slurm.controller_hangs()
    try:
        with ThreadPoolExecutor() as threads:
            submission = threads.submit(start, platform, UNTIL_GO)
            state = threads.submit(platform.status, running)
            assert isinstance(submission.exception(), AmbiguousPush)
            assert isinstance(state.exception(), Unavailable)
    finally:
        slurm.controller_answers()
    found = newest(platform)
    assert found.id != running.id, "the late one"
    for ref in (running, found):
        until(platform, ref, lambda status: status.state is SessionState.RUNNING)
        (folder(platform, ref) / "output/go").touch()
        assert until(platform, ref, lambda status: status.state.is_terminal).state is SessionState.COMPLETE
    assert len([*folder(platform, found).parent.glob("*/started")]) == 2


def test_a_job_killed_with_all_it_has_is_an_end_also_when_slurm_has_forgotten_it(
    platform: SlurmPlatform, slurm: LoopbackSlurm
) -> None:
    ref = start(
        platform,
        "(out / 'pids.tmp').write_text(f'{os.getppid()} {os.getpid()}')\n"
        "(out / 'pids.tmp').rename(out / 'pids')\ntime.sleep(300)",
    )
    pids = folder(platform, ref) / "output/pids"
    deadline = time.monotonic() + HANGS_S
    while not pids.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for pid in pids.read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    ended = until(platform, ref, lambda status: status.state.is_terminal)
    assert ended.state is SessionState.ERROR
    forgotten = until(platform, ref, lambda status: status.raw == "FORGOTTEN")
    assert forgotten.state is SessionState.ERROR
    assert "Slurm has forgotten it" in forgotten.failure_message
    found = platform.newest(ref.owner, ref.slug)
    assert found is not None
    assert found[0] == ref, "and what it left is not lost"
    assert [file.name for file in platform.outputs(ref).files] == ["pids"]


def test_a_job_outlives_a_slurmd_that_restarts(platform: SlurmPlatform, slurm: LoopbackSlurm) -> None:
    ref = start(platform, UNTIL_GO)
    until(platform, ref, lambda status: status.state is SessionState.RUNNING)
    slurm.node_down()
    try:
        assert not platform.status(ref).state.is_terminal
    finally:
        slurm.node_up()
    (folder(platform, ref) / "output/go").touch()
    assert until(platform, ref, lambda status: status.state.is_terminal).state is SessionState.COMPLETE


def test_a_full_disk_of_the_cluster_starts_nothing_and_one_that_fills_up_is_an_end(
    slurm: LoopbackSlurm, tmp_path: Path
) -> None:
    (disk := tmp_path / "disk").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this machine mounts no small disk: {mounted.stderr.decode().strip()}")
    try:
        platform = SlurmPlatform({"folder": str(disk / "sessions")}, tmp_path)
        with pytest.raises(StorageError, match="cannot be written"):
            start(platform, f"# {'x' * 200_000}")
        (tree := tmp_path / "tree.pack").write_bytes(bytes(200_000))
        with pytest.raises(StorageError, match=r"tree\.pack on this machine cannot be written: No space") as refused:
            platform.publish_inputs(owner="me", slug="km-tree", files=[tree], notes="")
        assert "nothing was started" in refused.value.safe
        assert slurm.jobs() == []
        subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
        ref = start(platform, "(out / 'all').write_bytes(bytes(8_000_000))")
        assert until(platform, ref, lambda status: status.state.is_terminal).state is SessionState.ERROR
        assert newest(platform) == ref, "and nothing is lost of what the disk took"
        assert [file.name for file in platform.outputs(ref).files] == ["all"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)
