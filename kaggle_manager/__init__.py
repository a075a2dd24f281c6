"""Train a Stable-Baselines3 agent to N timesteps over any number of sessions, with nothing lost.

What a program may use is in `__all__`, described in docs/api.md; every other name may change without notice. A name is
imported when it is first used: `import kaggle_manager` alone imports nothing, for it also runs inside a session, which
holds the trainer and not the manager.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaggle_manager.checkpoints import Checkpoint, find_latest_checkpoint
    from kaggle_manager.config import RunConfig, build_config
    from kaggle_manager.errors import (
        AmbiguousPush,
        AuthError,
        BundleTooLarge,
        Busy,
        CapacityReached,
        CheckpointChanged,
        CheckpointCorrupt,
        CheckpointIncompatible,
        CheckpointNotFound,
        ConfigError,
        ContractBroken,
        Diverged,
        EndedEarly,
        InputMissing,
        Interrupted,
        KaggleManagerError,
        KernelFailed,
        LineageMismatch,
        NoSuchPackage,
        NotebookNotFound,
        NotFinished,
        NotFound,
        NothingSaved,
        NoVersionShown,
        OutputDamaged,
        ProtocolError,
        PushMismatch,
        QuotaError,
        RateLimited,
        RemoteError,
        RunError,
        SavedBackwards,
        ScriptFailed,
        SimulationDiverged,
        StopIgnored,
        StorageError,
        Unavailable,
        UnsafePath,
        UnsafePickle,
        UntrustedTree,
        VerificationError,
        WrongAccelerator,
    )
    from kaggle_manager.orchestrator.manager import ValidationKaggleManager
    from kaggle_manager.status.report import RunReport, SessionSummary

__version__ = "0.1.0"

__all__ = [
    "AmbiguousPush",
    "AuthError",
    "BundleTooLarge",
    "Busy",
    "CapacityReached",
    "Checkpoint",
    "CheckpointChanged",
    "CheckpointCorrupt",
    "CheckpointIncompatible",
    "CheckpointNotFound",
    "ConfigError",
    "ContractBroken",
    "Diverged",
    "EndedEarly",
    "InputMissing",
    "Interrupted",
    "KaggleManagerError",
    "KernelFailed",
    "LineageMismatch",
    "NoSuchPackage",
    "NoVersionShown",
    "NotFinished",
    "NotFound",
    "NotebookNotFound",
    "NothingSaved",
    "OutputDamaged",
    "ProtocolError",
    "PushMismatch",
    "QuotaError",
    "RateLimited",
    "RemoteError",
    "RunConfig",
    "RunError",
    "RunReport",
    "SavedBackwards",
    "ScriptFailed",
    "SessionSummary",
    "SimulationDiverged",
    "StopIgnored",
    "StorageError",
    "Unavailable",
    "UnsafePath",
    "UnsafePickle",
    "UntrustedTree",
    "ValidationKaggleManager",
    "VerificationError",
    "WrongAccelerator",
    "__version__",
    "build_config",
    "find_latest_checkpoint",
]

# The module of each name of `__all__` that is not an error.
_HOME = {
    "Checkpoint": "checkpoints",
    "RunConfig": "config",
    "RunReport": "status.report",
    "SessionSummary": "status.report",
    "ValidationKaggleManager": "orchestrator.manager",
    "build_config": "config",
    "find_latest_checkpoint": "checkpoints",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOME.get(name, 'errors')}"
    try:
        return getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{home}.".startswith(f"{error.name}."):
            raise  # a package that `home` needs is not installed
        raise ImportError(
            f"kaggle_manager.{name} is not available inside a session: its module {home} stays on the user's machine.",
            name=home,
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
