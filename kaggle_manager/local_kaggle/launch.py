"""From a pushed version to a running session: an order is written, then a runner is started.

The order is on disk before the runner starts, and the runner is a process of its own: it outlives the server.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from kaggle_manager.local_kaggle import daemonize, disk, image_site, sandbox
from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.local_kaggle.faults.session_faults import SessionFaults, emptied


def prepare(
    state: ServerState,
    session_id: int,
    script: str,
    *,
    limit_s: float,
    internet: bool,
    mounts: list[dict[str, str]],
    accelerator: str,
    faults: SessionFaults,
) -> None:
    """Write everything the runner of a session needs into the session's folder."""
    session = state.session_folder(session_id)
    shutil.rmtree(session, ignore_errors=True)  # of a push that failed half-way, whose number is given again
    for name in ("src", "working", "scratch/home", "scratch/tmp"):
        (session / name).mkdir(parents=True)
    (session / "scratch" / "tmp").chmod(0o700)
    (session / "src" / "script.py").write_text(script, encoding="utf-8")
    filled_after_s = faults.filled_after_s
    if faults.sources == "empty":
        mounts = emptied(session, mounts)
    elif state.limits.mount_s:  # they come late, as on Kaggle
        mounts, filled_after_s = emptied(session, mounts), state.limits.mount_s
    dies_s = faults.dies_after_s if faults.dies_after_s is not None else limit_s
    found = accelerator if faults.accelerator is None else faults.accelerator
    isolation = sandbox.isolation()
    if not isolation:
        _lay_out(session / "input", mounts)
    seen = image_site.view(state.root / "images", image_site.listed(state.root))
    python = image_site.environment(session / "scratch" / "python", seen)
    commands = (python.parent, seen / "bin")
    order = {
        "session": str(session),
        "python": str(python),
        "isolation": isolation,
        "internet": internet,
        "mounts": mounts,
        "limit_s": min(limit_s, dies_s),
        "erased_at_limit": dies_s < limit_s,
        "filled_after_s": filled_after_s,
        "output_bytes": state.limits.output_bytes,
        "environment": sandbox.kernel_environment(session, session_id, found, commands, isolated=bool(isolation)),
    }
    disk.write_json(session / "order.json", order)


def start(session: Path) -> None:
    """Start the runner of the session in `session`, on its own."""
    daemonize.start("kaggle_manager.local_kaggle.runner", str(session), log=session / "runner.log")


def _lay_out(folder: Path, mounts: list[dict[str, str]]) -> None:
    """The input tree where nothing can be mounted: links, or copies where not everyone may make links."""
    folder.mkdir()
    for mount in mounts:
        target = folder / mount["at"]
        if target.exists():  # in the older layout, two owners' data of one name have one place
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if sys.platform == "win32":
            shutil.copytree(mount["source"], target)
        else:
            target.symlink_to(mount["source"], target_is_directory=True)
