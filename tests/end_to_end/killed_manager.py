"""A manager that kills itself at one point of the cycle: `python killed_manager.py PROJECT WORKDIR KAGGLE POINT`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from small_project import Bench

from kaggle_manager import journal, pace
from kaggle_manager.checkpoints import Disk
from kaggle_manager.kaggle_api import outputs
from kaggle_manager.kaggle_api.client import KaggleClient, KernelPush, PushedKernel
from kaggle_manager.local_kaggle.launcher import ensure_running


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DiesAfterPush(KaggleClient):
    def push_kernel(self, push: KernelPush) -> PushedKernel:
        super().push_kernel(push)
        die()
        raise AssertionError


def dies_before(owner: Any, name: str, when: Callable[..., bool]) -> None:
    """Make `owner.name` deadly for arguments that satisfy `when`."""
    real = getattr(owner, name)

    def deadly(*arguments: Any, **options: Any) -> Any:
        if when(*arguments):
            die()
        return real(*arguments, **options)

    setattr(owner, name, deadly)


LINES = {
    "the tree is uploaded": "goes in as dataset",
    "the intent is written": "[STEP2]",
    "the version is written": "[STEP3]",
    "the end is written": "the platform says",
    "the new tree is in place": "restored into",
}


def main() -> None:
    project, workdir, root, point = sys.argv[1:]
    pace.FIRST_POLL_S = 0.1
    bench = Bench(Path(project), Path(workdir), ensure_running(Path(root)))
    if point in LINES:
        bench.told.hooks.append((LINES[point], die))
    elif point == "the push is answered":
        bench.make_client = DiesAfterPush
    elif point == "half of the files are here":
        seen: list[Any] = []
        dies_before(outputs, "download_file", lambda *_: len(seen) > 3 or bool(seen.append(1)))
    elif point == "the old tree is aside and the new one not in place":
        dies_before(Disk, "replace", lambda _disk, source, _to: source.name.endswith(".ready"))
    elif point == "the restore is done and not written":
        dies_before(journal.Journal, "note", lambda _journal, _run, _generation, kind, *_: kind == "closed")
    else:
        raise SystemExit(f"unknown point {point}")
    bench.manager().run_validation_section("small", timesteps=1000)


if __name__ == "__main__":
    main()
