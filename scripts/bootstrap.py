#!/usr/bin/env python3
"""Set up and run, in one command, on a machine that has only Python and pip.

    python scripts/bootstrap.py scripts/run_kaggle_validation_section_7_6.py --quick
    python scripts/bootstrap.py -m pytest

Makes `.venv` beside the project, installs the project into it under `constraints.txt` with the extras that the rest of
the line needs, and runs that with its Python. The installation is done once and again only when `pyproject.toml`,
`constraints.txt` or the interpreter change, or the line needs more. Standard library only; Linux, macOS and Windows.
What it does is said on stderr at least every ten seconds, so the stdout of what is run stays its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / ".bootstrap-stamp"
LOCK = PROJECT / ".venv.lock"
# What trains and reports section 7.6, and what only those need who work on this repository.
EXTRAS, MORE_EXTRAS = ("train", "traffic", "report"), ("dev",)
FOR_CONTRIBUTORS = ("-m pytest", "-m ruff", "-m mypy", "scripts/benchmarks/", "scripts/make_", "scripts/other_pythons")
OLDEST_PYTHON = (3, 11)
INSTALL_DEADLINE_S = 3600
SAY_EVERY_S = 8.0
# Of a command that fails, in lines.
MOST_SHOWN = 100
# Of a line that is said, in characters: pip names all packages on one.
LONGEST = 100


def say(text: str) -> None:
    print(f"[bootstrap] {text}", file=sys.stderr, flush=True)


def extras_for(arguments: Sequence[str]) -> tuple[str, ...]:
    """The extras that a line needs."""
    return EXTRAS + (MORE_EXTRAS if " ".join(arguments).startswith(FOR_CONTRIBUTORS) else ())


def fingerprint() -> str:
    """Digest of everything the installation depends on but its extras; a new one means install again."""
    digest = hashlib.sha256(f"{sys.version} {PROJECT}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((PROJECT / name).read_bytes())
    return digest.hexdigest()


def installed_extras() -> tuple[str, ...]:
    """The extras of what is installed now; none where it must be installed again."""
    if not (PYTHON.exists() and STAMP.exists()):
        return ()
    stamp, *extras = STAMP.read_text(encoding="utf-8").split()
    return tuple(extras) if stamp == fingerprint() else ()


@contextlib.contextmanager
def only_one_installer() -> Iterator[None]:
    """Hold an advisory lock that the operating system drops when its holder dies."""
    with LOCK.open("a+") as handle:
        began = said = time.monotonic()
        while not try_lock(handle.fileno()):
            moment = time.monotonic()
            if moment - began > INSTALL_DEADLINE_S:
                raise SystemExit("[bootstrap] another bootstrap has held the lock for an hour; stop it and try again")
            if said == began or moment - said > SAY_EVERY_S:
                said = moment
                say(f"another bootstrap is installing; waiting for it ({moment - began:.0f} s)")
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


def install(extras: Sequence[str]) -> None:
    STAMP.unlink(missing_ok=True)
    has_ensurepip = importlib.util.find_spec("ensurepip") is not None
    if not PYTHON.exists():
        doing = f"making {VENV.name} with Python {sys.version.split()[0]}"
        say(doing)
        # Some distributions split ensurepip from Python: then the outer pip installs into the new environment.
        run([sys.executable, "-m", "venv", *([] if has_ensurepip else ["--without-pip"]), str(VENV)], doing)
    has_own_pip = subprocess.run([str(PYTHON), "-c", "import pip"], capture_output=True, check=False).returncode == 0
    pip = [str(PYTHON), "-m", "pip"] if has_own_pip else [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    what = f"kaggle-manager[{','.join(extras)}]"
    say(f"installing {what} under constraints.txt (once; a minute or more)")
    started = time.monotonic()
    options = ["--disable-pip-version-check", "--progress-bar", "off", "-c", str(PROJECT / "constraints.txt")]
    run([*pip, "install", *options, "-e", f"{PROJECT}[{','.join(extras)}]"], f"installing {what}")
    STAMP.write_text(" ".join([fingerprint(), *extras]), encoding="utf-8")
    say(f"installed in {time.monotonic() - started:.0f} s")


def run(command: Sequence[str], doing: str) -> None:
    """Run a command, saying again and again what it is at; what it printed is shown when it fails."""
    began = time.monotonic()
    said = ""
    printed: deque[str] = deque(maxlen=MOST_SHOWN)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=PROJECT, text=True, errors="replace"
    ) as process:
        reader = threading.Thread(target=read, args=(process, printed), daemon=True)
        reader.start()
        while reader.is_alive():
            reader.join(SAY_EVERY_S)
            if reader.is_alive():
                newest = printed[-1][:LONGEST] if printed else doing
                # pip prints nothing while it copies packages, which is most of the time on a slow disk.
                silent = f"{doing}: {installed_packages()} packages are in {VENV.name}"
                say(f"{time.monotonic() - began:.0f} s: {silent if newest == said else newest}")
                said = newest
    if code := process.returncode:
        print(*printed, sep="\n", file=sys.stderr)
        raise SystemExit(
            f"[bootstrap] `{' '.join(command)}` ended with code {code}; its own message is above.\n"
            f"[bootstrap] Nothing outside {VENV.name} was changed. Fix the cause and run the same command again; "
            f"deleting {VENV.name} is safe."
        )


def installed_packages() -> int:
    folder = "Lib" if os.name == "nt" else "lib/python*"
    return len(list(VENV.glob(f"{folder}/site-packages/*.dist-info")))


def read(process: subprocess.Popen[str], printed: deque[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line := line.strip():
            printed.append(line)


def main(arguments: list[str]) -> int:
    if sys.version_info < OLDEST_PYTHON:
        say(f"Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer is needed; this is {sys.version.split()[0]}")
        return 2
    needed = extras_for(arguments)
    if not set(needed) <= set(installed_extras()):
        with only_one_installer():
            there = installed_extras()
            if not set(needed) <= set(there):
                install(sorted({*needed, *there}))
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
        say("interrupted; run the same command again to resume")
        raise SystemExit(130) from None
