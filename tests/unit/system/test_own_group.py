"""A command in a group of its own leaves no process behind, however it is left. Real processes, real signals."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kaggle_manager.system import own_group

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups and signals are POSIX's")

# Starts a process, says its number, and waits; so does the process.
PARENT = """
import pathlib, signal, subprocess, sys, time
{before}
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path({told!r}).write_text(str(child.pid))
time.sleep(60)
"""
CALLER = """
import sys
from kaggle_manager import cli
from kaggle_manager.system.own_group import run_in_group
with cli._sigterm_as_ctrl_c():
    run_in_group([sys.executable, {script!r}], timeout=60)
"""


def script(folder: Path, before: str = "") -> Path:
    path = folder / "parent.py"
    path.write_text(PARENT.format(before=before, told=str(folder / "told")))
    return path


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition: object, what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def said(path: Path) -> int:
    wait_for(lambda: path.is_file() and path.read_text(), "it never started")
    return int(path.read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_caller_ends_all_that_the_command_started(tmp_path: Path, number: int) -> None:
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER.format(script=str(script(tmp_path)))], stderr=subprocess.DEVNULL
    )
    grandchild = said(tmp_path / "told")
    caller.send_signal(number)
    caller.wait(30)
    wait_for(lambda: not is_alive(grandchild), "it lives on")


def test_the_end_of_the_time_ends_all_even_what_does_not_hear_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_group, "GRACE_S", 0.1)
    deaf = script(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    with pytest.raises(subprocess.TimeoutExpired):
        own_group.run_in_group([sys.executable, str(deaf)], timeout=3.0)
    grandchild = said(tmp_path / "told")
    wait_for(lambda: not is_alive(grandchild), "it lives on")


def test_what_it_printed_and_its_code_come_back() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3 if sys.stdin.read() == '' else 4)"
    done = own_group.run_in_group([sys.executable, "-c", code], timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_what_makes_progress_is_waited_for_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_group, "LOOK_S", 0.02)
    asked = itertools.count()
    words = [sys.executable, "-c", "import time; time.sleep(0.2)"]
    assert own_group.run_in_group(words, timeout=0.0, progress=lambda: next(asked)).returncode == 0
    assert next(asked) > 0
