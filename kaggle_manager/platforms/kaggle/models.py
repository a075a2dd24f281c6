"""Kaggle's own words for what `platforms.platform` names: versions of kernels, states, rooms. Pure."""

from __future__ import annotations

from typing import Any

from kaggle_manager.platforms.platform import SessionRef, SessionState

# How many sessions an account runs at once, by what they run on.
ROOM = {"GPU": 2, "CPU": 5, "TPU": 1}
# The longest session of any kind.
LONGEST_SESSION_S = 12 * 3600.0
# Of a session, with and without a GPU; of its outputs 20 GB are kept (kaggle.com/docs/notebooks), and the first 500
# files listed, in an order that nobody promises (kaggle-cli #463, #664, #665).
MEMORY_BYTES, OUTPUT_BYTES, OUTPUT_FILES = 30 * 10**9, 20 * 10**9, 500


def label_of(version: SessionRef) -> str:
    """How a request pins this version; a bare number is not found."""
    return f"v{version.id}"


def about(version: SessionRef) -> str:
    """What a message calls a question about this version."""
    return f"kernel {version.owner}/{version.slug} {label_of(version)}"


def pin(version: SessionRef, request: Any) -> Any:
    """`request`, asking about exactly this version."""
    request.user_name, request.kernel_slug, request.version_label = version.owner, version.slug, label_of(version)
    return request


def state_of(raw: str) -> SessionState:
    """From Kaggle's word, in any of the spellings the SDK accepts; an absent word is the default, QUEUED."""
    return _STATES.get(raw.replace("_", "").lower().removeprefix("kernelworkerstatus"), SessionState.UNKNOWN)


_STATES = {
    "": SessionState.QUEUED,
    "queued": SessionState.QUEUED,
    "running": SessionState.RUNNING,
    "complete": SessionState.COMPLETE,
    "error": SessionState.ERROR,
    "cancelrequested": SessionState.CANCEL_REQUESTED,
    "cancelacknowledged": SessionState.CANCELLED,
}
