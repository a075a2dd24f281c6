"""Starts a Python process that outlives its starter and inherits none of its secrets."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from kaggle_manager.local_kaggle.sandbox import scrubbed


def start(module: str, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
    """Start `python -m module arguments` on its own; what it prints is appended to `log`."""
    package = str(Path(__file__).resolve().parents[2])
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "DETACHED_PROCESS", 0)
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=scrubbed(os.environ) | {"PYTHONPATH": package, "LANG": "C.UTF-8"},
            start_new_session=True,
            creationflags=flags,
        )
    # If it ends first, somebody must take note of its end, or it stays in the process table as a zombie.
    threading.Thread(target=child.wait, daemon=True).start()
    return child
