#!/usr/bin/env python3
"""Run every test that needs no training library under the Pythons and numpys of Kaggle's images, warnings as errors.

    python scripts/bootstrap.py scripts/other_pythons.py [3.12 3.13] [--fast] [-- PYTEST-OPTIONS]

For each it makes `.venv-3.12` and so on beside the project, under constraints.txt but for numpy, and without torch:
what wants a training library is skipped, and says so. An interpreter that is not on this machine is named and left out.
Ends with 1 when a test failed. The last result is in docs/contract.md.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
NUMPY_OF = {"3.12": "2.0.2", "3.13": "2.1.3"}
"""What Kaggle's images had until October 2026, and have since (docs/contract.md)."""

# Beside the manager itself: what its tests need, without what trains.
PACKAGES = ("numpy", "pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "pyyaml", "setuptools", "fsspec", "s3fs")
PACKAGES += ("moto[s3]", "flask", "flask-cors", "networkx")


def find_python(version: str) -> Path | None:
    """An interpreter of that minor version on this machine; None for none that runs."""
    for command in _candidates(version):
        said = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
        try:
            done = subprocess.run([*command, "-c", said], capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            continue  # a shim of pyenv for a version that is not switched on, for one
        found, _, path = done.stdout.strip().partition(" ")
        if found == version:
            return Path(path)
    return None


def _candidates(version: str) -> Iterator[list[str]]:
    if sys.version.startswith(f"{version}."):
        yield [sys.executable]
    yield [f"python{version}"]
    if os.name == "nt":
        yield ["py", f"-{version}"]
    if pyenv := shutil.which("pyenv"):
        done = subprocess.run([pyenv, "root"], capture_output=True, text=True, timeout=60, check=False)
        for place in sorted(
            Path(done.stdout.strip() or os.devnull).glob(f"versions/{version}.*/bin/python"), reverse=True
        ):
            yield [str(place)]


def pins(version: str) -> str:
    """constraints.txt with the numpy of that Python's image."""
    text = (PROJECT / "constraints.txt").read_text(encoding="utf-8")
    return re.sub(r"^numpy==.*$", f"numpy=={NUMPY_OF[version]}", text, flags=re.MULTILINE)


def environment(version: str, python: Path) -> Path:
    """The Python of an environment with all that the tests need; made anew when what it is made of changed."""
    folder = PROJECT / f".venv-{version}"
    own = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / ".stamp"
    made_of = [str(python), *PACKAGES, pins(version), (PROJECT / "pyproject.toml").read_text(encoding="utf-8")]
    wanted = hashlib.sha256("\n".join(made_of).encode()).hexdigest()
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        say(f"installing under Python {version} into {folder.name}")
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([str(python), "-m", "venv", str(folder)], check=True)
        constraints = folder / "constraints.txt"
        constraints.write_text(pins(version), encoding="utf-8")
        pip = [str(own), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-c", str(constraints)]
        subprocess.run([*pip, "-e", str(PROJECT), *PACKAGES], check=True, stdout=sys.stderr)
        stamp.write_text(wanted, encoding="utf-8")
    return own


def run_tests(python: Path, options: Sequence[str]) -> tuple[int, str]:
    """pytest's exit code, and its last line."""
    support = str(PROJECT / "tests/support")
    # For this process, those of pytest-xdist, and every program that a test starts.
    environ = {**os.environ, "PYTHONPATH": support, "PYTHONWARNINGS": ",".join(WARNINGS)}
    command = [str(python), "-m", "pytest", "-q", "-p", "without_training", *options]
    lines = []
    with subprocess.Popen(command, cwd=PROJECT, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", file=sys.stderr, flush=True)
            lines.append(line)
    return process.returncode, next((line.strip() for line in reversed(lines) if line.strip()), "")


# The second is apprise's, under Python 3.12.
WARNINGS = ("error", "ignore:'imghdr' is deprecated:DeprecationWarning")


def say(text: str) -> None:
    print(f"[other pythons] {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    given, options = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    parser = argparse.ArgumentParser(prog="other_pythons.py", description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*", help=f"default: {' '.join(NUMPY_OF)}")
    parser.add_argument("--fast", action="store_true", help="without the slow tests")
    chosen = parser.parse_args(given)
    if unknown := set(chosen.versions) - set(NUMPY_OF):
        parser.error(f"no image of Kaggle has Python {', '.join(sorted(unknown))}; choose from {', '.join(NUMPY_OF)}")
    failed, rows = False, []
    for version in chosen.versions or NUMPY_OF:
        python = find_python(version)
        if python is None:
            rows.append((version, NUMPY_OF[version], "-", "not on this machine: left out"))
            continue
        own = environment(version, python)
        began = time.monotonic()
        code, last = run_tests(own, [*(["-m", "not slow"] if chosen.fast else []), *options])
        failed |= code != 0
        rows.append((version, NUMPY_OF[version], f"{time.monotonic() - began:.0f} s", last.strip("= ")))
    print("| Python | numpy | took | tests |\n| --- | --- | --- | --- |")
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
