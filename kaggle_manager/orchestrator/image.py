"""The image a run trains in: read of each session, asked for by each push, left when it can no longer be had.

Never costs a session: what the platform does not say is asked again before the next push, and a push whose image is
refused goes out without one.
"""

from __future__ import annotations

from collections.abc import Callable

from kaggle_manager.errors import (
    BundleTooLarge,
    ConfigError,
    KaggleManagerError,
    NotebookNotFound,
    NotFound,
    PushMismatch,
)
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.platforms.kaggle.models import KernelPush, KernelVersion, PushedKernel
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.runs.session_image import image_to_ask_for, short


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


def image_for_next(run: RunContext, newest: KernelVersion | None) -> str:
    """Digest of the image the next session asks for; "" for the newest.

    Args:
        newest: the kernel's newest version, whose image counts where the journal knows no session: it was lost.
    """
    if run.sessions:
        note_image(run, run.newest_session())
        return image_to_ask_for(run.sessions, run.row.settings)
    return "" if newest is None or "image_from" in run.row.settings else _image_of(run, newest)


def push_in_its_image(
    run: RunContext, session: SessionRow, push: KernelPush, *, otherwise: Callable[[], KernelPush]
) -> PushedKernel:
    """Push; where the image alone is refused, without one, which is said once.

    Args:
        otherwise: the same push for the newest image.

    Raises:
        as `KaggleClient.push_kernel`.
    """
    client = run.connection.client
    try:
        return client.push_kernel(push)
    except (BundleTooLarge, NotebookNotFound, PushMismatch):
        raise
    except (ConfigError, NotFound) as error:
        if not push.image:
            raise
        refused = error  # in words that need not name the image: the same push without it will tell
    pushed = client.push_kernel(otherwise())
    with run.state.together():
        run.state.change_settings(image_refused=push.image)
        run.state.add_facts(session, image_asked="")
        run.note("image_refused", session.generation, image=push.image, message=refused.message)
    run.reporter.warn(
        f"the image {short(push.image)} of the earlier sessions can no longer be had ({refused.message.rstrip('.')}): "
        f"session {session.generation} runs in the newest one. If its libraries compute other bits, its log says from "
        "which step on, and so does `status`"
    )
    return pushed


def _image_of(run: RunContext, version: KernelVersion) -> str:
    read: Callable[[KernelVersion], str] = run.connection.client.image_of
    try:
        return read(version)
    except KaggleManagerError:  # nothing depends on it that would not be asked again
        return ""
