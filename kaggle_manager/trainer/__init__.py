"""The trainer: what runs inside a session, and on a laptop.

Importing this package pins what floating-point results depend on, before anything in it imports numpy or torch; see
`sb3.determinism`.
"""

from typing import TYPE_CHECKING, Any

from kaggle_manager.trainer.sb3 import determinism

if TYPE_CHECKING:
    from kaggle_manager.trainer.sb3.code_first import Build, Context

__all__ = ["Build", "Context"]

determinism.pin()


def __getattr__(name: str) -> Any:
    """What a user's `build` function is written with, imported when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kaggle_manager.trainer.sb3 import code_first

    return getattr(code_first, name)
