"""The first push of a kernel: refused, it leaves an empty one that takes no later push, and the run takes a new name.

A name is left only where the platform shows an empty kernel, and while no version of it can exist: every push of it was
answered by a refusal; or it was asked in every way there is, for an hour, and showed none. A refusal in whatever
words is followed by a wait, so a pass costs at most one name. Without a name left the run waits until one of its own is
free again. Nothing is deleted: `doctor` lists what is left. Room (see `room`) and quota are looked for before a first
push, so that it is refused as rarely as can be.

What is known is kept in the run's settings: `uncertain` is the name of which a push may have been accepted, `refused`
the one that had no version when its newest push was refused, `left` those that were left, `shown_empty` for how long
none was shown, `quota_refused` what the quota was when it did not allow a first push, and `first_refused`
when and why another reason refused one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from kaggle_manager.config import workdir_of
from kaggle_manager.errors import NoVersionShown, Unavailable
from kaggle_manager.orchestrator.room import NO_ROOM, ROOM_LONGEST_S, ROOM_WAIT_S
from kaggle_manager.orchestrator.run_context import QUOTA_AGAIN_S, RunContext
from kaggle_manager.platforms.platform import SessionRef
from kaggle_manager.runs.retry_policy import passed
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.launch import kernel_names
from kaggle_manager.system.command_line import command

# Causes of waits, and how long they last: doubled each time. A refused first push costs a name, so it is tried again
# far more seldom than what costs nothing.
NO_ROOM_AT_FIRST, NOT_FOUND, NO_NAME = "capacity at first", "notebook not found", "no name free"
FIRST_WAIT_S, FIRST_LONGEST_S = 600.0, 12 * 3600.0
NAME_WAIT_S, NAME_LONGEST_S = 300.0, 1800.0
# A quota that did not allow a first push is tried again at its reset, or once so much more of it is left; ever more
# seldom, up to this, where Kaggle does not tell it.
QUOTA_MORE_S, QUOTA_LONGEST_S = 3600.0, 24 * 3600.0
# A kernel of which a version may exist counts as empty after so long, and so many looks that all showed none.
EMPTY_AFTER_S, EMPTY_LOOKS = 3600.0, 4
# Of the time between two looks no more than this counts: a clock that is set ahead must not stand for a wait.
COUNTED_S = 600.0
NOTHING_KNOWN: dict[str, str | None] = {"uncertain": None, "refused": None, "shown_empty": None}


class NoNameFree(Exception):
    """Every name of the run is that of an empty kernel; the journal says until when to wait."""


def page_of(run: RunContext, slug: str) -> str:
    """Where the user finds the sessions of this name."""
    return run.connection.client.page(run.row.owner, slug) or f"{run.row.owner}/{slug}"


def newest_kernel(run: RunContext) -> tuple[SessionRef, str] | None:
    """The newest version of the run's kernel and its source; None when there is none. An empty kernel is left first.

    Raises:
        NoNameFree: every name of the run is that of an empty kernel; the journal waits.
        AuthError, RemoteError: the platform could not say, or what it says is not certain yet.
    """
    client = run.connection.client
    try:
        newest = client.newest(run.row.owner, run.row.slug)
    except NoVersionShown as error:
        leave_empty(run, error)
        newest = client.newest(run.row.owner, run.row.slug)  # empty as well: looked at again at a later pass
    if newest is not None:
        shows_again(run)
    return newest


def wait_for_quota(run: RunContext, why: str) -> None:
    """The quota did not allow a first push: none is tried before its reset, unless more of it is left."""
    week = run.week
    if week is None or week.refresh_at is None or week.refresh_at <= run.clock():
        run.postpone("quota", why, QUOTA_AGAIN_S, QUOTA_LONGEST_S)
        return
    refused = {"owner": run.row.owner, "until": week.refresh_at, "left_s": week.left_s}
    run.state.change_settings(quota_refused=refused)
    run.wait_until("quota", why, run.replan_at(week.refresh_at))


def has_quota(run: RunContext) -> bool:
    """Whether a first push may be tried after one that the quota did not allow; else the journal waits."""
    refused = run.row.settings.get("quota_refused")
    if not refused or refused["owner"] != run.row.owner or run.config.section.kernel.accelerator is None:
        return True
    has_more = run.week is not None and run.week.left_s >= refused["left_s"] + QUOTA_MORE_S
    if has_more or run.clock() >= refused["until"]:
        return True
    why = "The weekly quota did not allow the first push of this run, and what is left of it is no more since."
    run.wait_until("quota", why, run.replan_at(refused["until"]))
    return False


def may_be_tried(run: RunContext) -> bool:
    """Whether a first push may be tried now, as far as that can be known before; else the journal waits."""
    return has_waited(run) and has_quota(run)


def has_waited(run: RunContext) -> bool:
    """Whether the shortest wait after a refused first push is over; else the journal waits.

    When the user runs it again, a wait is over, but not this part of it: each refusal may cost a name.
    """
    refused = run.row.settings.get("first_refused")
    if not refused:
        return True
    if refused["at"] > run.clock():  # the clock was ahead then, and is right again
        refused = {**refused, "at": run.clock()}
        run.state.change_settings(first_refused=refused)
    left_s = FIRST_WAIT_S - (run.clock() - refused["at"])
    if left_s <= 0:
        return True
    run.wait_until(refused["cause"], refused["why"], run.clock() + left_s)
    return False


def wait_after_refusal(run: RunContext, session: SessionRow, cause: str, why: str) -> None:
    """Wait after the push of `session` was refused in words that may pass by themselves.

    Args:
        cause: `NO_ROOM` or `NOT_FOUND`.
    """
    if session.baseline_version or session.led_by:
        run.postpone(cause, why, ROOM_WAIT_S, ROOM_LONGEST_S)
        return
    cause = NO_ROOM_AT_FIRST if cause == NO_ROOM else cause  # room that was only looked for is another wait, and short
    run.state.change_settings(first_refused={"at": run.clock(), "cause": cause, "why": why})
    run.postpone(cause, why, FIRST_WAIT_S, FIRST_LONGEST_S)


def intend(run: RunContext, session: SessionRow) -> None:
    """Write the intent to push; from here on a version may exist, under the name of the run that leads the session."""
    run.state.add_session(session)
    if session.led_by is None:
        run.state.change_settings(uncertain=run.row.slug, refused=None)


def take_back(run: RunContext, session: SessionRow, *, was_uncertain: bool) -> None:
    """The push of `session` was surely refused: its number is free, and its kernel has what it had before."""
    run.state.drop_intent(session)
    if not was_uncertain and session.led_by is None:
        run.state.change_settings(uncertain=None, refused=None if session.baseline_version else run.row.slug)


def is_uncertain(run: RunContext) -> bool:
    """Whether a push of the run's kernel may have been accepted, and nobody knows."""
    return bool(run.row.settings.get("uncertain") == run.row.slug)


def leave_empty(run: RunContext, shown: NoVersionShown, session: SessionRow | None = None) -> None:
    """Take the run's next name, once no version of this one can exist.

    Args:
        shown: how the platform showed none.
        session: the intent whose push was not answered, and before which there was no version; it is taken back.

    Raises:
        NoNameFree: there is no next name; the journal waits.
        AuthError, RemoteError: it is not certain, or not yet.
    """
    row, client = run.row, run.connection.client
    had_none = session is not None or row.settings.get("refused") == row.slug
    if not had_none and run.state.journal.versions(row.run_id, row.address):
        raise shown
    if not client.shows_nothing_of(row.owner, row.slug):
        shows_again(run)
        raise shown
    if is_uncertain(run):
        lasted_s, looks = _look_again(run)
        if lasted_s < EMPTY_AFTER_S or looks < EMPTY_LOOKS:
            raise Unavailable(
                f"Whether a push of {row.address} was accepted is not known, and the platform shows a name without a "
                f"version there. It counts as empty when it has looked so for an hour ({lasted_s / 60:.0f} minutes so "
                "far).",
                safe="nothing is pushed before that is known",
                next_step=f"nothing: the same command continues; or delete {page_of(run, row.slug)} if it has no "
                "version, and run the same command again",
            )
    take_next(run, session)


def take_next(run: RunContext, session: SessionRow | None = None) -> None:
    """Let the run go on under its next name; the kernel it leaves is not touched.

    Raises:
        NoNameFree: there is none; the journal waits.
        AuthError, RemoteError: the platform could not say which of those it has left are free again.
    """
    row = run.row
    names = _others(row.slug, kernel_names(row.scenario, row.run_id))
    following = next((slug for slug in names if slug not in row.left_names), None) or _free_again(run, names)
    with run.state.together():
        if session is not None:
            run.state.drop_intent(session)
        if following is None:
            run.state.change_settings(**NOTHING_KNOWN | {"refused": row.slug})
            clean = command("clean", "--yes", workdir=workdir_of(run.config.state))
            pages = ", ".join(page_of(run, slug) for slug in (*names, row.slug))
            run.postpone(
                NO_NAME,
                f"The platform refused the first push of every name of run {row.run_id}, and keeps a kernel without a "
                f"version under each; nothing was started. Type `{clean}`, which deletes those it "
                f"has left, or delete one of {pages}: then this run continues.",
                NAME_WAIT_S,
                NAME_LONGEST_S,
            )
        else:
            left = dict.fromkeys((*row.left_names, row.slug))  # one that was free, and was refused again, is there once
            run.state.change_settings(left=[slug for slug in left if slug != following], **NOTHING_KNOWN)
            run.note("name_left", slug=row.slug, taken=following)
            run.state.change(slug=following)
    if following is None:
        raise NoNameFree
    run.reporter.warn(
        f"The platform keeps {row.address} without a version, as it does of a first push that it refused: this run "
        f"continues as {run.row.address}; `doctor` lists what is left"
    )


def after(slug: str, names: Sequence[str]) -> str | None:
    """The name that follows `slug`; None for the last one, and for one of another making."""
    return dict(itertools.pairwise(names)).get(slug)


def _others(slug: str, names: Sequence[str]) -> tuple[str, ...]:
    """The other names, beginning with the one that follows `slug`; none for a name of another making."""
    if slug not in names:
        return ()
    at = names.index(slug)
    return (*names[at + 1 :], *names[:at])


def _free_again(run: RunContext, names: Sequence[str]) -> str | None:
    """The first of these names under which the platform has no kernel any more; None when each has one."""
    for slug in names:
        try:
            if run.connection.client.newest(run.row.owner, slug) is None:
                return slug
        except NoVersionShown:
            continue
    return None


def shows_again(run: RunContext) -> None:
    """The platform shows what it has of the kernel: earlier looks count no more."""
    if run.row.settings.get("shown_empty"):
        run.state.change_settings(shown_empty=None)


def _look_again(run: RunContext) -> tuple[float, int]:
    """For how long, and at how many looks in a row, a kernel was shown without a version."""
    known, now = run.row.settings.get("shown_empty") or {}, run.clock()
    lasted_s = known["lasted_s"] + min(COUNTED_S, passed(known["looked_at"], now)) if known else 0.0
    looks = known["looks"] + 1 if known else 1
    run.state.change_settings(shown_empty={"looked_at": now, "lasted_s": lasted_s, "looks": looks})
    return lasted_s, looks
