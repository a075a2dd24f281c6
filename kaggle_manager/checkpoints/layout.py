"""Names and folders of a training tree, and which names from outside may be trusted.

Promises: one place knows where each file of a tree lies; a name that could climb out of its folder never becomes a
path.
Never does: read a step, a score or a date from a name: those come from manifests alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from kaggle_manager.errors import UnsafePath

Kind = Literal["latest", "best", "final"]
KINDS: tuple[Kind, ...] = ("latest", "best", "final")

ROLES = {
    "model": ".zip",
    "state": ".state",
    "sources": ".sources",
    "statistics": "_vecnormalize.pkl",
    "replay_buffer": "_replay_buffer.pkl",
}
"""What files of a checkpoint are for, and how their names end. Any other role is the path of a script's own file."""

USABLE = ("model", "statistics")
"""What a policy can be used with, and what therefore lies beside every model that is kept."""

STATISTICS_ALONE = "vecnormalize.pkl"
"""The statistics in a folder with one model: the name by which users of Stable-Baselines3 look for them."""

OWN_FILES_SUFFIX = ".files"
"""The folder of a script's own files, which ends so, lies beside the other files of its checkpoint."""

MANIFEST_SUFFIX = ".manifest.json"
PENDING_SUFFIX = ".next"
"""A file or manifest of a commit that is not yet moved to its final name (see `atomic_slot`)."""
DELETED_SUFFIX = ".deleted"
"""A manifest whose checkpoint is being deleted: the intent, on disk, before the first deletion."""
TEMPORARY_SUFFIX = ".tmp"
"""A file being written by `atomic_io.write_atomic`; never read, removed by `CheckpointStore.recover`."""

_SAFE_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]{0,199}")
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
MAX_DEPTH = 8


def check_component(name: str) -> str:
    """Return `name` when it is safe as one file name on every system.

    Raises:
        UnsafePath: for an empty name, a separator, a drive, `..`, a control character, a leading dot or dash, or a
            Windows device.
    """
    if not _SAFE_COMPONENT.fullmatch(name) or _WINDOWS_DEVICES.fullmatch(name) or name.endswith("."):
        raise UnsafePath(f"{name[:120]!r} is not a name this project writes.", safe="nothing was opened or written")
    return name


def check_relative(name: str) -> PurePosixPath:
    """Return the relative path `name` (separator `/`) when each of its components is safe.

    Raises:
        UnsafePath: when it is absolute, climbs, or has an unsafe component.
    """
    components = name.split("/")
    if len(components) > MAX_DEPTH:
        raise UnsafePath(f"{name[:120]!r} is nested too deeply.", safe="nothing was opened or written")
    return PurePosixPath(*(check_component(component) for component in components))


def inside(folder: Path, name: str) -> Path:
    """Return the path of the relative `name` under `folder`, refusing one that leaves it through a symbolic link.

    Raises:
        UnsafePath: when the name is unsafe, or a symbolic link is on the way.
    """
    path = folder
    for component in check_relative(name).parts:
        path = path / component
        if path.is_symlink():
            raise UnsafePath(f"{name!r} passes through the symbolic link {path}.", safe="nothing was opened or written")
    return path


def stem_of(kind: Kind, scenario: str, step: int) -> str:
    """Return how the names of a checkpoint's files begin."""
    return {
        "latest": f"{scenario}_checkpoint_{step}_steps",
        "best": "best_model",
        "final": f"{scenario}_final",
    }[kind]


def file_name(kind: Kind, scenario: str, step: int, role: str) -> str:
    """Return the name of a checkpoint's file, relative to the folder of its manifest, with the separator `/`.

    Raises:
        UnsafePath: the role of a script's own file is no relative path of safe names, or ends as names of commits do.
    """
    if role == "statistics" and kind != "latest":
        return STATISTICS_ALONE
    stem = stem_of(kind, scenario, step)
    if role in ROLES:
        return stem + ROLES[role]
    if role.endswith((PENDING_SUFFIX, TEMPORARY_SUFFIX)):
        raise UnsafePath(f"{role[:120]!r} ends as a file does that is being written.", safe="nothing was written")
    check_relative(name := f"{stem}{OWN_FILES_SUFFIX}/{role}")
    check_relative(name + PENDING_SUFFIX)
    return name


@dataclass(frozen=True)
class TrainingTree:
    """The folders and names of one scenario's training tree.

    Args:
        root: the folder of the tree, for example `.../data/models`.
        scenario: its name, one safe file-name component.
    """

    root: Path
    scenario: str

    def __post_init__(self) -> None:
        check_component(self.scenario)

    @property
    def checkpoints(self) -> Path:
        """Folder of the two latest checkpoints."""
        return self.root / "checkpoints"

    @property
    def replay(self) -> Path:
        """Folder of the replay segments, shared by the latest checkpoints."""
        return self.checkpoints / "replay"

    @property
    def best_folder(self) -> Path:
        """Folder of the best model, what belongs to it, and its manifest."""
        return self.root / "best_model"

    @property
    def best_model(self) -> Path:
        """The best model."""
        return self.path("best", "model")

    @property
    def final(self) -> Path:
        """The final model."""
        return self.path("final", "model")

    @property
    def history(self) -> Path:
        """Folder of the learning curves: monitor.csv, evaluations.npz, tensorboard/."""
        return self.root / "history"

    @property
    def quarantine(self) -> Path:
        """Folder of what did not verify."""
        return self.root / "quarantine"

    @property
    def metadata(self) -> Path:
        """training_metadata.json."""
        return self.root / "training_metadata.json"

    def without_manifest(self) -> list[Path]:
        """The files that no manifest lists: learning curves and metadata, symbolic links among them."""
        curves = [path for path in sorted(self.history.rglob("*")) if path.is_symlink() or path.is_file()]
        return [*curves, self.metadata] if self.metadata.exists() else curves

    def name(self, kind: Kind, role: str, step: int = 0) -> str:
        """Name of a file in `folder(kind)`; the step is that of a latest checkpoint.

        Raises:
            UnsafePath: as `file_name`.
        """
        return file_name(kind, self.scenario, step, role)

    def path(self, kind: Kind, role: str, step: int = 0) -> Path:
        """Where a file lies; as `name`."""
        return self.folder(kind) / self.name(kind, role, step)

    def folder(self, kind: Kind) -> Path:
        """Where the files of a level lie, and their manifest."""
        return {"latest": self.checkpoints, "best": self.best_folder, "final": self.root}[kind]

    def own_files(self, kind: Kind, step: int = 0) -> Path:
        """The folder of a script's own files of a checkpoint."""
        return self.folder(kind) / f"{stem_of(kind, self.scenario, step)}{OWN_FILES_SUFFIX}"

    def manifest_name(self, kind: Kind, step: int = 0) -> str:
        """Name of a manifest in `folder(kind)`."""
        return f"{stem_of(kind, self.scenario, step)}{MANIFEST_SUFFIX}"
