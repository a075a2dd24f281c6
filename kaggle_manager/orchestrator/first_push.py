"""The first push of a kernel: refused, it leaves an empty one that takes no later push, and the run takes a new name.

A name is left only while no version of it can exist: every push of it was answered by a refusal; or Kaggle was asked in
every way there is, for an hour, and showed none. Nothing is deleted: `doctor` lists what is left. Room is looked for
before a first push, so that it is refused as rarely as can be.

What is known is kept in the run's settings: `uncertain` is the name of which a push may have been accepted, `refused`
the one that had no version when its newest push was refused, `left` those that were left, and `shown_empty` for how
long Kaggle has shown no version.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from kaggle_manager.errors import ConfigError, NoVersionShown, RemoteError, Unavailable
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.platforms.kaggle.models import ROOM, KernelVersion, runs_on
from kaggle_manager.runs.retry_policy import passed
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.launch import kernel_names
from kaggle_manager.sessions.reconcile import page_of

# Cause of a wait for room, and how long it lasts: doubled each time. A refused first push costs a name, so it is tried
# again far more seldom than what costs nothing.
NO_ROOM = "capacity"
ROOM_WAIT_S, ROOM_LONGEST_S = 30.0, 300.0
FIRST_WAIT_S, FIRST_LONGEST_S = 600.0, 3 * 3600.0
QUOTA_LONGEST_S = 6 * 3600.0
# A kernel of which a version may exist counts as empty after so long, and so many looks that all showed none.
EMPTY_AFTER_S, EMPTY_LOOKS = 3600.0, 4
NOTHING_KNOWN = {"uncertain": None, "refused": None, "shown_empty": None}


def newest_kernel(run: RunContext) -> tuple[KernelVersion, str] | None:
    """The newest version of the run's kernel and its source; None when there is none. An empty kernel is left first.

    Raises:
        ConfigError: every name of the run is that of an empty kernel.
        AuthError, RemoteError: Kaggle could not say, or what it says is not certain yet.
    """
    while True:
        try:
            newest = run.connection.client.newest_kernel(run.row.owner, run.row.slug)
        except NoVersionShown as error:
            leave_empty(run, error)
            continue
        if newest is not None:
            shows_again(run)
        return newest


def has_room(run: RunContext) -> bool:
    """Whether the account has room for a first push, as far as its sessions can be seen; else the journal waits."""
    kind = runs_on(run.config.section.kernel.accelerator)
    try:
        live = run.connection.client.live_sessions(run.row.owner)[kind]
    except RemoteError as error:
        run.reporter.warn(
            f"the account's sessions could not be counted, and room is taken to be there: {error.message}"
        )
        return True
    if live < ROOM[kind]:
        return True
    why = f"{live} {kind} sessions of this account are live, and Kaggle runs {ROOM[kind]} at once."
    run.postpone(NO_ROOM, why, ROOM_WAIT_S, ROOM_LONGEST_S)
    return False


def waits_after_refusal(session: SessionRow) -> tuple[float, float]:
    """How long to wait after a refusal for want of room, at first and at most."""
    return (ROOM_WAIT_S, ROOM_LONGEST_S) if session.baseline_version else (FIRST_WAIT_S, FIRST_LONGEST_S)


def intend(run: RunContext, session: SessionRow) -> None:
    """Write the intent to push; from here on a version may exist."""
    run.state.add_session(session)
    run.state.change_settings(uncertain=run.row.slug, refused=None)


def take_back(run: RunContext, session: SessionRow, *, was_uncertain: bool) -> None:
    """The push of `session` was surely refused: its number is free, and its kernel has what it had before."""
    run.state.drop_intent(session)
    if not was_uncertain:
        run.state.change_settings(uncertain=None, refused=None if session.baseline_version else run.row.slug)


def is_uncertain(run: RunContext) -> bool:
    """Whether a push of the run's kernel may have been accepted, and nobody knows."""
    return bool(run.row.settings.get("uncertain") == run.row.slug)


def leave_empty(run: RunContext, shown: NoVersionShown, session: SessionRow | None = None) -> None:
    """Take the run's next name, once no version of this one can exist.

    Args:
        shown: how Kaggle showed none.
        session: the intent whose push was not answered, and before which there was no version; it is taken back.

    Raises:
        ConfigError: there is no next name.
        AuthError, RemoteError: it is not certain, or not yet.
    """
    row, client = run.row, run.connection.client
    had_none = session is not None or row.settings.get("refused") == row.slug
    if not had_none and run.state.journal.versions(row.run_id, row.address):
        raise shown
    if is_uncertain(run):
        if not client.shows_nothing_of(row.owner, row.slug):
            shows_again(run)
            raise shown
        lasted_s, looks = _look_again(run)
        if lasted_s < EMPTY_AFTER_S or looks < EMPTY_LOOKS:
            raise Unavailable(
                f"Whether a push of {row.address} was accepted is not known, and Kaggle shows a kernel without a "
                f"version there. It counts as empty when it has looked so for an hour ({lasted_s / 60:.0f} minutes so "
                "far).",
                safe="nothing is pushed before that is known",
                next_step=f"nothing: the same command goes on; or delete {page_of(row.address)} if it has no version, "
                "and run the same command again",
            )
    take_next(run, session)


def take_next(run: RunContext, session: SessionRow | None = None) -> None:
    """Let the run go on under its next name; the kernel it leaves is not touched.

    Raises:
        ConfigError: there is none.
    """
    row = run.row
    following = after(row.slug, kernel_names(row.scenario, row.run_id))
    if following is None:
        left = " and ".join(page_of(f"{row.owner}/{slug}") for slug in (*row.left_names, row.slug))
        raise ConfigError(
            f"Kaggle refused the first push of every name of run {row.run_id}, and keeps a kernel without a version "
            "under each.",
            safe="nothing was started; the training tree is untouched",
            next_step=f"delete {left}, and run the same command again",
        )
    with run.state.together():
        if session is not None:
            run.state.drop_intent(session)
        run.state.change_settings(left=[*row.left_names, row.slug], **NOTHING_KNOWN)
        run.note("name_left", slug=row.slug, taken=following)
        run.state.change(slug=following)
    run.reporter.warn(
        f"Kaggle keeps {row.address} without a version, as it does of a first push that it refused: this run goes "
        f"on as {run.row.address}; `doctor` lists what is left"
    )


def after(slug: str, names: Sequence[str]) -> str | None:
    """The name that follows `slug`; None for the last one, and for one of another making."""
    return dict(itertools.pairwise(names)).get(slug)


def shows_again(run: RunContext) -> None:
    """Kaggle shows what it has of the kernel: earlier looks count no more."""
    if run.row.settings.get("shown_empty"):
        run.state.change_settings(shown_empty=None)


def _look_again(run: RunContext) -> tuple[float, int]:
    """For how long, and at how many looks in a row, Kaggle has shown a kernel without a version."""
    known, now = run.row.settings.get("shown_empty") or {}, run.clock()
    lasted_s = known["lasted_s"] + passed(known["looked_at"], now) if known else 0.0
    looks = known["looks"] + 1 if known else 1
    run.state.change_settings(shown_empty={"looked_at": now, "lasted_s": lasted_s, "looks": looks})
    return lasted_s, looks
