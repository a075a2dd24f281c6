"""The local Kaggle shown in one command: the official client, unmodified, pushes a kernel to it and looks after it.

Everything lies in a temporary folder that is gone afterwards; the user's own credentials are neither read nor changed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.errors import RunError
from kaggle_manager.local_kaggle.launcher import ServerInfo, ensure_running, stop
from kaggle_manager.system import command_line
from kaggle_manager.system.scratch import scratch_folder

SLUG = "local-demo"
SOURCE = """\
import os, platform
print("a kernel says: Python", platform.python_version(), "in", os.getcwd(), flush=True)
working = os.environ.get("KAGGLE_WORKING_DIR", "/kaggle/working")
with open(os.path.join(working, "squares.csv"), "w") as file:
    file.writelines(f"{n},{n * n}\\n" for n in range(5))
print("a kernel says: squares.csv is written", flush=True)
"""
LONGEST_S = 60.0
_ENDED = re.compile("COMPLETE|ERROR|CANCEL")


@dataclass(frozen=True)
class Shown:
    """One command of the official client and what it printed."""

    command: str
    printed: str


def demo(show: Callable[[Shown], None]) -> list[Shown]:
    """Start a local Kaggle, push a kernel, show its status, log, outputs and quota, and stop it again.

    Args:
        show: called with each command once it has ended.

    Raises:
        RunError: a command of the official client failed, or the kernel did not end.
    """
    with scratch_folder("km_demo_") as place:
        server = ensure_running(place / "kaggle", idle_exit_s=2 * LONGEST_S)
        shown: list[Shown] = []

        def kaggle(*arguments: str) -> str:
            shown.append(_official(server, place, arguments))
            show(shown[-1])
            return shown[-1].printed

        try:
            _write_kernel(place / "my_kernel", server.username)
            kaggle("kernels", "push", "-p", "my_kernel")
            deadline = time.monotonic() + LONGEST_S
            while not _ENDED.search(kaggle("kernels", "status", f"{server.username}/{SLUG}")):
                if time.monotonic() > deadline:
                    raise RunError("The kernel of the demo did not end.", next_step=command_line.command("doctor"))
                time.sleep(0.5)
            kaggle("kernels", "logs", f"{server.username}/{SLUG}")
            kaggle("kernels", "output", f"{server.username}/{SLUG}", "-p", "output")
            output = place / "output" / "squares.csv"
            shown.append(Shown("cat output/squares.csv", output.read_text(encoding="utf-8")))
            show(shown[-1])
            kaggle("quota")
        finally:
            stop(server.root)
        return shown


def _official(server: ServerInfo, place: Path, arguments: tuple[str, ...]) -> Shown:
    key = json.loads((server.root / "account.json").read_text(encoding="utf-8"))["key"]
    own = {name: value for name, value in os.environ.items() if not re.match("(?i)kaggle|.*_proxy$", name)}
    environment = own | {
        # The client has no setting for its endpoint, but it honours a proxy; the local Kaggle answers as one.
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "http_proxy": server.url,
        "KAGGLE_CONFIG_DIR": str(place / "home"),
        "HOME": str(place / "home"),
        "USERPROFILE": str(place / "home"),
        "KAGGLE_USERNAME": server.username,
        "KAGGLE_KEY": key,
        "PYTHONIOENCODING": "utf-8",
    }
    (place / "home").mkdir(exist_ok=True)
    command = f"kaggle {' '.join(arguments)}"
    done = subprocess.run(
        [sys.executable, "-m", "kaggle", *arguments],
        cwd=place,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=LONGEST_S,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise RunError(
            f"`{command}` ended with {done.returncode}: {said[-500:]}", next_step=command_line.command("doctor")
        )
    return Shown(command, done.stdout.strip())


def _write_kernel(folder: Path, owner: str) -> None:
    folder.mkdir()
    (folder / "script.py").write_text(SOURCE, encoding="utf-8")
    metadata = {
        "id": f"{owner}/{SLUG}",
        "title": SLUG,
        "code_file": "script.py",
        "language": "python",
        "kernel_type": "script",
        "enable_internet": False,
    }
    (folder / "kernel-metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
