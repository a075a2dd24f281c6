"""The end of a session: what it left is judged, put in words and written down; or it is given up."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from kaggle_manager.errors import Unavailable
from kaggle_manager.orchestrator import stop_early
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.platforms.platform import EndCause
from kaggle_manager.protocol.file_names import TREE_FOLDER
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.retry_policy import LASTING_S, FailureKind
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.download import DownloadedSession
from kaggle_manager.sessions.lane import outputs_of
from kaggle_manager.sessions.metrics import measurements, progress_of, time_it_had
from kaggle_manager.sessions.missing import advice
from kaggle_manager.sessions.other_files import download_others
from kaggle_manager.sessions.outcome import Outcome, judge, normalised_failure
from kaggle_manager.sessions.started import versions_of
from kaggle_manager.sessions.wheels import damaged_in

# A session denied for so long is given up even though its kernel is there.
DENIED_TO_GIVE_UP_S = LASTING_S


def close_session(run: RunContext, session: SessionRow, downloaded: DownloadedSession, *, restored: bool) -> Outcome:
    """Say how a session ended, from what it left, and make room for the next one."""
    head, final, result = run.head(), run.store.final(), downloaded.result
    target = min(run.config.target, session.facts.get("target", run.config.target))  # one raised since was not its own
    early = result.early if result and result.outcome == "completed" else ""
    missing = result.error.missing if result and result.error else None
    outcome = judge(
        result=result,
        time_it_had=time_it_had(session, result),
        remedy=advice(missing, run.config) if missing else "",
        platform_says=session.why,
        end_cause=EndCause(session.facts.get("end_cause", "")),
        log=downloaded.log,
        step_before=session.min_step,
        step_after=head.step if head else 0,
        target_reached=final is not None and (final.step >= target or bool(early)),
        wedged=progress_of(session).wedged,
        never_ran=progress_of(session).ran_s == 0 and not downloaded.log,
        asked_to_stop=bool(session.facts.get("cancel_asked")),  # also where the user has run it again since
    )
    facts = measurements(
        session, result, step_before=session.min_step, step_after=outcome.step, failed=bool(outcome.failure)
    )
    if versions := versions_of(downloaded.folder, session):
        facts["versions"] = versions
    elif result and result.python:
        facts["versions"] = {"python": result.python}
    if damaged := damaged_in(downloaded.log):
        facts["wheels_damaged"] = damaged
    if result and result.error:
        # What the user can accept: the session alone sees the files of its inputs.
        facts |= {"can_be_accepted": True} if result.error.can_be_accepted else {}
        facts |= {"input_files": dict(result.error.input_files)} if result.error.input_files else {}
    if early:
        facts |= stop_early.fact(run.config, session.facts.get("target", run.config.target), early)
    facts["counts"] = {**(result.counts if result else {}), "restores": int(restored)}
    with run.state.together():
        run.state.add_facts(session, **facts)
        run.note("closed", session.generation, outcome=outcome.kind, why=outcome.why, **facts)
        run.state.update_session(
            session,
            stage=Stage.CLOSED,
            outcome=outcome.kind,
            why=outcome.why,
            fingerprint=outcome.failure,
            kind=outcome.failure_kind,
            step=outcome.step,
        )
    (run.reporter.warn if outcome.failure else run.reporter.line)(f"session {session.generation} {outcome.why}")
    if restored:
        _forget_older(run)
    return outcome


def note_other_files(run: RunContext, session: SessionRow, downloaded: DownloadedSession) -> None:
    """Download and tell what the user's code left besides, now that nothing depends on it any more."""
    left = outputs_of(run.connection.client, session)
    caution = download_others(left, run.version_of(session), downloaded.folder, downloaded.result)
    if caution:
        run.reporter.warn(f"session {session.generation} left {caution}")
        with run.state.together():
            run.state.add_facts(session, caution=caution)
            run.note("caution", session.generation, caution=caution)


def check_is_gone(run: RunContext, session: SessionRow) -> None:
    """Hold a lasting denial of `session` against its kernel: one that is deleted is gone, with all its versions.

    Raises:
        Unavailable: the kernel is there, this version or a later one, and the denial is not a day old.
    """
    client = run.connection.client
    version = run.version_of(session)
    newest = client.newest(version.owner, version.slug)
    is_recent = progress_of(run.newest_session()).denied_s < DENIED_TO_GIVE_UP_S
    if is_recent and newest is not None and not client.is_later(version.id, newest[0].id):
        raise Unavailable(
            f"The platform shows {newest[0].ref} and denies its session {session.version}: one of the two is wrong.",
            safe="what the session saved is there; the local training tree is untouched",
            next_step="run the same command again later; after a day of this the session is given up",
        )


def give_up(
    run: RunContext, session: SessionRow, outcome: str, why: str, kind: FailureKind, *, cause: str = ""
) -> None:
    """Close a session that left nothing to judge."""
    run.reporter.warn(f"session {session.generation} is {outcome}: {why}")
    with run.state.together():
        run.state.update_session(
            session,
            stage=Stage.CLOSED,
            outcome=outcome,
            why=why,
            fingerprint=normalised_failure(cause or outcome),
            kind=kind,
            ended_at=session.ended_at or run.now(),
        )
        run.note("closed", session.generation, outcome=outcome, why=why)


def _forget_older(run: RunContext) -> None:
    """Free the room of copies beyond the two newest; logs and results stay."""
    downloaded = _by_number(run.folder_of(run.newest_session()).parent.glob(f"generation_*/{TREE_FOLDER}"), -2)
    replaced = _by_number(run.replaced_by(run.newest_session()).parent.glob("before_generation_*"), -1)
    for older in downloaded[:-2] + replaced[:-2]:
        shutil.rmtree(older, ignore_errors=True)


def _by_number(folders: Iterable[Path], part: int) -> list[Path]:
    """Folders by the session number at the end of this part of their path; what has none is left alone."""
    numbered = [(folder.parts[part].rpartition("_")[2], folder) for folder in folders if folder.is_dir()]
    return [folder for number, folder in sorted((int(n), f) for n, f in numbered if n.isdecimal())]
