#!/usr/bin/env python3
"""Set up and run, in one command, on a machine that has only Python and pip.

    python scripts/bootstrap.py scripts/run_kaggle_validation_section_7_6.py --quick
    python scripts/bootstrap.py -m pytest

Makes `.venv` beside the project, installs the project into it with its extras under `constraints.txt`, and runs the
rest of the line with that environment's Python. The installation is done once and again only when
`pyproject.toml`, `constraints.txt` or the interpreter change. Standard library only; Linux, macOS and Windows.
Installation progress goes to stderr, so the stdout of what is run stays its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / ".bootstrap-stamp"
LOCK = PROJECT / ".venv.lock"
EXTRAS = "train,traffic,report,dev"
OLDEST_PYTHON = (3, 11)
INSTALL_DEADLINE_S = 3600


def say(text: str) -> None:
    print(f"[bootstrap] {text}", file=sys.stderr, flush=True)


def fingerprint() -> str:
    """Digest of everything the installation depends on; a new one means install again."""
    digest = hashlib.sha256(f"{sys.version} {EXTRAS} {PROJECT}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((PROJECT / name).read_bytes())
    return digest.hexdigest()


def is_installed() -> bool:
    return PYTHON.exists() and STAMP.exists() and STAMP.read_text(encoding="utf-8") == fingerprint()


@contextlib.contextmanager
def only_one_installer() -> Iterator[None]:
    """Hold an advisory lock that the operating system drops when its holder dies."""
    with LOCK.open("a+") as handle:
        deadline = time.monotonic() + INSTALL_DEADLINE_S
        waiting_said = False
        while not try_lock(handle.fileno()):
            if not waiting_said:
                say("another bootstrap is installing; waiting for it")
                waiting_said = True
            if time.monotonic() > deadline:
                raise SystemExit("[bootstrap] another bootstrap has held the lock for an hour; stop it and try again")
            time.sleep(0.5)
        yield


def try_lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def install() -> None:
    STAMP.unlink(missing_ok=True)
    has_ensurepip = importlib.util.find_spec("ensurepip") is not None
    if not PYTHON.exists():
        say(f"making {VENV.name} with Python {sys.version.split()[0]}")
        # Some distributions split ensurepip from Python: then the outer pip installs into the new environment.
        run([sys.executable, "-m", "venv", *([] if has_ensurepip else ["--without-pip"]), str(VENV)])
    has_own_pip = subprocess.run([str(PYTHON), "-c", "import pip"], capture_output=True, check=False).returncode == 0
    pip = [str(PYTHON), "-m", "pip"] if has_own_pip else [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    say(f"installing kaggle-manager[{EXTRAS}] under constraints.txt (once; a minute or more)")
    started = time.monotonic()
    pinned = ["-c", str(PROJECT / "constraints.txt")]
    run([*pip, "install", "-qq", "--disable-pip-version-check", *pinned, "-e", f"{PROJECT}[{EXTRAS}]"])
    STAMP.write_text(fingerprint(), encoding="utf-8")
    say(f"installed in {time.monotonic() - started:.0f} s")


def run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=sys.stderr, cwd=PROJECT, check=False)
    if done.returncode != 0:
        raise SystemExit(
            f"[bootstrap] `{' '.join(command)}` ended with code {done.returncode}; its own message is above.\n"
            f"[bootstrap] Nothing outside {VENV.name} was changed. Mend the cause and run the same line again; "
            f"deleting {VENV.name} is safe."
        )


def main(arguments: list[str]) -> int:
    if sys.version_info < OLDEST_PYTHON:
        say(f"Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer is needed; this is {sys.version.split()[0]}")
        return 2
    if not is_installed():
        with only_one_installer():
            if not is_installed():
                install()
    if not arguments:
        say(f"ready: {PYTHON}")
        return 0
    if not Path(arguments[0]).exists() and (PROJECT / arguments[0]).is_file():
        arguments = [str(PROJECT / arguments[0]), *arguments[1:]]  # called from another folder
    command = [str(PYTHON), *arguments]
    if os.name != "nt":
        sys.stdout.flush()
        os.execv(PYTHON, command)
    return subprocess.call(command)


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        say("interrupted; run the same line again to go on")
        raise SystemExit(130) from None
