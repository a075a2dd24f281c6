"""A call into the other process is a call: results, errors, order; and that process never outlives this one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from kaggle_manager.errors import RunError, StorageError
from kaggle_manager.trainer.sb3.worker_process import WorkerProcess

Argument = TypeVar("Argument")
Result = TypeVar("Result")

ROOT = Path(__file__).resolve().parents[3]
forks = pytest.mark.skipif(sys.platform != "linux", reason="another process is used on Linux")


def answer(question: int) -> tuple[int, int]:
    if question < 0:
        raise StorageError("the disk is full", safe="all", next_step="free some")
    if question == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return question * 2, os.getpid()


def call(worker: WorkerProcess[Argument, Result], argument: Argument) -> Result:
    worker.start(argument)
    result = worker.join()
    assert result is not None
    assert worker.join() is None, "a result is given once"
    return result


def test_results_and_errors_come_back_as_from_a_call() -> None:
    worker = WorkerProcess(answer)
    assert call(worker, 4)[0] == 8
    with pytest.raises(StorageError, match="full") as caught:
        call(worker, -1)
    assert (caught.value.safe, caught.value.next_step) == ("all", "free some")
    assert call(worker, 5)[0] == 10, "an error does not end it"
    worker.close()
    worker.close()


class OfItsOwnKind(Exception):
    """Cannot be pickled: its constructor asks for more than a message."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(name)


def fails(kind: str) -> None:
    raise OfItsOwnKind("odd", 3) if kind == "odd" else ValueError("wrong")


@forks
@pytest.mark.parametrize(("kind", "raised"), [("odd", RunError), ("plain", ValueError)])
def test_an_error_comes_with_the_traceback_of_the_other_process(kind: str, raised: type[Exception]) -> None:
    worker = WorkerProcess(fails)
    worker.start(kind)
    with pytest.raises(raised) as caught:
        worker.join()
    assert "in fails" in "".join(caught.value.__notes__)
    worker.close()


@forks
def test_what_is_handed_over_is_what_it_was_when_the_call_began(tmp_path: Path) -> None:
    def sums(arrays: list[np.ndarray[Any, Any]]) -> list[float]:
        while not (tmp_path / "changed").exists():
            time.sleep(0.001)
        return [float(array.sum()) for array in arrays]

    worker = WorkerProcess(sums)
    for size in (10, 300_000, 3):  # the shared memory grows, and is not cut
        array = np.arange(size, dtype=np.float64)
        # More parts than one call of the system takes, some of them empty, some not in one piece.
        arrays = [array, array[:0], array[::2], *(np.full(2, number) for number in range(2000))]
        expected = [float(part.sum()) for part in arrays]
        (tmp_path / "changed").unlink(missing_ok=True)
        worker.start(arrays)
        assert worker.look() is None, "it is not waited for"
        array[:] = -1
        (tmp_path / "changed").touch()
        assert worker.join() == expected
    worker.close()


@forks
def test_a_look_finds_a_result_or_an_error_when_there_is_one() -> None:
    worker = WorkerProcess(answer)
    assert worker.look() is None
    for question in (7, -1):
        worker.start(question)
        with pytest.raises(StorageError) if question < 0 else contextlib.nullcontext():
            while (found := worker.look()) is None:
                time.sleep(0.001)
            assert found[0] == 14
    worker.close()


@forks
def test_the_call_happens_in_another_process_whose_end_is_noticed() -> None:
    worker = WorkerProcess(answer)
    assert call(worker, 1)[1] != os.getpid()
    for _ in range(2):
        with pytest.raises(RunError, match="is gone"):
            call(worker, 0)
    worker.close()


SCRIPT = """
import sys, time
from kaggle_manager.trainer.sb3.worker_process import WorkerProcess
def work(seconds):
    time.sleep(seconds)
    print("written", flush=True)
worker = WorkerProcess(work)
print(worker._process.pid, flush=True)
if sys.argv[1] == "busy":
    worker.start(60)
    worker.join()
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
    deadline = time.monotonic() + 120
    while _state(pid) not in ("gone", "Z") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _state(pid) in ("gone", "Z")


@forks
def test_a_training_that_forgets_to_close_still_ends() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT, "idle"], cwd=ROOT, check=True, timeout=120, stdout=subprocess.DEVNULL)
