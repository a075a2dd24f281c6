"""Everything a process started ends with it, and nothing else does."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import has_ended

from kaggle_manager.system import process_group

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no process adopts")

# A process that leaves the session and the parent it had.
ESCAPES = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(999)
    os._exit(0)
os.wait()
"""


def test_a_kill_ends_what_has_hidden_and_spares_what_was_there_before(tmp_path: Path) -> None:
    """A pool of processes, a local Kaggle: what starts the group may have others."""
    command = [sys.executable, "-c", "import subprocess, sys; subprocess.run(['sleep', '999'])"]
    with subprocess.Popen(command) as other:
        try:
            group = process_group.start([sys.executable, "-c", ESCAPES], working=tmp_path, environment={})
            assert group.process.stdout is not None
            hidden = int(group.process.stdout.readline())
            group.process.wait(60)
            deadline = time.monotonic() + 60
            while hidden not in group.members():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            group.kill()
            assert has_ended(hidden)
            assert other.poll() is None
            group.process.stdout.close()
            assert group.process.stderr is not None
            group.process.stderr.close()
        finally:
            other.terminate()
