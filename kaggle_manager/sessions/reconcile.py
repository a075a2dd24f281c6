"""Look for a push whose answer never came, before anything is repeated: by the order inside the source, nothing else.

A platform may show an accepted push late, and may have filed it under another address; either way the session exists.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from contextlib import suppress

from kaggle_manager.errors import ConfigError, NoVersionShown, PushMismatch
from kaggle_manager.platforms.platform import Platform, SessionRef
from kaggle_manager.protocol.launch_order import read_order
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.sessions.bundle import order_of
from kaggle_manager.sessions.launch import kernel_names, kernel_of

# How often to look for it, and how far apart, before it counts as never accepted.
LOOKS = 5
LOOK_EVERY_S = 6.0
# It would be among the kernels that ran last; so many of them are looked at.
OTHER_KERNELS = 5


def look_for_push(
    client: Platform, run: RunRow, session: SessionRow, *, sleep: Callable[[float], None] = time.sleep
) -> SessionRef | None:
    """Find out whether an intended push was accepted: its version, or None when it surely was not.

    Raises:
        ConfigError: a newer version exists whose source is not ours: something else pushes to this kernel.
    """
    owner, slug = kernel_of(run, session)
    for look in range(LOOKS):
        newest = client.newest(owner, slug)
        if newest is not None and _is_new(client, newest[0], session.baseline_version):
            version, source = newest
            if _is_of(session, source):
                return version
            raise ConfigError(
                f"{version.ref} was not pushed by this run: something else uses the kernel {owner}/{slug}.",
                safe="nothing more was pushed; the local training tree is untouched",
                next_step=f"stop the other program, delete {owner}/{slug} on {run.platform}, "
                "and run the same command again",
            )
        if look < LOOKS - 1:
            sleep(LOOK_EVERY_S)
    return None


def _is_new(client: Platform, newest: SessionRef, before: str) -> bool:
    """Whether a session was started since; a platform may show an older one for a while."""
    return newest.id != before and (not before or client.is_later(newest.id, before))


def check_not_elsewhere(client: Platform, run: RunRow, session: SessionRow) -> None:
    """Make sure that an intended push was not filed under another address.

    Raises:
        PushMismatch: it was.
    """
    owner, own = kernel_of(run, session)
    others = [slug for slug in client.mine(owner) if slug != own]
    for slug in others[:OTHER_KERNELS]:
        newest = client.newest(owner, slug)
        if newest is not None and _is_of(session, newest[1]):
            raise PushMismatch(
                f"The platform filed session {session.generation} of {owner}/{own} as {newest[0].ref}.",
                started=newest[0].ref,
                safe="nothing was downloaded or changed here; that session runs and uses quota",
            )


def _is_of(session: SessionRow, source: str) -> bool:
    """Whether this source is the one of that generation. Not by its hash: a platform may change line ends."""
    order = order_of(source, session.run_id) or {}
    return order.get("generation") == session.generation


def find_named(client: Platform, owner: str, scenario: str, run_id: str) -> tuple[SessionRef, str] | None:
    """The newest version of a run's kernel, whichever of its names that has, and its source; None when there is none.

    Raises:
        NoVersionShown: there is none, and the platform can show no version of a kernel that has one of the names.
        AuthError, RemoteError.
    """
    empty: NoVersionShown | None = None
    for slug in kernel_names(scenario, run_id):
        try:
            if found := client.newest(owner, slug):
                return found
        except NoVersionShown as error:
            empty = empty or error
    if empty is not None:
        raise empty
    return None


def led_by_another(client: Platform, owner: str, run_id: str) -> tuple[SessionRef, str] | None:
    """The session of highest number in which this run was carried under the name of another one, and its source.

    Raises:
        AuthError, RemoteError.
    """
    found: dict[int, tuple[SessionRef, str]] = {}
    for slug in client.mine(owner):
        with suppress(NoVersionShown):
            newest = client.newest(owner, slug)
            order = order_of(newest[1], run_id) if newest else None
            if newest and order:
                found[int(order.get("generation", 0))] = newest
    return found[max(found)] if found else None


def is_empty(client: Platform, owner: str, slug: str) -> bool:
    """Whether a kernel of this name is there, and the platform can show no version of it.

    Raises:
        AuthError, RemoteError.
    """
    try:
        client.newest(owner, slug)
    except NoVersionShown:
        return True
    return False


def unknown_session(
    run: RunRow, newest: tuple[SessionRef, str] | None, *, reached: int, known: Set[str | None], at: str
) -> SessionRow | None:
    """A session of this run that the journal does not know: its file was lost, or a push was accepted very late.

    Args:
        newest: the kernel's newest version and its source.
        reached: the highest generation that is known; an earlier one has nothing to give.
        known: versions the journal knows.
        at: the time to write down.
    """
    if newest is None or newest[0].id in known:
        return None
    version, source = newest
    try:
        order = read_order(order_of(source, run.run_id))
    except ConfigError:  # another program's, or edited by hand: not a session this program can answer for
        return None
    if order.run_id != run.run_id or order.generation <= reached:
        return None
    return SessionRow(
        run_id=run.run_id,
        generation=order.generation,
        stage=Stage.PUSHED,
        parent_sha256=order.lineage.parent_sha256,
        min_step=order.lineage.min_step,
        bundle_sha256=order.bundle_sha256,
        baseline_version="",
        version=version.id,
        started_at=at,
        facts={"target": order.target, "address": version.address} | ({"lane": order.lane} if order.lane else {}),
    )
