"""Faults of one session: a refusal, other inputs than it asked for, another machine, or a kill that leaves nothing.

They are decided while a push is answered and written into the session's order, so they outlive the server; by default
there are none. Standard library only: the runner carries them out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class SessionFaults:
    """The faults of one session.

    Attributes:
        sources: what it finds in place of its inputs: nothing and the push says so ("dropped"), the version before
            ("stale"), or folders without content ("empty").
        filled_after_s: when empty folders get their content; None: never.
        accelerator: the machine it finds, "" for one without an accelerator; None: the one it asked for.
        refused: the push is refused in these words; "": it is not.
        dies_after_s: it is killed then, and neither output nor log are kept; None: it is not.
    """

    sources: Literal["", "dropped", "stale", "empty"] = ""
    filled_after_s: float | None = None
    accelerator: str | None = None
    dies_after_s: float | None = None
    refused: str = ""


# The faults of the session being pushed; set by `middleware`, for one request.
current: ContextVar[SessionFaults] = ContextVar("session_faults", default=SessionFaults())  # noqa: B039 - frozen


def emptied(session: Path, mounts: list[dict[str, str]]) -> list[dict[str, str]]:
    """The mounts of a session with empty folders in place of what they would show; `later` says what that is."""
    hidden = []
    for number, mount in enumerate(mounts):
        folder = session / "empty" / str(number)
        folder.mkdir(parents=True)
        hidden.append(mount | {"source": str(folder), "later": mount["source"]})
    return hidden


def fill(mounts: list[dict[str, str]]) -> None:
    """Give emptied mounts their content."""
    for mount in mounts:
        if "later" in mount:
            shutil.copytree(mount["later"], mount["source"], copy_function=_link_or_copy, dirs_exist_ok=True)


def erase(order: Mapping[str, Any]) -> None:
    """Leave nothing of what a session wrote."""
    session = Path(order["session"])
    shutil.rmtree(session / "working", ignore_errors=True)
    (session / "log.jsonl").unlink(missing_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
