"""Names and folders of a training tree, and which names from outside may be trusted.

Promises: one place knows where each file of a tree lies; a name that could climb out of its folder never becomes a
path.
Never does: read a step, a score or a date from a name: those come from manifests alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kaggle_manager.errors import UnsafePath

MANIFEST_SUFFIX = ".manifest.json"
PENDING_SUFFIX = ".next"
"""A file or manifest of a commit that is not yet moved to its final name (see `atomic_slot`)."""
DELETED_SUFFIX = ".deleted"
"""A manifest whose checkpoint is being deleted: the intent, on disk, before the first deletion."""

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
        """Folder of the best model and its manifest."""
        return self.root / "best_model"

    @property
    def best_model(self) -> Path:
        """The best model."""
        return self.best_folder / self.best_model_name

    @property
    def final(self) -> Path:
        """The final model."""
        return self.root / self.final_model_name

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

    def model_name(self, step: int) -> str:
        """Name of a latest checkpoint's model."""
        return f"{self._stem(step)}.zip"

    def state_name(self, step: int) -> str:
        """Name of a latest checkpoint's state."""
        return f"{self._stem(step)}.state"

    def sources_name(self, step: int) -> str:
        """Name of the sources of a latest checkpoint's experiment."""
        return f"{self._stem(step)}.sources"

    def manifest_name(self, step: int) -> str:
        """Name of a latest checkpoint's manifest."""
        return f"{self._stem(step)}{MANIFEST_SUFFIX}"

    def _stem(self, step: int) -> str:
        return f"{self.scenario}_checkpoint_{step}_steps"

    @property
    def best_model_name(self) -> str:
        """Name of the best model in `best_folder`."""
        return "best_model.zip"

    @property
    def best_manifest_name(self) -> str:
        """Name of the best model's manifest in `best_folder`."""
        return f"best_model{MANIFEST_SUFFIX}"

    @property
    def final_model_name(self) -> str:
        """Name of the final model in `root`."""
        return f"{self.scenario}_final.zip"

    @property
    def final_replay_name(self) -> str:
        """Name of the replay buffer beside the final model, which stock Stable-Baselines3 loads."""
        return f"{self.scenario}_final_replay_buffer.pkl"

    @property
    def final_manifest_name(self) -> str:
        """Name of the final model's manifest in `root`."""
        return f"{self.scenario}_final{MANIFEST_SUFFIX}"
