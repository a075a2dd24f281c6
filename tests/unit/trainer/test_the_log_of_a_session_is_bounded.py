"""A session's log is cut at its source: head and tail are kept, the middle is told, and no event is lost."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from kaggle_manager.protocol.events import ProgressEvent, parse_event, session_tag
from kaggle_manager.trainer import entry

TAG = session_tag("3fa85f64b7170f4d", 2)
PREAMBLE = """
import json, os, subprocess, sys, time
def tell(step, tag=sys.argv[2]):
    sys.stdout.write("\\nKM_PROGRESS " + json.dumps({"session": tag, "step": step, "target": 9}) + "\\n")
    sys.stdout.flush()
"""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # As in the real log, the tail holds more than a pipe: what stderr said last is not pushed out by older lines.
    for name, size in {"HEAD_OF_LOG": 20_000, "TAIL_OF_LOG": 100_000, "LONGEST_LINE": 4_000}.items():
        monkeypatch.setattr(entry, name, size)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def printed(program: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], here: Path) -> str:
    """What is in the log after a trainer that is this program."""
    text = PREAMBLE.replace("sys.argv[2]", repr(TAG)) + dedent(program)
    monkeypatch.setattr(entry, "TRAINER", text)
    assert entry.run_trainer(here, here / "order.json", entry.Log(TAG), entry.StopRequests(), bool, {}) == 7
    out, err = capfd.readouterr()
    return out + err


def steps(log: str) -> list[int]:
    found = [parse_event(line, TAG) for line in log.splitlines()]
    return [event.step for event in found if isinstance(event, ProgressEvent)]


def test_a_short_log_is_what_was_printed(monkeypatch, capfd, tmp_path):
    program = """
        print("one")
        tell(1)
        print("dots", end="", flush=True)
        print("trouble", file=sys.stderr)
        sys.exit(7)
    """
    log = printed(program, monkeypatch, capfd, tmp_path)
    assert log.replace("\n\nKM_PROGRESS", "\nKM_PROGRESS").splitlines()[0] == "one"
    assert "dots" in log
    assert log.endswith("trouble\n")
    assert "left out" not in log
    assert steps(log) == [1]


def test_head_and_tail_are_kept_the_middle_is_told_and_no_event_is_lost(monkeypatch, capfd, tmp_path):
    program = """
        for n in range(50_000):
            print("line", n)
            if n % 1000 == 0:
                tell(n)
        print("Traceback (most recent call last):", file=sys.stderr, flush=True)
        print("last")
        sys.exit(7)
    """
    log = printed(program, monkeypatch, capfd, tmp_path)
    assert steps(log) == list(range(0, 50_000, 1000))
    lines = log.splitlines()
    assert lines[0] == "line 0"
    assert "last" in lines
    assert "Traceback (most recent call last):" in lines
    assert sum("only events are shown" in line for line in lines) == 1
    (said,) = [line for line in lines if "are left out here" in line]
    left_out = int(said.partition(" lines,")[0].rpartition(" ")[2].replace(",", ""))
    shown = sum(line.startswith("line ") for line in lines)
    # One line may have been split where the head ends.
    assert abs(shown + left_out - 50_000) <= 1
    assert len(log) < 200_000


@pytest.mark.parametrize("end", ["", "\n"])
def test_events_stand_after_output_without_end(monkeypatch, capfd, tmp_path, end):
    program = f"""
        for n in range(40):
            for _ in range(20):
                print("." * 100, end={end!r}, flush=True)
            tell(n)
        print("x" * 1_000_000)
        tell(99)
        sys.exit(7)
    """
    log = printed(program, monkeypatch, capfd, tmp_path)
    assert steps(log) == [*range(40), 99]
    assert len(log) < 200_000


def test_events_of_another_session_are_text_like_any_other(monkeypatch, capfd, tmp_path):
    log = printed("for n in range(20_000): tell(n, 'ffffffff/1')\nsys.exit(7)", monkeypatch, capfd, tmp_path)
    assert len(log) < 200_000


@pytest.mark.skipif(sys.platform == "win32", reason="a process that outlives its parent, as POSIX has it")
def test_a_process_that_was_left_behind_does_not_hold_the_session_up(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(entry, "REST_OF_LOG_S", 0.1)
    program = """
        # Out of the trainer's group, so that it is not ended with it.
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        print(json.dumps({"child": child.pid}), flush=True)
        os._exit(7)
    """
    began = time.monotonic()
    log = printed(program, monkeypatch, capfd, tmp_path)
    os.kill(json.loads(log)["child"], 9)
    assert time.monotonic() - began < 30
