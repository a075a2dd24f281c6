"""A request to stop, from wherever and however often it comes, ends in order: real processes, real signals."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from processes import has_ended
from trainer_runs import launch_order

from kaggle_manager.checkpoints import find_latest_checkpoint

ROOT = Path(__file__).resolve().parents[2]
HANGS_AFTER_S = 120

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sessions run on Linux")

# A trainer without torch: it says which requests reach it, and takes a moment before it can hear any.
STUB = """
import json, os, time
from pathlib import Path
from kaggle_manager.trainer.runtime.session_clock import SessionClock, stop_signals

class Counting(SessionClock):
    asked = []
    def request_stop(self, reason):
        self.asked.append(reason.rpartition(" ")[2])

def run(order):
    time.sleep(0.3)
    with stop_signals(Counting(), second_interrupts=False):
        print("trains", flush=True)
        while not Counting.asked:
            time.sleep(0.01)
        time.sleep(0.3)
    said = {"asked": Counting.asked, "own_group": os.getpgrp() == os.getpid()}
    Path(os.environ["KM_WORKING_DIR"], "session_result.json").write_text(json.dumps(said))
    return 0
"""
ENTRY = """
import json, sys
sys.path.insert(0, sys.argv[1])
import entry
sys.exit(entry.main(**json.load(open(sys.argv[2]))))
"""


def packed(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


@contextlib.contextmanager
def kernel(folder: Path, files: dict[str, bytes], order: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """The first process of a session, in a process group as a terminal's."""
    archive = packed(files)
    given = {
        "bundle_sha256": hashlib.sha256(archive).hexdigest(),
        "order": order,
        "payload": base64.b85encode(lzma.compress(archive, preset=0)).decode(),
    }
    (folder / "given.json").write_text(json.dumps(given))
    (folder / "working").mkdir()
    environment = {**os.environ, "KM_WORKING_DIR": str(folder / "working"), "KM_INPUT_DIR": str(folder / "input")}
    command = [sys.executable, "-c", ENTRY, str(ROOT / "kaggle_manager/trainer"), str(folder / "given.json")]
    with subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(stream: IO[bytes] | None, text: str) -> None:
    assert stream is not None
    read = []
    for line in stream:
        read.append(line.decode())
        if text in read[-1]:
            return
    raise AssertionError("".join(read))


def wait_for_a_save(process: subprocess.Popen[bytes], tree: Path) -> None:
    while not list(tree.glob("checkpoints/*.manifest.json")):
        assert process.poll() is None
        time.sleep(0.01)


def code(trainer: str | None = None) -> dict[str, bytes]:
    """This program as a bundle has it, and a trainer in the place of its own."""
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / "kaggle_manager").rglob("*.py")}
    return files if trainer is None else {**files, "kaggle_manager/trainer/main.py": trainer.encode()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_reaches_the_trainer_once(tmp_path: Path, number: signal.Signals) -> None:
    with kernel(tmp_path, code(STUB), {}) as process:
        wait_for(process.stdout, "trains")
        os.killpg(process.pid, number)
        assert process.wait(HANGS_AFTER_S) == 0
    assert json.loads((tmp_path / "working/session_result.json").read_text()) == {
        "asked": [number.name],
        "own_group": True,
    }


@pytest.mark.parametrize("said", ["KM_SESSION", "ready to train"])
def test_a_signal_that_comes_before_the_trainer_can_hear_is_heard_when_it_can(tmp_path: Path, said: str) -> None:
    with kernel(tmp_path, code(STUB), {}) as process:
        wait_for(process.stdout, said)
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANGS_AFTER_S) == 0
    assert json.loads((tmp_path / "working/session_result.json").read_text()) == {
        "asked": ["SIGTERM"],
        "own_group": True,
    }


@pytest.mark.slow
def test_signals_without_end_leave_an_orderly_result_and_a_checkpoint(tmp_path: Path) -> None:
    order = launch_order(tmp_path / "code", target=10**6, save_every=200)
    names = ("sections/cart/section.toml", "sections/cart/environment.py")
    files = {**code(), **{name: (tmp_path / "code" / name).read_bytes() for name in names}}
    with kernel(tmp_path, files, order) as process:
        with (tmp_path / "working/large.bin").open("wb") as file:
            file.truncate(600_000_000)  # to be hashed, while more signals come
        wait_for(process.stdout, "KM_RESUME")
        wait_for_a_save(process, tmp_path / "working/training_tree")
        numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
        while process.poll() is None:
            os.killpg(process.pid, numbers[0])
            numbers = [*numbers[1:], numbers[0]]
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        assert process.returncode == 0
    result = json.loads((tmp_path / "working/session_result.json").read_text())
    assert (result["outcome"], result["exit_code"]) == ("interrupted", 0), result
    found = find_latest_checkpoint(tmp_path / "working/training_tree", "cart")
    assert found is not None
    assert found.step == result["step"] > 0


# A training whose environments live in processes of their own; told to end by signals to all of them.
WORKERS = """
import sys
from pathlib import Path
from trainer_runs import SCENARIO, origin_of, settings
from kaggle_manager.trainer.runtime.session_clock import SessionClock, stop_signals
from kaggle_manager.trainer.sb3.trainer import train

if __name__ == "__main__":
    clock = SessionClock()
    chosen = settings(
        Path(sys.argv[1]), algorithm="A2C", hyperparameters={}, total=10**6, save_every=200, evaluate_every=10**6,
        n_envs=2, processes=True,
    )
    with stop_signals(clock):
        outcome = train(chosen, origin_of(chosen.tree), clock)
    print(f"ended {outcome.kind} {outcome.step}", flush=True)
"""


@contextlib.contextmanager
def training_with_workers(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """The training, and all its processes, once it trains."""
    script = folder / "workers.py"
    script.write_text(WORKERS)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests/support'}"}
    with subprocess.Popen(
        [sys.executable, str(script), str(folder / "tree")],
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            wait_for(process.stdout, "Starting from zero")
            wait_for_a_save(process, folder / "tree")
            yield process, members(process.pid)
        finally:
            process.kill()


def members(session: int) -> list[int]:
    """Every process of a session of the operating system, whatever its group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            after_name = stat.read_text().rpartition(")")[2].split()
            if int(after_name[3]) == session and after_name[0] != "Z":
                found.append(int(stat.parent.name))
    return found


def is_worker(process: int) -> bool:
    """Whether an environment lives in it. The process that forks these is in the trainer's group."""
    return "forkserver" in Path(f"/proc/{process}/cmdline").read_text() and os.getpgid(process) == process


def assert_all_end(processes: list[int]) -> None:
    deadline = time.monotonic() + HANGS_AFTER_S
    for process in processes:
        while not has_ended(process) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert has_ended(process)


@pytest.mark.slow
def test_a_signal_to_every_process_of_a_training_ends_it_in_order(tmp_path: Path) -> None:
    with training_with_workers(tmp_path) as (process, everyone):
        assert len(everyone) >= 4, "trainer, writer, two workers"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for worker in filter(is_worker, everyone):
                os.kill(worker, number)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.stdout is not None
        said = process.stdout.read().decode()
        assert process.wait(HANGS_AFTER_S) == 0, said
    assert "ended interrupted" in said
    assert find_latest_checkpoint(tmp_path / "tree", "cart") is not None
    assert_all_end(everyone)


@pytest.mark.slow
def test_a_training_whose_worker_dies_ends_with_an_error_and_leaves_no_process(tmp_path: Path) -> None:
    with training_with_workers(tmp_path) as (process, everyone):
        os.kill(max(filter(is_worker, everyone)), signal.SIGKILL)
        assert process.wait(HANGS_AFTER_S) != 0
    assert_all_end(everyone)
