"""What can be seen of this machine: Python, packages, folders, disk, the local Kaggle, settings."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from kaggle_manager.checkpoints.atomic_swap import check_place
from kaggle_manager.cli.doctor.check import Check
from kaggle_manager.cli.extras import how_to_install
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import ConfigError, InputMissing, StorageError
from kaggle_manager.local_kaggle.launcher import find
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sections.model import Section
from kaggle_manager.sessions.connection import connect
from kaggle_manager.sessions.preflight import inputs_of, missing_packages
from kaggle_manager.system import accelerators
from kaggle_manager.system.files import size_below
from kaggle_manager.system.formatting import count, size
from kaggle_manager.system.place import check

OLDEST_PYTHON = (3, 11)
# The official client and its SDK are released in pairs; these are the ones the contract tests were run with.
TESTED_PAIRS = (("2.2.4", "0.1.37"), ("2.2.5", "0.1.38"))
# A run keeps its tree, two downloads and two replaced trees; a restore holds one more while it swaps.
TREES_KEPT = 6
LITTLE_BYTES = 2 * 1000**3
TRAINS = ("torch", "stable-baselines3", "gymnasium")
MISSING = "(missing)"


def python() -> Check:
    """The interpreter."""
    says = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < OLDEST_PYTHON:
        return Check("python", "problem", says, "install Python 3.11 or newer", ConfigError.exit_code)
    return Check("python", "ok", says)


def client_packages() -> Check:
    """The official client, which changes its habits between releases."""
    pair = _version("kaggle"), _version("kagglesdk")
    says = f"kaggle {pair[0]}, kagglesdk {pair[1]}"
    if importlib.util.find_spec("six") is None:
        return Check(
            "packages",
            "problem",
            f"{says}; six is missing, without which kaggle does not import",
            "pip install six",
            ConfigError.exit_code,
        )
    if pair not in TESTED_PAIRS:
        tested = " or ".join(f"kaggle {kaggle} with kagglesdk {sdk}" for kaggle, sdk in TESTED_PAIRS)
        return Check("packages", "caution", f"{says}: not a pair this program was tested with", f"install {tested}")
    return Check("packages", "ok", f"{says}: a pair this program was tested with")


def training_packages(config: RunConfig) -> list[Check]:
    """What trains on this machine, and SUMO when the section needs it. A session on Kaggle installs what is missing."""
    section, missing = config.section, missing_packages(config.section, config.project_root)
    if missing:
        says = f"not installed here: {', '.join(missing)}. Sessions may have them; a preflight checks names alone"
        todo = f"to try it here: {how_to_install(missing, section.kernel.packages)}"
        return [Check("training", "unknown", says, todo)]
    there = [f"{name} {version}" for name in TRAINS if (version := _version(name)) != MISSING]
    checks = [Check("training", "ok", ", ".join(there) or "what its script imports")]
    if any(package.startswith("libsumo==") for package in section.kernel.packages):
        checks.append(_sumo())
    return checks


def accelerator(section: Section) -> Check:
    """The machine that its sessions ask for, and what Kaggle really gives."""
    asked = section.kernel.accelerator
    if asked is None:
        return Check("accelerator", "ok", "none: sessions train on the CPU, which costs no weekly quota")
    if remark := accelerators.remark(asked):
        return Check("accelerator", "caution", remark, "NvidiaTeslaT4 is what Kaggle gives to everybody")
    return Check("accelerator", "ok", f"{asked}, which Kaggle gives to everybody")


def _sumo() -> Check:
    """In a process of its own: a native library that does not fit this machine ends the process that loads it."""
    code = "import libsumo; print(libsumo.getVersion()[1])"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
        if done.returncode == 0:
            return Check("sumo", "ok", f"{done.stdout.strip()}, imports")
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        why = "its import did not end within 20 s"
    return Check(
        "sumo",
        "caution",
        f"libsumo is installed and does not import here: {why}",
        "training here needs it: install the system libraries it names; sessions elsewhere are not affected",
    )


def state_folder(config: RunConfig) -> Check:
    """Whether the state folder, or the folder it would be made in, can be written."""
    check(config.state)
    place = _existing(config.state)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Check(
            "state folder",
            "problem",
            f"{place} cannot be written: {error.strerror}",
            "make it writable, or choose another with --workdir",
            StorageError.exit_code,
        )
    return Check("state folder", "ok", f"{config.state}" + ("" if place == config.state else " (not made yet)"))


def journal(config: RunConfig) -> Check:
    """The journal, opened read-only and read to its end."""
    with closing(Journal.to_read(config.journal)) as opened:
        runs = opened.runs()
    if not config.journal.exists():
        return Check("journal", "ok", "none yet: nothing was run here")
    return Check(
        "journal", "ok", f"{count(len(runs), 'run')}, {sum(run.finished_at is None for run in runs)} unfinished"
    )


def training_tree(config: RunConfig) -> Check:
    """Whether a training tree is there, or can be."""
    check_place(config.tree)
    return Check("training tree", "ok", f"{config.tree}" + ("" if config.tree.is_dir() else " (not made yet)"))


def inputs(config: RunConfig) -> Check | list[Check]:
    """Whether this machine has the data that a run reads; a session has it from its platform."""
    asked = [each.text for each in config.section.inputs_of(config.scenario_name)]
    if not asked:
        return []
    try:
        inputs_of(config)
    except InputMissing as error:
        says = f"{error.message} Fine where sessions have it; a preflight is then skipped"
        return Check("inputs", "caution", says, error.next_step)
    return Check("inputs", "ok", f"{', '.join(asked)}: on this machine as well")


def disk(config: RunConfig) -> Check:
    """Room for the training tree and the copies a run keeps of it."""
    tree = size_below(config.tree)
    try:
        free = min(shutil.disk_usage(_existing(place)).free for place in (config.state, config.tree))
    except OSError as error:
        return Check("disk", "caution", f"its free space cannot be seen: {error.strerror}")
    says = f"{size(free)} free; the training tree has {size(tree)}, and a run keeps up to {TREES_KEPT} like it"
    if free < 2 * tree:
        return Check("disk", "problem", says, "free some space before the next session", StorageError.exit_code)
    if free < max(TREES_KEPT * tree, LITTLE_BYTES):
        return Check(
            "disk", "caution", says, "free some space; `replaced` and `archive` in the state folder are copies"
        )
    return Check("disk", "ok", says)


def local_kaggle(config: RunConfig) -> Check:
    """Whether the local Kaggle is running."""
    try:
        server = find(config.local_kaggle)
    except OSError as error:
        return Check("local Kaggle", "caution", f"{config.local_kaggle} cannot be read: {error.strerror}", "look at it")
    return Check("local Kaggle", "ok", f"running at {server.url}" if server else "not running; started when needed")


def settings(config: RunConfig) -> list[Check]:
    """Each setting of a run, and where its value came from."""
    values = {
        "scenario": config.scenario_name,
        "timesteps": config.target,
        "session_limit": f"{config.session_limit_s:g} s",
        "quota_per_week": "no bound" if config.quota_per_week_s is None else f"{config.quota_per_week_s:g} s",
        "platform": config.platform,
        "workdir": config.state,
        "keep_gb": f"{config.keep_bytes / 1e9:g} GB of kept copies",
    }
    found = [
        Check(f"setting {name}", "ok", f"{values[name]} (from {source})")
        for name, source in config.sources.items()
        if name in values
    ]
    return [Check("project", "ok", f"{config.section.name} in {config.project_root}"), *found]


def platform_of(config: RunConfig, environ: Mapping[str, str]) -> Check:
    """A platform that is not Kaggle: whether it answers, and as whom.

    Raises:
        KaggleManagerError: it does not.
    """
    reached = connect(config, environ)
    longest_h = reached.client.limits().longest_session_s / 3600
    return Check("platform", "ok", f"{reached.platform} as {reached.owner}, sessions of {longest_h:g} h at most")


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.is_dir())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return MISSING
