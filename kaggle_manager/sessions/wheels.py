"""The wheels of what a section pins, and of what these require, for every Python that its session may have.

Made on this machine with pip, once for each question, and kept. What the image has by name is left out, unless it is
pinned: it stays as the image has it, and a wheel that requires another version of it gives way to an older one, as far
as there is one. A dataset of wheels is named by their content, so every run of an account finds
what any other one has sent.
"""

from __future__ import annotations

import contextlib
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
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from kaggle_manager.errors import ConfigError, NoSuchPackage, Unavailable
from kaggle_manager.runs.leftovers import PREFIX
from kaggle_manager.sessions.known_before import HELD
from kaggle_manager.sessions.repack import repack
from kaggle_manager.system import file_lock
from kaggle_manager.system.files import sha256_of

SLUG = f"{PREFIX}wheels-"
# Kaggle's images of 2026 have either; a session says which one its image has.
KAGGLE_PYTHONS = ("3.12", "3.13")
# They are made from Ubuntu 22.04, whose C library is 2.35.
KAGGLE_PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in range(35, 16, -1)), "manylinux2014_x86_64")
_KEPT, _MAKING = "wheels.json", ".making-"
_LONGEST_S, _LONGEST_WORDS = 900.0, 600
_MOST_UNFIT, _MOST_LISTED = 20, 12
_UNREACHABLE = re.compile(r"Retrying \(|NewConnectionError|ConnectTimeoutError|NameResolutionError|ReadTimeoutError")
_CAUSE = re.compile(r"connection broken by '?(.+?)'?: /")
# In the words of `trainer/packages`, which is on its own in a session.
_DAMAGED = re.compile(rf"in ([\w.-]+/{SLUG}[0-9a-f]+) is not the file that was sent")
_NOT_FOUND = re.compile(r"No matching distribution found for (\S+)")
_VERSIONS = re.compile(r"(?:\(from versions:|Available versions:) ([\w.+!, ]+)")


@dataclass(frozen=True)
class Machine:
    """What a session runs on.

    Attributes:
        pythons: the versions it may have, such as "3.12".
        has: normalised names of the distributions of its image.
        is_here: it is this machine, with this Python.
        versions: of those in `has`, as far as they are known.
    """

    pythons: tuple[str, ...]
    has: frozenset[str]
    is_here: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)

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

    Those for one of its Pythons will do: which one a session has, it says itself.

    Args:
        cache: where they are kept.

    Raises:
        NoSuchPackage: no index has a version that is pinned; names those that there are.
        ConfigError: for none of its Pythons there are wheels that fit.
        Unavailable: the package index does not answer.
        StorageError: the disk has no file locks.
    """
    wanted = [pin for pin in map(Requirement, pins) if machine.installs(pin)]
    asked = json.dumps([sorted(map(str, wanted)), machine.pythons, machine.is_here, sorted(machine.has)])
    asked += json.dumps(sorted(machine.versions.items()))
    folder = cache / hashlib.sha256(asked.encode()).hexdigest()[:16]
    cache.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(cache)
    with _held(cache, folder.name, wait_s=_LONGEST_S) as mine:
        if not mine:
            raise Unavailable("Another command is collecting the same wheels.", safe="nothing was pushed")
        if (kept := _kept(folder)) is None:
            shutil.rmtree(folder, ignore_errors=True)
            making = cache / f"{_MAKING}{folder.name}"
            making.mkdir(exist_ok=True)
            try:
                files = {path.name: sha256_of(path) for path in sorted(_for_any_python(wanted, machine, making))}
                folder.mkdir()
                for name in files:
                    (making / name).rename(folder / name)
            finally:
                shutil.rmtree(making, ignore_errors=True)
            # Last: it says that all of them are there.
            (folder / _KEPT).write_text(json.dumps(files), encoding="utf-8")
            kept = Wheels(folder, files)
    return kept


def damaged_in(log: str) -> str:
    """Which dataset of wheels a session has found damaged, by its log: OWNER/SLUG, "" for none."""
    found = _DAMAGED.search(log)
    return found[1] if found else ""


def _held(cache: Path, name: str, *, wait_s: float = 0.0) -> AbstractContextManager[bool]:
    return file_lock.hold(cache / f"{name}.lock", wait_s=wait_s)


def _remove_unfinished(cache: Path) -> None:
    """Remove what commands have left that were ended while they collected wheels."""
    for making in cache.glob(f"{_MAKING}*"):
        with _held(cache, making.name.removeprefix(_MAKING)) as mine:
            if mine:
                shutil.rmtree(making, ignore_errors=True)


def _kept(folder: Path) -> Wheels | None:
    """What was collected before; None where it is not there, or no longer as it was."""
    try:
        files = json.loads((folder / _KEPT).read_text(encoding="utf-8"))
        whole = all(sha256_of(folder / name) == sha256 for name, sha256 in files.items())
    except (OSError, ValueError):
        return None
    return Wheels(folder, files) if whole else None


class _Unfit(Exception):
    """A wheel was taken that does not fit the others: another one, of `specifier`, may; else this is in the way."""

    def __init__(self, name: NormalizedName, specifier: SpecifierSet, problem: ConfigError) -> None:
        super().__init__()
        self.name, self.specifier, self.problem = name, specifier, problem


def _for_any_python(pins: Sequence[Requirement], machine: Machine, folder: Path) -> set[Path]:
    found: set[Path] = set()
    refused: list[ConfigError] = []
    for python in machine.pythons:
        try:
            found.update(_collect(pins, python, machine, folder))
        except ConfigError as error:
            refused.append(error)
    if len(refused) == len(machine.pythons):
        _refuse_what_no_index_has(pins, refused)
        raise refused[-1]
    return found


class _NotFound(ConfigError):
    """pip finds no wheel of a requirement; there are wheels of other versions."""

    def __init__(self, message: str, asked: str, versions: frozenset[str]) -> None:
        super().__init__(message, safe="nothing was pushed", next_step="correct `packages` in section.toml")
        self.asked, self.versions = asked, versions


def _refuse_what_no_index_has(pins: Sequence[Requirement], refused: Sequence[ConfigError]) -> None:
    """Raise `NoSuchPackage` where it is a pin of the section that was not found, and not only its wheel."""
    for pin in pins:
        asked, versions = f"{canonicalize_name(pin.name)}{pin.specifier}", set[str]()
        for each in refused:
            if not isinstance(each, _NotFound) or each.asked != asked:
                break
            versions |= each.versions
        else:
            there = _versions_on_index(pin.name)
            if there is None or any(pin.specifier.contains(it, prereleases=True) for it in there):
                continue  # a session may build it of its sources
            known = sorted(versions | there, key=Version, reverse=True)
            more = f" and {len(known) - _MOST_LISTED} older ones" if len(known) > _MOST_LISTED else ""
            raise NoSuchPackage(
                f"No package index has {pin}: the versions of {pin.name} are {', '.join(known[:_MOST_LISTED])}{more}."
                if known
                else f"No package index has {pin}, or another version of {pin.name}.",
                safe="nothing was pushed",
                next_step="correct `packages` in section.toml; code that no index has goes into the project, and its "
                "name into `include`",
            )


def _versions_on_index(name: str) -> frozenset[str] | None:
    """What the index has of a package for this machine, sources included; None where that cannot be known."""
    command = [*_PIP, "index", "versions", "--pre", "--ignore-requires-python", "--retries", "2", "--timeout", "15"]
    try:
        done = subprocess.run(
            [*command, name], capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    if _UNREACHABLE.search(done.stderr) or (done.returncode != 0 and not _NOT_FOUND.search(done.stderr)):
        return None
    return _versions_in(done.stdout)


def _versions_in(text: str) -> frozenset[str]:
    found = _VERSIONS.search(text)
    words = found[1].replace(" ", "").split(",") if found else []
    return frozenset(word for word in words if word != "none")


def _collect(pins: Iterable[Requirement], python: str, machine: Machine, folder: Path) -> list[Path]:
    """Put the wheels of `pins` and of what they require into `folder`, as far as the image has it not."""
    pinned = {canonicalize_name(pin.name): pin for pin in pins}
    limits: dict[NormalizedName, SpecifierSet] = {}
    had: dict[NormalizedName, Path] = {}
    unfit: list[_Unfit] = []
    while True:
        try:
            return _take(pinned, limits, had, python, machine, folder)
        except _Unfit as error:
            unfit.append(error)
            limits[error.name] = limits.get(error.name, SpecifierSet()) & error.specifier
        except ConfigError:
            if not unfit:
                raise
            break
        if len(unfit) > _MOST_UNFIT:
            break
    if machine.versions:  # they may have changed since: the session says what does not fit
        return _collect(pinned.values(), python, replace(machine, versions={}), folder)
    raise unfit[0].problem


def _take(
    pinned: Mapping[NormalizedName, Requirement],
    limits: Mapping[NormalizedName, SpecifierSet],
    had: dict[NormalizedName, Path],
    python: str,
    machine: Machine,
    folder: Path,
) -> list[Path]:
    """The newest wheel of each within `limits`; of those that were had before, the same where it is one.

    Raises:
        _Unfit: with another one they may fit.
        ConfigError: they do not fit, or there is none.
    """
    # What markers of requirements are compared with; what of it Kaggle's images have otherwise.
    holds = {**default_environment(), **({} if machine.is_here else _kaggles(python))}
    found: dict[NormalizedName, Path] = {}
    done: set[tuple[NormalizedName, str]] = set()
    of_image = machine.has - pinned.keys()
    wanted = dict(pinned)
    while wanted:
        missing = {}
        for name, asked in wanted.items():
            asked.specifier &= limits.get(name, SpecifierSet())
            if name in had and asked.specifier.contains(_version(had[name]), prereleases=True):
                found.setdefault(name, had[name])
            elif name not in found:
                missing[name] = asked
        for name in missing.keys() & of_image:  # its wheel is only read: what its extras require the image may lack
            asked = missing.pop(name)
            if name in machine.versions:
                asked.specifier = SpecifierSet(f"=={machine.versions[name]}")
            with contextlib.suppress(ConfigError):
                had.update(made := _obtain({name: asked}, python, machine, folder))
                found.update(made)
        had.update(made := _obtain(missing, python, machine, folder))
        found.update(made)
        following: dict[NormalizedName, Requirement] = {}
        for name, asked in wanted.items():
            done |= {(name, extra) for extra in asked.extras}
            if name not in found:
                continue
            there = {*map(str, _requirements(found[name], (), holds))} if name in of_image else set()
            for required in _requirements(found[name], asked.extras, holds):
                if str(required) in there:
                    continue
                other = canonicalize_name(required.name)
                version = _version(found[other]) if other in found else machine.versions.get(other, "")
                if version and not required.specifier.contains(version, prereleases=True):
                    _refuse(asked, required, version, _version(found[name]), pinned, is_image=other in of_image)
                has_new = any((other, extra) not in done for extra in required.extras) and not HELD.fullmatch(other)
                if has_new or (other not in found and other not in of_image):
                    required.marker, required.url = None, None
                    if other in following:
                        required.specifier &= following[other].specifier
                        required.extras |= following[other].extras
                    following[other] = required
        wanted = following
    return [path for name, path in found.items() if name not in of_image]


def _refuse(
    asked: Requirement,
    required: Requirement,
    version: str,
    of_asked: str,
    pinned: Mapping[NormalizedName, Requirement],
    *,
    is_image: bool,
) -> None:
    """`asked`, of which there is a wheel of version `of_asked`, requires another version than there is."""
    name, other = canonicalize_name(asked.name), canonicalize_name(required.name)
    where = "is what the image has" if is_image else "is pinned" if other in pinned else "was taken"
    problem = ConfigError(
        f"The packages of section.toml do not fit together: {asked} requires {required}, and {version} {where}.",
        safe="nothing was pushed",
        next_step="correct `packages` in section.toml",
    )
    if not is_image and other not in pinned:
        raise _Unfit(other, required.specifier, problem)
    if name not in pinned:
        raise _Unfit(name, SpecifierSet(f"!={of_asked}"), problem)
    if not is_image:
        raise problem


def _requirements(wheel: Path, extras: Iterable[str], holds: Mapping[str, Any]) -> Iterator[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        metadata = HeaderParser().parsestr(archive.read(name).decode("utf-8", "replace"))
    for required in map(Requirement, metadata.get_all("Requires-Dist") or ()):
        marker = required.marker
        if marker is None or any(marker.evaluate({**holds, "extra": extra}) for extra in ("", *extras)):
            yield required


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
        with tempfile.TemporaryDirectory(dir=folder, prefix=".downloading-") as downloaded:
            _pip(missing, python, machine, downloaded)
            for path in Path(downloaded).glob("*.whl"):
                found[parse_wheel_filename(path.name)[0]] = path.rename(folder / path.name)
    return found


_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


def _pip(packages: Sequence[str], python: str, machine: Machine, folder: str) -> None:
    command = [*_PIP]
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
        wanted = ", ".join(packages)
        if _UNREACHABLE.search(done.stderr):
            cause = _CAUSE.search(done.stderr)
            raise Unavailable(
                f"The package index cannot be reached for {wanted}{f': {cause[1]}' if cause else ''}.",
                safe="nothing was pushed",
                next_step="run the same command again later",
            )
        said = [line.partition("ERROR: ")[2] for line in done.stderr.splitlines() if "ERROR: " in line]
        words = said[0][:_LONGEST_WORDS] if said else done.stderr[-_LONGEST_WORDS:]  # the others say it again
        where = "this machine" if machine.is_here else f"Kaggle's image with Python {python}"
        message = f"There are no wheels of {wanted} for {where}: {words}"
        if found := _NOT_FOUND.search(done.stderr):
            raise _NotFound(message, found[1], _versions_in(done.stderr))
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


def _version(wheel: Path) -> str:
    return str(parse_wheel_filename(wheel.name)[1])


def _version_here(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
