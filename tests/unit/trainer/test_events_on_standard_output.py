"""A trainer tells the manager in a session, and its user where nobody else reads along."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from kaggle_manager.protocol.events import EvaluationEvent, ProgressEvent, ResumeEvent, format_event, parse_event
from kaggle_manager.trainer.runtime.log_lines import emit_in_words, emit_to_log

PROGRESS = ProgressEvent(step=1200, target=3000, steps_per_s=35.25, reward=-12.345, checkpoint=1000)


class Pipe(io.RawIOBase):
    """Where an unbuffered standard output leads: counts the writes."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        text = bytes(data)  # type: ignore[call-overload]
        self.writes += [text] if text else []
        return len(text)


def test_an_event_is_one_write_that_ends_the_line_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe()
    # As `python -u` makes it, which is how a session's trainer runs.
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, write_through=True))  # type: ignore[type-var]
    emit = emit_to_log("r/1")
    print(".", end="")
    emit(PROGRESS)
    print(".", end="", flush=True)
    assert pipe.writes == [b".", format_event(PROGRESS, "r/1").encode(), b"."]
    assert parse_event(b"".join(pipe.writes).decode().split("\n")[1], "r/1") == PROGRESS


def test_an_event_is_in_the_log_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe()
    buffered = io.TextIOWrapper(io.BufferedWriter(pipe))
    monkeypatch.setattr(sys, "stdout", buffered)
    emit_to_log("r/1")(PROGRESS)
    assert b"".join(pipe.writes) == format_event(PROGRESS, "r/1").encode()


def test_a_user_reads_words_and_nothing_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    emit_in_words(PROGRESS)
    emit_in_words(ResumeEvent(step=0, target=3000))  # the trainer prints it in words itself
    emit_in_words(EvaluationEvent(step=5, score=1.5, best=False, episodes=2, env_steps=9, seconds=3.0))
    assert capsys.readouterr().out.splitlines() == [
        "  step 1200/3000 · target in 51 s · 35 steps/s · reward -12.3 · last checkpoint 1000",
        "  evaluated at step 5: mean reward 1.500 (2 episodes in 3 s)",
    ]


HOSTILE = """
import multiprocessing, os, sys
from kaggle_manager.trainer.runtime.log_lines import complain, emit_to_log, say, streams_kept, warn
from kaggle_manager.protocol.events import ResumeEvent

with streams_kept():
    exec(sys.argv[1])
    emit_to_log("r/1")(ResumeEvent(step=7, target=9))
    say("said")
    complain("complained")
    child = multiprocessing.get_context("fork").Process(target=warn, args=("from the writer",))
    child.start()
    child.join()
assert child.exitcode == 0
say("nobody hears this")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sessions run on Linux")
@pytest.mark.parametrize(
    "users_code",
    [
        "sys.stdout.close(); sys.stderr.close()",
        "os.close(1); os.close(2)",
        "os.close(1); os.close(2); file = open('users', 'w'); other = open('others', 'w')",
        "sys.stdout = sys.stderr = None",
        "sys.stdout = sys.stderr = open('users', 'w')",
    ],
)
def test_whatever_the_users_code_does_to_its_streams_the_log_has_what_was_written(
    tmp_path: Path, users_code: str
) -> None:
    command = [sys.executable, "-u", "-W", "ignore::ResourceWarning", "-c", HOSTILE, users_code]  # it is the user's
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    assert ResumeEvent(step=7, target=9) in [parse_event(line, "r/1") for line in lines]
    assert "said" in lines
    assert "WARNING: from the writer" in lines
    assert done.stderr == "complained\n"
