"""The image a run trains in: read of each session, asked for by each push, left when it can no longer be had.

Never costs a session: what the platform does not say is asked again before the next push, and a push whose image is
refused goes out without one. In which words an image is refused nobody has seen: words that name it count at once,
any others when the same push is refused in them again after a wait.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from kaggle_manager.errors import (
    BundleTooLarge,
    ConfigError,
    KaggleManagerError,
    NotebookNotFound,
    NotFound,
    PushMismatch,
)
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.platforms.platform import SessionRef, SessionRequest, StartedSession
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.runs.session_image import image_to_ask_for, short

_ABOUT_IMAGE = re.compile(r"image|docker|digest|container|\bpin", re.I)
# Cause of the wait before a pinned push that was refused in other words is repeated, and how long it lasts.
IN_DOUBT = "image or not"
DOUBT_WAIT_S, DOUBT_LONGEST_S = 600.0, 3600.0


@dataclass(frozen=True)
class Refusal:
    """Words that refused a pinned push, and that need not be about its image."""

    message: str


def note_image(run: RunContext, session: SessionRow) -> None:
    """Write down which image a session ran in, once the platform says so."""
    if session.version is None or session.facts.get("image"):
        return
    image = _image_of(run, run.version_of(session))
    if not image:
        return
    asked, before = session.facts.get("image_asked"), image_to_ask_for(run.sessions, run.row.settings)
    with run.state.together():
        run.state.add_facts(session, image=image)
        run.note("image", session.generation, image=image, asked=asked or "")
    if asked and image != asked:
        run.reporter.warn(
            f"session {session.generation} was to run in the image {short(asked)}, and ran in {short(image)}"
        )
    elif image != before:
        run.reporter.line(f"  session {session.generation} ran in the image {short(image)}: the next ones ask for it")


def image_for_next(run: RunContext, newest: SessionRef | None) -> str:
    """Digest of the image the next session asks for; "" for the newest.

    Args:
        newest: the kernel's newest version, whose image counts where the journal knows no session: it was lost.
    """
    if run.sessions:
        note_image(run, run.newest_session())
        return image_to_ask_for(run.sessions, run.row.settings)
    return "" if newest is None or "image_from" in run.row.settings else _image_of(run, newest)


def push_in_its_image(
    run: RunContext, session: SessionRow, push: SessionRequest, *, otherwise: Callable[[], SessionRequest]
) -> StartedSession | Refusal:
    """Push; where the image is refused, without one, which is said once.

    Args:
        otherwise: the same push for the newest image.

    Returns:
        What was started; or the refusal, where the same push is to be repeated after a wait: the image may not be why.

    Raises:
        as `Platform.start`.
    """
    client, doubt = run.connection.client, run.row.settings.get("image_doubt") or {}
    try:
        pushed = client.start(push)
    except (BundleTooLarge, NotebookNotFound, PushMismatch):
        raise
    except (ConfigError, NotFound) as error:
        if not push.image:
            raise
        refused, met = error, {"image": push.image, "message": error.message}
    else:
        if doubt:
            run.state.change_settings(image_doubt=None)
        return pushed
    is_again = {name: doubt.get(name) for name in met} == met
    since = min(run.clock(), doubt["since"]) if is_again else run.clock()  # a clock may be set back
    has_waited = is_again and run.clock() - since >= DOUBT_WAIT_S  # not when the user has run it again at once
    words = refused.message.replace(f"{push.owner}/{push.slug}", "")  # a run may be named after images
    if not _ABOUT_IMAGE.search(words) and not has_waited:
        run.state.change_settings(image_doubt={**met, "since": since})
        return Refusal(refused.message)
    pushed = client.start(otherwise())
    with run.state.together():
        run.state.change_settings(image_refused=push.image, image_doubt=None)
        run.state.add_facts(session, image_asked="")
        run.note("image_refused", session.generation, image=push.image, message=refused.message)
    run.reporter.warn(
        f"the image {short(push.image)} of the earlier sessions can no longer be had ({refused.message.rstrip('.')}): "
        f"session {session.generation} runs in the newest one. If its libraries compute other bits, its log says from "
        "which step on, and so does `status`"
    )
    return pushed


def _image_of(run: RunContext, version: SessionRef) -> str:
    read: Callable[[SessionRef], str] = run.connection.client.image_of
    try:
        return read(version)
    except KaggleManagerError:  # nothing depends on it that would not be asked again
        return ""
