"""What Kaggle's answer to a push means. Pure: reply in, started session or error out.

Kaggle reports most refusals inside a successful answer, and starts a session even when it dropped an input or filed
the kernel under another address. So the whole reply is read, and nothing passes as success that is not exactly what
was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from kaggle_manager.errors import (
    AmbiguousPush,
    BundleTooLarge,
    CapacityReached,
    ConfigError,
    KaggleManagerError,
    NotebookNotFound,
    PushMismatch,
    QuotaError,
)
from kaggle_manager.platforms.kaggle.auth import quotable
from kaggle_manager.platforms.kaggle.models import ROOM
from kaggle_manager.platforms.platform import SessionRef, SessionRequest, StartedSession

_NOTHING_STARTED = "no session was started"
NO_ROOM = (
    f"Kaggle runs no more sessions at once for this account ({ROOM['GPU']} with a GPU, {ROOM['CPU']} on the CPU, "
    f"{ROOM['TPU']} with a TPU)"
)
_CAPACITY = re.compile(r"maximum batch \w+ session count", re.I)
_QUOTA = re.compile(r"maximum weekly \w+ quota|projected to exceed", re.I)
# Of a kernel that an earlier push left without a version, and of a new one that Kaggle does not like the name of.
_NOT_FOUND = re.compile(r"(notebook|kernel) not found", re.I)
_TOO_LARGE = re.compile(r"kernel source must be less than|source .{0,40}too large", re.I)
# Fields of the reply that name what was dropped.
_DROPPED = {
    "invalidDatasetSources": "dataset",
    "invalidKernelSources": "kernel",
    "invalidCompetitionSources": "competition",
    "invalidModelSources": "model",
    "invalidTags": "tag",
}


def read_push_reply(push: SessionRequest, reply: Mapping[str, Any]) -> StartedSession:
    """The session that was started, exactly as asked.

    Args:
        push: what was asked.
        reply: the JSON object that came back.

    Raises:
        CapacityReached, QuotaError, BundleTooLarge, ConfigError: nothing was started; the message says why.
        PushMismatch: a session was started, but not the one asked for.
        AmbiguousPush: neither a refusal nor a version.
    """
    if words := reply.get("error"):
        raise refusal(push, str(words))
    number = reply.get("versionNumber")
    if not isinstance(number, int) or number < 1:
        raise ambiguous(push, "the answer names no version")
    url = str(reply.get("url") or "")
    came_back = _address(str(reply.get("ref") or "")) or _address(url)
    asked = (push.owner.lower(), push.slug.lower())
    if came_back is not None and came_back != asked:
        raise PushMismatch(
            f"The kernel was asked for as {push.owner}/{push.slug}, but Kaggle filed it as {'/'.join(came_back)}.",
            started=f"{'/'.join(came_back)}/{number}",
            safe="nothing was downloaded or changed here; that session runs and uses quota",
            next_step=f"delete {'/'.join(came_back)} on Kaggle, or give the run another name",
        )
    version = SessionRef(push.owner, push.slug, str(number))
    dropped = [f"{kind} {name}" for key, kind in _DROPPED.items() for name in reply.get(key) or ()]
    if dropped:
        raise PushMismatch(
            f"Kaggle started {version.ref} without {quotable(', '.join(map(str, dropped)))}: not found, or not ready.",
            started=version.ref,
            safe="nothing was downloaded or changed here; the session ends by itself when it misses its input",
            next_step="wait until the source is ready on Kaggle, then run the same command again",
        )
    return StartedSession(version, url)


def refusal(push: SessionRequest, text: str) -> KaggleManagerError:
    """What a refusal in Kaggle's words means; unknown words stop the run, for the user to read."""
    where = f"{push.owner}/{push.slug}"
    shown = quotable(text)
    if _CAPACITY.search(text):
        return CapacityReached(f"{NO_ROOM}: {shown}", safe=_NOTHING_STARTED)
    if _QUOTA.search(text) and push.accelerator:  # a session on the CPU has no quota to wait for
        return QuotaError(
            f"Kaggle's weekly quota does not allow {where} now: {shown}",
            safe=_NOTHING_STARTED,
            next_step="wait for the weekly reset, or for running sessions to give back what they reserved",
        )
    if _TOO_LARGE.search(text):
        return BundleTooLarge(
            f"Kaggle refused {where}: {shown} It is {len(push.source.encode()):,} bytes.",
            safe=_NOTHING_STARTED,
            next_step="keep large files out of the kernel's code; they travel as a dataset",
        )
    if _NOT_FOUND.search(text):
        return NotebookNotFound(
            f"Kaggle refused to start {where}: {shown}",
            safe=_NOTHING_STARTED,
            next_step=f"delete {where} on Kaggle, where its first push may have left it without a version, and run the "
            "same command again",
        )
    return ConfigError(
        f"Kaggle refused to start {where}: {shown}", safe=_NOTHING_STARTED, next_step="follow Kaggle's message above"
    )


def ambiguous(push: SessionRequest, why: str) -> AmbiguousPush:
    return AmbiguousPush(
        f"Whether Kaggle started a session of {push.owner}/{push.slug} is not known: {why}.",
        safe="it was not pushed again",
        next_step="look at the kernel's newest version before pushing again",
    )


def _address(text: str) -> tuple[str, str] | None:
    """(owner, slug) in "owner/slug", "/code/owner/slug", "owner/slug/7" or a full address; None if there is none."""
    parts = [part for part in urlsplit(text).path.lower().split("/") if part]
    if parts and parts[0] in ("code", "kernels"):
        parts = parts[1:]
    return (parts[0], parts[1]) if len(parts) >= 2 else None
