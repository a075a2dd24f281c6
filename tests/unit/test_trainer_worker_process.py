"""A call into the other process is a call: results, errors, order; and that process never outlives this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kaggle_manager.errors import RunError, StorageError
from kernels.rl_training.worker_process import WorkerProcess

ROOT = Path(__file__).resolve().parents[2]
forks = pytest.mark.skipif(sys.platform != "linux", reason="another process is used on Linux")


def answer(question: int) -> tuple[int, int]:
    if question < 0:
        raise StorageError("the disk is full", safe="all", next_step="free some")
    if question == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return question * 2, os.getpid()


def test_results_and_errors_come_back_as_from_a_call() -> None:
    worker = WorkerProcess(answer)
    assert worker(4)[0] == 8
    with pytest.raises(StorageError, match="full") as caught:
        worker(-1)
    assert (caught.value.safe, caught.value.next_step) == ("all", "free some")
    assert worker(5)[0] == 10, "an error does not end it"
    worker.close()
    worker.close()


@forks
def test_the_call_happens_in_another_process_whose_end_is_noticed() -> None:
    worker = WorkerProcess(answer)
    assert worker(1)[1] != os.getpid()
    with pytest.raises(RunError, match="is gone"):
        worker(0)
    worker.close()


SCRIPT = """
import sys, time
from kernels.rl_training.worker_process import WorkerProcess
def work(seconds):
    time.sleep(seconds)
    print("written", flush=True)
worker = WorkerProcess(work)
print(worker._process.pid, flush=True)
if sys.argv[1] == "busy":
    worker(60)
"""


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone"


@forks
def test_a_killed_training_takes_its_writer_with_it() -> None:
    command = [sys.executable, "-c", SCRIPT, "busy"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
        assert process.stdout.read() == ""  # returns when nobody holds the other end any more
    deadline = time.monotonic() + 10
    while _state(pid) not in ("gone", "Z") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _state(pid) in ("gone", "Z")


@forks
def test_a_training_that_forgets_to_close_still_ends() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT, "idle"], cwd=ROOT, check=True, timeout=60, stdout=subprocess.DEVNULL)
