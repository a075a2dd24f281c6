"""Find the local Kaggle of a folder, or start it: a background process that outlives its starter.

Never starts a second server on one folder, however many ask at once. Never prints the token it hands out.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaggle_manager.errors import ConfigError, Unavailable
from kaggle_manager.local_kaggle import daemonize, disk
from kaggle_manager.system.command_line import command

_START_S = 30.0
# What it and its sessions run with: a virtual environment may be made again in the same place, with another Python.
THIS_PYTHON = f"{sys.prefix} of {sys.base_prefix}, {sys.version}"
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class ServerInfo:
    """A local Kaggle that answers.

    Attributes:
        url: `http://127.0.0.1:PORT`.
        username: its one account.
        token: the account's access token (Bearer).
        root: the folder of its state.
        pid: the server's process.
        faults: the plan of faults it plays, if any.
        python: the installation of Python it and its sessions run with, as `THIS_PYTHON`.
    """

    url: str
    username: str
    token: str = field(repr=False)
    root: Path
    pid: int
    faults: Path | None = None
    python: str = ""


def find(root: Path) -> ServerInfo | None:
    """The living server of `root`, or None."""
    root = root.absolute()
    known = disk.read_json(root / "server.json")
    if known is None:
        return None
    answer = _request(known["url"] + "/local/health")
    if answer is None or (answer.get("pid"), answer.get("root")) != (known["pid"], str(root)):
        return None
    faults = Path(known["faults"]) if known.get("faults") else None
    python = str(known.get("python", ""))
    return ServerInfo(known["url"], known["username"], known["token"], root, known["pid"], faults, python)


def ensure_running(root: Path, *, faults: Path | None = None, idle_exit_s: float = 900) -> ServerInfo:
    """The living server of `root`; started when there is none, and anew when it runs with another Python.

    Its sessions see what is installed beside it, which has to be what is installed here.

    Args:
        root: the folder of its state; made when missing.
        faults: a plan of faults to play; None: whatever the living server plays, or none.
        idle_exit_s: a server started here ends after this many seconds without a request or a running session.

    Raises:
        ConfigError: the plan is malformed, or the living server does not play it.
        StorageError: the folder cannot be made or written.
        Unavailable: the server did not start; carries the tail of its log.
    """
    root = root.absolute()
    if faults is not None:
        faults = faults.absolute()
        from kaggle_manager.local_kaggle.faults.fault_plan import (
            Plan,  # here: finding a server must not cost importing one
        )

        Plan.load(faults)
    disk.make_folder(root)
    log = root / "server.log"
    log.touch()
    begin = log.stat().st_size
    with disk.hold(root / "start.lock", wait_s=2 * _START_S) as mine:
        if info := find(root):
            if faults is not None and info.faults != faults:
                raise ConfigError(
                    f"A local Kaggle already serves {root}, and does not play {faults}.",
                    safe="It continues undisturbed.",
                    next_step=f"{command('local-kaggle stop', '--root', root)}\n  and then the same command again",
                )
            if info.python == THIS_PYTHON:
                return info
            faults = info.faults
            stop(root)
        if mine:
            arguments = ["serve", "--root", str(root), "--port", "0", "--idle-exit", str(idle_exit_s)]
            if faults is not None:
                arguments += ["--faults", str(faults)]
            process = daemonize.start("kaggle_manager.local_kaggle", *arguments, log=log)
            deadline = time.monotonic() + _START_S
            while process.poll() is None and time.monotonic() < deadline:
                if info := find(root):
                    return info
                time.sleep(0.05)
            process.kill()
    raise Unavailable(
        f"The local Kaggle in {root} did not start. The end of its log:\n{_tail(log, begin)}",
        safe="Runs and datasets in that folder are as they were.",
        next_step="Remove the cause its log names, and run the same command again.",
    )


def stop(root: Path) -> bool:
    """End the server of `root`; False when there was none. Running sessions go on, and the next server finds them.

    Raises:
        Unavailable: the server was asked to end and did not within 10 seconds.
    """
    info = find(root)
    if info is None:
        return False
    _request(f"{info.url}/local/stop", token=info.token)
    deadline = time.monotonic() + 10
    while disk.is_held(info.root / "server.lock"):
        if time.monotonic() > deadline:
            raise Unavailable(
                f"The local Kaggle in {info.root} does not end.",
                safe="Its state is on disk; ending it by force loses nothing.",
                next_step=f"End process {info.pid}.",
            )
        time.sleep(0.05)
    return True


def _request(url: str, *, token: str | None = None) -> dict[str, Any] | None:
    """The JSON answer of a local server; None when there is no answer. With a token it is a POST."""
    request = urllib.request.Request(url, data=None if token is None else b"{}")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with _direct.open(request, timeout=5) as answer:
            parsed = json.load(answer)
    except (OSError, ValueError, urllib.error.URLError):
        return None  # Not there, or not a local Kaggle: the caller decides what that means.
    return parsed if isinstance(parsed, dict) else None


def _tail(log: Path, begin: int) -> str:
    with log.open("rb") as stream:
        stream.seek(begin)
        lines = stream.read().decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-15:])
