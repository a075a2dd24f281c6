"""From a pushed version to a running session: sources become mounts, an order is written, a runner is started.

The order is on disk before the runner starts, and the runner belongs to nobody: it outlives the server.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from kaggle_manager.local_kaggle import disk, sandbox
from kaggle_manager.local_kaggle.wire import Body
from kaggle_manager.local_kaggle.world import World

SOURCES = {
    "datasetDataSources": "invalidDatasetSources",
    "kernelDataSources": "invalidKernelSources",
    "competitionDataSources": "invalidCompetitionSources",
    "modelDataSources": "invalidModelSources",
}
_runners: list[subprocess.Popen[bytes]] = []
Mount = dict[str, str]


def resolve_sources(
    world: World, database: sqlite3.Connection, body: Body, own_slug: str
) -> tuple[list[Mount], dict[str, list[str]]]:
    """(mounts, invalid sources) of a push. Invalid ones are dropped, and the push goes on without them.

    Each source is mounted in both layouts: `datasets/<owner>/<slug>` or `notebooks/<owner>/<slug>`, and `<slug>`. A
    kernel cannot mount its own output. Competitions and models do not exist here.
    """
    mounts: list[Mount] = []
    invalid: dict[str, list[str]] = {answer: [] for answer in SOURCES.values()}
    finders = {"datasetDataSources": _dataset_folder, "kernelDataSources": _kernel_folder}
    for kind, answer in SOURCES.items():
        for source in body.get(kind) or []:
            owner, _, rest = source.partition("/")
            slug, _, number = rest.partition("/")
            folder = None
            if kind in finders and owner == world.account.username and not (kind[0] == "k" and slug == own_slug):
                folder = finders[kind](world, database, slug, int(number) if number.isdigit() else None)
            if folder is None:
                invalid[answer].append(source)
                continue
            layout = "datasets" if kind == "datasetDataSources" else "notebooks"
            mounts += [{"source": str(folder), "at": at} for at in (f"{layout}/{owner}/{slug}", slug)]
    return mounts, invalid


def valid_sources(body: Body, invalid: dict[str, list[str]]) -> dict[str, list[str]]:
    return {
        kind: [source for source in body.get(kind) or [] if source not in invalid[answer]]
        for kind, answer in SOURCES.items()
    }


def _dataset_folder(world: World, database: sqlite3.Connection, slug: str, number: int | None) -> Path | None:
    row = database.execute(
        "SELECT v.* FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id WHERE d.slug = ? "
        "AND v.ready_at <= ? AND NOT v.failed AND NOT v.deleted "
        "AND v.number = coalesce(?, v.number) ORDER BY v.number DESC LIMIT 1",
        (slug, world.clock(), number),
    ).fetchone()
    return world.root / "datasets" / str(row["dataset_id"]) / str(row["number"]) / "files" if row else None


def _kernel_folder(world: World, database: sqlite3.Connection, slug: str, number: int | None) -> Path | None:
    row = database.execute(
        "SELECT s.id FROM sessions s JOIN kernels k ON k.id = s.kernel_id WHERE k.slug = ? AND k.deleted_at IS NULL "
        "AND s.status = 'COMPLETE' AND s.version = coalesce(?, s.version) ORDER BY s.version DESC LIMIT 1",
        (slug, number),
    ).fetchone()
    return world.session_folder(row["id"]) / "working" if row else None


def prepare(world: World, session_id: int, script: str, limit_s: float, internet: bool, inputs: list[Mount]) -> None:
    """Write everything the runner of a session needs into the session's folder."""
    session = world.session_folder(session_id)
    for name in ("src", "working", "scratch/home", "scratch/tmp"):
        (session / name).mkdir(parents=True)
    (session / "src" / "script.py").write_text(script, encoding="utf-8")
    isolation = sandbox.isolation()
    if not isolation:
        _lay_out(session / "input", inputs)
    order: dict[str, Any] = {
        "session": str(session),
        "python": sys.executable,
        "isolation": isolation,
        "internet": internet,
        "inputs": inputs,
        "limit_s": limit_s,
        "output_bytes": world.limits.output_bytes,
        "environment": sandbox.kernel_environment(session, session_id, isolated=bool(isolation)),
    }
    disk.write_json(session / "order.json", order)


def _lay_out(folder: Path, inputs: list[Mount]) -> None:
    """The input tree where nothing can be mounted: links, or copies where the system has no links for everyone."""
    folder.mkdir()
    for mounted in inputs:
        target = folder / mounted["at"]
        target.parent.mkdir(parents=True, exist_ok=True)
        if sys.platform == "win32":
            shutil.copytree(mounted["source"], target)
        else:
            target.symlink_to(mounted["source"], target_is_directory=True)


def start(session: Path) -> None:
    """Start the runner of the session in `session`, on its own."""
    _runners[:] = [runner for runner in _runners if runner.poll() is None]
    with (session / "runner.log").open("ab") as log:
        _runners.append(detached("kaggle_manager.local_kaggle.runner", str(session), output=log.fileno()))


def detached(module: str, *arguments: str, output: int) -> subprocess.Popen[bytes]:
    """`python -m module` as a process that outlives this one and has none of its secrets."""
    package = str(Path(__file__).resolve().parents[2])
    environment = sandbox.scrubbed(os.environ) | {"PYTHONPATH": package, "LANG": "C.UTF-8"}
    new_group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "DETACHED_PROCESS", 0)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        start_new_session=True,
        creationflags=new_group,
    )
