"""The wheels of what a section pins, and of what these require, for every Python that its session may have.

Made on this machine with pip, once for each question, and kept. What the image has by name is left out, unless it is
pinned: it stays as the image has it. A dataset of wheels is named by their content, so every run of an account finds
what any other one has sent.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name, parse_wheel_filename

from kaggle_manager.errors import ConfigError, Unavailable
from kaggle_manager.sessions.repack import repack
from kaggle_manager.system import file_lock

SLUG = "km-wheels-"
# Kaggle's images of 2026 have either; the newest session says which one a run has.
KAGGLE_PYTHONS = ("3.12", "3.13")
# They are made from Ubuntu 22.04, whose C library is 2.35.
KAGGLE_PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in range(35, 16, -1)), "manylinux2014_x86_64")
_KEPT = "wheels.json"
_LONGEST_S, _LONGEST_WORDS = 900.0, 600
_UNREACHABLE = re.compile(r"Retrying \(|NewConnectionError|ConnectTimeoutError|NameResolutionError|ReadTimeoutError")


@dataclass(frozen=True)
class Machine:
    """What a session runs on.

    Attributes:
        pythons: the versions it may have, such as "3.12".
        has: normalised names of the distributions of its image.
        is_here: it is this machine, with this Python.
    """

    pythons: tuple[str, ...]
    has: frozenset[str]
    is_here: bool = False

    def installs(self, pin: Requirement) -> bool:
        """Whether a session has to install what a section pins, as far as that is known."""
        if not self.is_here or pin.extras or canonicalize_name(pin.name) not in self.has:
            return True
        return _version_here(pin.name) not in pin.specifier


@dataclass(frozen=True)
class Wheels:
    """Wheels in a folder: the SHA-256 of each file."""

    folder: Path
    files: Mapping[str, str]

    @property
    def slug(self) -> str:
        """The name of their dataset, by their content."""
        lines = "".join(f"{sha256} {name}\n" for name, sha256 in sorted(self.files.items()))
        return SLUG + hashlib.sha256(lines.encode()).hexdigest()[:16]

    @property
    def paths(self) -> list[Path]:
        return [self.folder / name for name in sorted(self.files)]


def wheels_of(pins: Sequence[str], machine: Machine, cache: Path) -> Wheels:
    """The wheels that a session on `machine` installs the pinned packages (`name==version`) from; maybe none.

    Args:
        cache: where they are kept.

    Raises:
        ConfigError: for one of these there is no wheel that fits.
        Unavailable: the package index does not answer.
        StorageError: the disk has no file locks.
    """
    wanted = [pin for pin in map(Requirement, pins) if machine.installs(pin)]
    asked = json.dumps([sorted(map(str, wanted)), machine.pythons, machine.is_here, sorted(machine.has)])
    folder = cache / hashlib.sha256(asked.encode()).hexdigest()[:16]
    cache.mkdir(parents=True, exist_ok=True)
    with file_lock.hold(cache / f"{folder.name}.lock", wait_s=_LONGEST_S):
        if (kept := _kept(folder)) is None:
            shutil.rmtree(folder, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix=".making-") as made:
                for python in machine.pythons:
                    _collect(wanted, python, machine, Path(made))
                files = {path.name: _sha256(path) for path in sorted(Path(made).glob("*.whl"))}
                folder.mkdir()
                for name in files:
                    (Path(made) / name).rename(folder / name)
            sizes = {name: [sha256, (folder / name).stat().st_size] for name, sha256 in files.items()}
            (folder / _KEPT).write_text(json.dumps(sizes), encoding="utf-8")  # last: it says that all of them are there
            kept = Wheels(folder, files)
    return kept


def _kept(folder: Path) -> Wheels | None:
    try:
        known = json.loads((folder / _KEPT).read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, (_, size) in known.items())
    except (OSError, ValueError):
        return None
    return Wheels(folder, {name: sha256 for name, (sha256, _) in known.items()}) if whole else None


def _collect(pins: Iterable[Requirement], python: str, machine: Machine, folder: Path) -> None:
    """Put the wheels of `pins` and of what they require into `folder`, as far as the image has it not."""
    # What markers of requirements are compared with; what of it Kaggle's images have otherwise.
    holds = {**default_environment(), **({} if machine.is_here else _kaggles(python))}
    found: dict[NormalizedName, Path] = {}
    wanted = {canonicalize_name(pin.name): pin for pin in pins}
    while wanted:
        for name, path in _obtain(wanted, python, machine, folder).items():
            found[name] = path
        following: dict[NormalizedName, Requirement] = {}
        for name, asked in wanted.items():
            for required in _requirements(found[name], asked.extras, holds):
                other = canonicalize_name(required.name)
                if other in found:
                    _check(found[other], required, asked)
                elif other not in machine.has:
                    required.marker, required.url = None, None
                    if other in following:
                        required.specifier &= following[other].specifier
                        required.extras |= following[other].extras
                    following[other] = required
        wanted = following


def _requirements(wheel: Path, extras: Iterable[str], holds: Mapping[str, Any]) -> Iterator[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        metadata = HeaderParser().parsestr(archive.read(name).decode("utf-8", "replace"))
    for required in map(Requirement, metadata.get_all("Requires-Dist") or ()):
        marker = required.marker
        if marker is None or any(marker.evaluate({**holds, "extra": extra}) for extra in ("", *extras)):
            yield required


def _check(wheel: Path, required: Requirement, asked: Requirement) -> None:
    version = parse_wheel_filename(wheel.name)[1]
    if not required.specifier.contains(version, prereleases=True):
        raise ConfigError(
            f"The packages of section.toml do not fit together: {asked} requires {required}, and {version} is pinned.",
            safe="nothing was pushed",
            next_step="correct `packages` in section.toml",
        )


def _obtain(
    wanted: Mapping[NormalizedName, Requirement], python: str, machine: Machine, folder: Path
) -> dict[NormalizedName, Path]:
    """A wheel of each, by name: of what is installed here when the session runs here, else from the package index."""
    found: dict[NormalizedName, Path] = {}
    if machine.is_here:
        for name, asked in wanted.items():
            here = _version_here(name)
            fits = here and asked.specifier.contains(here, prereleases=True)
            if fits and (made := repack(name, folder)):
                found[name] = made
    if missing := [f"{name}{asked.specifier}" for name, asked in wanted.items() if name not in found]:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as fetched:
            _pip(missing, python, machine, fetched)
            for path in Path(fetched).glob("*.whl"):
                found[parse_wheel_filename(path.name)[0]] = path.rename(folder / path.name)
    return found


def _pip(packages: Sequence[str], python: str, machine: Machine, folder: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    if machine.is_here:
        command += ["wheel", "--no-deps", "--wheel-dir", folder]
    else:
        platforms = [word for platform in KAGGLE_PLATFORMS for word in ("--platform", platform)]
        command += ["download", "--no-deps", "--only-binary=:all:", "--dest", folder]
        command += ["--python-version", python, "--implementation", "cp", *platforms]
    command += ["--progress-bar", "off", "--retries", "2", "--timeout", "15", *packages]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_LONGEST_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"The package index did not give {', '.join(packages)} within {_LONGEST_S:.0f} s.") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if "ERROR" in line or "Retrying" in line]
        words = " ".join(said)[-_LONGEST_WORDS:] or done.stderr[-_LONGEST_WORDS:]
        where = "this machine" if machine.is_here else f"Kaggle's image with Python {python}"
        message = f"There are no wheels of {', '.join(packages)} for {where}: {words}"
        if _UNREACHABLE.search(done.stderr):
            raise Unavailable(message, safe="nothing was pushed", next_step="run the same command again later")
        raise ConfigError(message, safe="nothing was pushed", next_step="correct `packages` in section.toml")


def _kaggles(python: str) -> dict[str, str]:
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }


def _version_here(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
