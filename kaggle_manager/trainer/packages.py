"""What a section pins and the image lacks is installed before the trainer starts; torch stays the image's own.

`trainer/entry.py` runs `main` in a process of its own, from the bundle. Two ways, in this order: from wheels that are
mounted as a dataset, each compared with its hash in the launch order first; else with pip from its package index.
Promises: what the image has in that version is not installed again, so such a session needs neither; what `HELD` names
keeps the image's version; without wheels and without internet it is over in seconds, in words. Standard library only.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Built for one another, for the image's driver, and gigabytes: replaced, they cost minutes and may not run at all.
HELD = re.compile(r"torch|numpy|triton|pytorch-triton.*|nvidia-.*|jax.*")
# Shown in the log of every session that installs something.
SHOWN = ("torch", "numpy", "gymnasium", "stable-baselines3")
# A dataset may be mounted that long after the process starts.
MOUNT_WAIT_S, POLL_S = 120.0, 0.5
# Without internet pip would spend minutes on what it cannot reach; what a flaky connection cost is tried once more.
PIP = ("pip", "install", "--progress-bar", "off", "--no-input", "--disable-pip-version-check", "--no-compile")
FROM_INDEX = ("--retries", "1", "--timeout", "10")
TRIES, PAUSE_S = 2, 3.0
UNREACHABLE = re.compile(
    r"Retrying \(|NewConnectionError|ConnectTimeoutError|NameResolutionError|ReadTimeoutError|HTTP error 5"
)
# Said of wheels that are the ones that were sent.
NOT_INSTALLED = "pip ended with code"
# Where pip begins to say why it ends; it shows what conflicts only when it is not quiet.
FAILS, LONGEST_WORDS = re.compile(r"^(WARNING: Retrying|ERROR: |The conflict is caused by)", re.MULTILINE), 1000


class Refused(Exception):
    """These packages do not go with this image, now or later: section.toml has to change."""


class Unfit(Exception):
    """No wheel that was sent can be installed in this Python, and no package index answers: others may fit."""


def main(order_file: str, problem_file: str) -> None:
    """Install what the launch order in `order_file` asks for; `problem_file` is written when that fails."""
    order = json.loads(Path(order_file).read_text(encoding="utf-8"))
    inputs = Path(os.environ["KM_INPUT_DIR"])
    said = {"reason": "", "refused": False, "unfit": False}
    try:
        if order.get("installs", True):
            said["reason"] = install(order["packages"], order.get("wheels"), inputs)
        else:
            check(order["packages"])
    except Refused as error:
        said |= {"reason": str(error), "refused": True}
    except Unfit as error:
        said |= {"reason": str(error), "unfit": True}
    if said["reason"]:
        Path(problem_file).write_text(json.dumps(said), encoding="utf-8")


def check(packages: Iterable[str]) -> None:
    """Where a session leaves its Python as it is, for others use it.

    Raises:
        Refused: it has not all of `packages`.
    """
    if missing := lacking(packages):
        here = installed()
        has = ", ".join(f"{name} {here[name]}" for name in map(name_of, missing) if name in here)
        raise Refused(
            f"section.toml pins {', '.join(missing)}, and the Python of this session, {sys.executable}, has "
            f"{has or 'none of it'}. Sessions install nothing here: {sys.executable} -m pip install {' '.join(missing)}"
        )


def lacking(packages: Iterable[str]) -> list[str]:
    """Those that are not here in their version; what an extra asks for beside them is not looked for."""
    here = installed()
    return [package for package in packages if not is_installed(re.sub(r"\[.*?\]", "", package), here)]


def install(packages: Iterable[str], wheels: Mapping[str, Any] | None, inputs: Path) -> str:
    """Install the pinned `packages` (`name==version`) that are not here; return what may go better later, or ''.

    Args:
        wheels: `dataset` (owner/slug) and `files` (name -> sha256) of the launch order; None for none.
        inputs: where datasets are mounted.

    Raises:
        Refused: it cannot be.
        Unfit: not from these wheels, and from nothing else.
    """
    before, started = installed(), time.monotonic()
    missing = [package for package in packages if not is_installed(package, before)]
    # Wheels of what the packages need are mounted as well; of these any version will do, and the image's comes first.
    files: Mapping[str, str] = wheels["files"] if wheels else {}
    pinned = {name_of(package) for package in packages}
    wheeled: dict[str, set[str]] = {}
    for name, version in map(release_of, filter(is_for_this_python, files)):
        if name not in pinned and name not in before:
            wheeled.setdefault(name, set()).add(version)
    # Of several versions, each the newest for one Python, pip takes the newest that is for this one.
    missing_of_wheels = [
        *missing,
        *(f"{name}=={min(several)}" if len(several) == 1 else name for name, several in sorted(wheeled.items())),
    ]
    if not missing_of_wheels:
        return ""
    shown = ", ".join(f"{name} {before[name]}" for name in SHOWN if name in before)
    say(f"Python {platform.python_version()}, {shown or 'no torch'}; installing {', '.join(missing_of_wheels)}")
    held = {name: version for name, version in sorted(before.items()) if HELD.fullmatch(name)}
    for package in missing:
        name = name_of(package)
        if name in held:
            raise Refused(
                f"section.toml pins {package}, and this image has {held[name]}, which a session keeps: it fits the "
                "rest of the image. Take it out of `packages`, or pin the version that the image has"
            )
    problem = from_wheels(wheels, missing_of_wheels, inputs) if wheels else "there is no dataset of wheels"
    if problem:
        if wheels:
            say(f"the wheels of these packages are not used: {problem}")
        if not missing:
            return ""  # nothing the section names is missing; what a wheel was for, the image may not need
        if failed := from_index(missing, held, problem):
            if problem.startswith(NOT_INSTALLED):
                raise Unfit(failed)
            return failed
    after = installed()
    if moved := [name for name in held if after.get(name) != held[name]]:
        raise Refused(
            f"installing {', '.join(missing)} replaced {', '.join(moved)} of this image, which must stay as it is"
        )
    changes = [
        f"{name} {before.get(name, 'none')} -> {version}" for name, version in sorted(after.items() - before.items())
    ]
    say(f"installed in {time.monotonic() - started:.1f} s: {', '.join(changes)}")
    for unmet in unmet_requirements([name for name, version in after.items() if before.get(name) != version], after):
        say(f"Warning: {unmet}")
    return ""


def unmet_requirements(names: Iterable[str], versions: Mapping[str, str]) -> Iterator[str]:
    """What these packages require and is not there; from wheels they are installed whatever the image has."""
    try:
        from pip._vendor.packaging.requirements import Requirement
    except ImportError:  # pip is free to arrange itself otherwise
        return
    for name in sorted(names):
        for text in importlib.metadata.requires(name) or ():
            required = Requirement(text)
            if required.marker is not None and not required.marker.evaluate({"extra": ""}):
                continue
            here = versions.get(normalised(required.name))
            if here is None or not required.specifier.contains(here, prereleases=True):
                yield f"{name} requires {text}, and this image has {here or 'none'}"


def from_wheels(wheels: Mapping[str, Any], missing: Iterable[str], inputs: Path) -> str:
    """Install `missing` from the mounted dataset; return why that cannot be, or ''."""
    owner, _, slug = wheels["dataset"].partition("/")
    mount = _mounted([inputs / "datasets" / owner / slug, inputs / slug], wheels["files"])
    if mount is None:
        return f"the dataset {wheels['dataset']} is not mounted, or not whole"
    with tempfile.TemporaryDirectory(prefix="km_wheels_") as folder:
        for name, sha256 in wheels["files"].items():
            if _sha256(mount / name) != sha256:
                return f"{name} in {wheels['dataset']} is not the file that was sent"
            # Of the mount pip sees what was compared and nothing else.
            try:
                (Path(folder) / name).symlink_to(mount / name)
            except OSError:  # not everyone may make links on Windows
                shutil.copyfile(mount / name, Path(folder) / name)
        code, words = _pip("--no-index", "--find-links", folder, "--no-deps", *missing)
    return "" if code == 0 else f"{NOT_INSTALLED} {code}{words}"


def _mounted(candidates: Iterable[Path], names: Iterable[str]) -> Path | None:
    deadline = time.monotonic() + MOUNT_WAIT_S
    while True:
        for folder in candidates:
            if all((folder / name).is_file() for name in names):
                return folder
        if time.monotonic() >= deadline:
            return None
        time.sleep(POLL_S)


def from_index(missing: list[str], held: Mapping[str, str], no_wheels: str) -> str:
    """Install `missing` with pip, which keeps what is `held`; return that no index answers, or ''.

    Args:
        no_wheels: why they do not come from wheels, in words.
    """
    with tempfile.TemporaryDirectory(prefix="km_constraints_") as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in held.items()), encoding="utf-8")
        for attempt in range(TRIES):
            time.sleep(PAUSE_S if attempt else 0.0)
            code, words = _pip(*FROM_INDEX, "-c", str(constraints), *missing)
            if code == 0:
                return ""
            if not UNREACHABLE.search(words):
                kept = ", ".join(f"{name} {version}" for name, version in held.items() if name in SHOWN)
                raise Refused(
                    f"pip could not install {', '.join(missing)} (code {code}) beside what a session keeps of its "
                    f"image ({kept or 'nothing'}){words}"
                )
    return (
        f"{', '.join(missing)} could not be installed: this session reached no package index, and {no_wheels}. A "
        f"kernel has internet only when `internet` in section.toml is true and the account is verified{words}"
    )


def _pip(*arguments: str) -> tuple[int, str]:
    """Run `pip install`; its exit code, and ': ' with what it said of its failure."""
    command = [sys.executable, "-m", *PIP, *arguments]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return 0, ""
    reason = FAILS.search(done.stdout)
    words = " ".join(done.stdout[reason.start() if reason else -LONGEST_WORDS :].split())
    # What ends the session quotes the reason.
    sys.stderr.write(done.stdout[: reason.start()] if reason and len(words) <= LONGEST_WORDS else done.stdout)
    sys.stderr.flush()
    return done.returncode, f": {words[:LONGEST_WORDS]}" if words else ""


def installed() -> dict[str, str]:
    """Normalised name -> version of every distribution on the path, the first of each; newly read at every call."""
    found: dict[str, str] = {}
    for folder in filter(os.path.isdir, sys.path):
        for entry in Path(folder).iterdir():
            if entry.suffix in (".dist-info", ".egg-info"):
                name, version = release_of(entry.stem)
                if version:
                    found.setdefault(name, version)
    return found


def release_of(file: str) -> tuple[str, str]:
    """(normalised name, version) in the name of a wheel, or of a folder that describes what is installed."""
    name, _, rest = file.removesuffix(".whl").partition("-")
    return normalised(name), rest.partition("-")[0]


def is_for_this_python(wheel: str) -> bool:
    """Whether this version of CPython may install a wheel, as far as its name says so."""
    tags, _, abi = wheel.removesuffix(".whl").rpartition("-")[0].rpartition("-")
    if abi == "abi3":
        return True
    versions = tags.rpartition("-")[2].split(".")
    here = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return any(tag == here or not re.fullmatch(r"cp3\d+", tag) for tag in versions)


def name_of(package: str) -> str:
    return normalised(package.partition("==")[0].partition("[")[0])


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def is_installed(package: str, versions: Mapping[str, str]) -> bool:
    # What an extra asks for beside the package itself, pip looks up; a build tag such as 1.0+cpu is the same release.
    here = versions.get(name_of(package), "").partition("+")[0]
    return "[" not in package and here == package.partition("==")[2].partition("+")[0]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
