"""Which runs share a session. Pure: no input, output or clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_Run = TypeVar("_Run")

SOON_S = 15 * 60.0
"""A session with a free lane waits for a run that may start within this: else the two would never meet again, and use
twice the quota."""


def shared_by(starting: Sequence[_Run], lanes: int, sessions: int, *, more_come: bool) -> list[list[_Run]]:
    """The runs of each session that is started now.

    Args:
        starting: those that can start, the first to start first.
        lanes: most runs of a session.
        sessions: how many may be started.
        more_come: others can start soon: a session that is not full waits for them.
    """
    groups = [[*starting[first : first + lanes]] for first in range(0, len(starting), lanes)][:sessions]
    return [group for group in groups if len(group) == lanes or not more_come]
