"""Passes over a run: carries out what `lifecycle.decide` decides, and writes every intent down first.

A pass is everything that can be done now; a run is passes until its target, with waits between them. The local training
tree only ever changes by a verified, complete restore (and by the final model that `restore.ensure_final` makes of its
newest checkpoint), and no session number is pushed twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kaggle_manager.config import RunConfig
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import (
    NotFound,
    QuotaError,
    RemoteError,
    VerificationError,
)
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator import close, notifications, stop_early
from kaggle_manager.orchestrator.forecast import note_forecast
from kaggle_manager.orchestrator.image import note_image
from kaggle_manager.orchestrator.push import push_generation, reconcile
from kaggle_manager.orchestrator.quick_run import check_quick_run
from kaggle_manager.orchestrator.restore import (
    check_compatible,
    check_finished,
    ensure_final,
    restore_downloaded,
    vouch_for,
)
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.orchestrator.start import SharedSession
from kaggle_manager.orchestrator.stop import end_if_stopped
from kaggle_manager.orchestrator.tree_lines import describe_tree
from kaggle_manager.orchestrator.trouble import raise_trouble
from kaggle_manager.platforms.platform import SessionRef, SessionStatus
from kaggle_manager.protocol.events import session_tag
from kaggle_manager.runs import lifecycle
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.retry_policy import FailureKind
from kaggle_manager.runs.rows import GIVEN_UP, GONE, SessionRow
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.sessions.download import DownloadedSession, download_session
from kaggle_manager.sessions.lane import outputs_of
from kaggle_manager.sessions.metrics import progress_of
from kaggle_manager.sessions.progress import SessionProgress
from kaggle_manager.sessions.received import forget_list, keep_list, received
from kaggle_manager.sessions.stored_log import LOG_FILE
from kaggle_manager.status.report import RunReport
from kaggle_manager.status.run_status import describe_run
from kaggle_manager.system.formatting import for_people
from kaggle_manager.trees.recover import best_is_lost

# The platform's trouble is waited out: so long at first, twice as long each time, and given up after a day of it.
TROUBLE_WAIT_S, TROUBLE_LONGEST_S = 30.0, 900.0
# What was refused is downloaded again: after this long at first, twice as long each time, and so often in all. After so
# many refusals, what is listed of a session without a result is taken, even if its log names more than that.
REFUSED_WAIT_S, REFUSED_LONGEST_S, REFUSALS_TO_SETTLE, REFUSALS_TO_GIVE_UP = 60.0, 900.0, 3, 5
# A session is watched for so long at a time; when no status can be read at the end of it, the connection is made anew.
WATCH_S = 600.0
# Waits are slept in pieces, so that a laptop that slept through one notices.
NAP_S = 60.0


@dataclass
class Passes:
    """The loop of a manager; see `ValidationKaggleManager` for its fields."""

    connect_to: Callable[[RunConfig], Connection]
    notifier: Notifier
    check_before_push: Callable[[RunConfig, Reporter, Mapping[str, Any] | None], None]
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    watch_session: Callable[..., SessionStatus]
    _watched: set[SessionRef] = field(default_factory=set, init=False)

    def until_done(self, run: RunContext) -> RunReport:
        """Pass after pass until the target is reached; the platform's trouble is waited out for a day."""
        while True:
            try:
                end = self._pass(run, watch_to_the_end=True)
            except RemoteError as error:
                run.state.note_error(error, run.now(), self.clock())
                if run.row.trouble is not None and run.row.trouble.is_lasting:
                    raise
                run.postpone("trouble", error.message, TROUBLE_WAIT_S, TROUBLE_LONGEST_S)
                self._sleep_until(run, run.waits_until, error.message)
                self._reconnect(run)
                continue
            if not isinstance(end, lifecycle.WaitUntil):
                return self._after_pass(run, end)
            self._sleep_until(run, end.time, end.why)

    def once(self, run: RunContext, *, may_push: bool, shared: SharedSession | None = None) -> RunReport:
        """One pass: everything that can be done now; `shared` is the session that it may share with other runs."""
        run.beside = shared.lead if shared else None
        return self._after_pass(run, self._pass(run, watch_to_the_end=False, may_push=may_push, shared=shared))

    def _reconnect(self, run: RunContext) -> None:
        """The trouble may be the connection's own: the server of this machine may have to be started again."""
        try:
            run.connection = self.connect_to(run.config)
        except RemoteError as error:  # as before, so the next try of whatever is next will tell
            run.reporter.warn(f"no new connection: {error.message}")

    def _sleep_until(self, run: RunContext, moment: float, why: str) -> None:
        run.reporter.line(f"waiting until {for_people(moment)}: {why} (Ctrl-C is safe)")
        left = moment - self.clock()  # counted down as well: a clock that is set back makes no wait longer
        while (nap := min(NAP_S, left, moment - self.clock())) > 0:
            run.reporter.phase(f"waiting until {for_people(moment)}: {why}")
            self.sleep(nap)
            left -= nap

    def _pass(
        self,
        run: RunContext,
        *,
        watch_to_the_end: bool,
        may_push: bool = True,
        shared: SharedSession | None = None,
    ) -> lifecycle.Action:
        """Do one action after the other until one is a wait or an end; return that one."""
        while True:
            action = lifecycle.decide(run.observe())
            match action:
                case lifecycle.Push(generation=generation) if may_push:
                    self._push(run, generation, shared)
                    may_push = watch_to_the_end  # else the caller says how far the next session goes
                case lifecycle.Reconcile():
                    reconcile(run, self.sleep)
                case lifecycle.Watch():
                    over = self._watch(run, to_the_end=watch_to_the_end)
                    if not over and not watch_to_the_end:
                        return action
                case lifecycle.Download():
                    session = run.newest_session()
                    with self._refusing(run, session):
                        self._bring_home(run, session)
                case _:
                    return action
            _overcome(run)  # a later trouble is another one

    def _after_pass(self, run: RunContext, end: lifecycle.Action) -> RunReport:
        match end:
            case lifecycle.Finish():
                return self._finish(run)
            case lifecycle.Stop():
                raise_trouble(run, end)
            case lifecycle.Push():
                pass  # it was left out, and may meet the same trouble again
            case _:
                _overcome(run)
        if isinstance(end, lifecycle.WaitUntil) and run.waits_for_quota():
            raise QuotaError(
                end.why,
                safe="everything that was saved; nothing is running",
                next_step=f"nothing: a tick after {for_people(end.time)} continues",
            )
        return describe_run(run.state, self.clock())

    # --- one session --------------------------------------------------------------------------------------------------

    def _push(self, run: RunContext, generation: int, shared: SharedSession | None) -> None:
        parent = run.head()
        accepted = "" if parent is None else check_compatible(run, parent)
        self.check_before_push(run.config, run.reporter, parent.manifest.identity if parent and accepted else None)
        note_forecast(run, generation, run.config.target - (parent.step if parent else 0))
        notifications.forecast_slipped(self.notifier, run)
        push_generation(run, generation, parent, accepted, shared)

    def _watch(self, run: RunContext, *, to_the_end: bool) -> bool:
        """Look at the newest session, or watch it for a while; True when it is over."""
        session = run.newest_session()
        version = run.version_of(session)
        if to_the_end and version not in self._watched:
            self._watched.add(version)
            run.reporter.step(3, f"watch {version.ref} (Ctrl-C leaves the session running)")
        try:
            status = self.watch_session(
                run.connection.client,
                version,
                run.reporter,
                tag=session_tag(session.run_id, session.generation),
                bundle_sha256=session.bundle_sha256,
                until=time.monotonic() + self._watch_s(run) if to_the_end else 0.0,
                earlier=progress_of(session),
                on_seen=lambda seen: self._note_seen(run, session, seen),
                session_s=(session.facts.get("planned") or {}).get("timeout_s"),
                lane=session.lane,
                log_copy=run.folder_of(session) / LOG_FILE,
                wall=self.clock,
            )
        except NotFound as error:
            close.check_is_gone(run, session)
            close.give_up(run, session, GONE, error.message, FailureKind.GONE)
            return True
        if not status.state.is_terminal and not status.ended_by_log:
            run.state.refresh()
            end_if_stopped(run)
            return False
        ended = f"{status.state.name} {status.failure_message}".strip()
        with run.state.together():
            run.state.add_facts(session, ended_by_log=status.ended_by_log, end_cause=status.cause)
            run.state.update_session(session, stage=Stage.ENDED, ended_at=run.now(), why=ended)
            run.note("ended", session.generation, status=ended)
        run.reporter.line(f"  the platform says {ended}")
        return True

    @staticmethod
    def _watch_s(run: RunContext) -> float:
        """How long to watch: briefly while a stop was asked for and the session has not told by what to end it."""
        is_to_end = run.row.stop_asked and not run.newest_session().facts.get("cancel_asked")
        return NAP_S if is_to_end else WATCH_S

    def _note_seen(self, run: RunContext, session: SessionRow, seen: SessionProgress) -> None:
        run.state.add_facts(session, seen=seen.as_facts())

    def download_results(self, run: RunContext, session: SessionRow) -> DownloadedSession:
        """Download and verify the outputs of a session into its own folder; the training tree is not touched.

        Args:
            run: the run, opened.
            session: one of its sessions.

        Raises:
            LineageMismatch: the outputs are of another run or session, or of an earlier step.
            OutputDamaged: a file is truncated, altered or missing.
            RemoteError: the platform did not answer.
        """
        run.reporter.step(4, f"download, verify and restore what session {session.generation} left")
        downloaded = download_session(
            outputs_of(run.connection.client, session),
            run.version_of(session),
            run.folder_of(session),
            session,
            run.reporter,
            self.sleep,
            local_tree=run.config.tree,
            ended_by_log=bool(session.facts.get("ended_by_log")),
            settle_for_less=session.refusals >= REFUSALS_TO_SETTLE,
        )
        vouch_for(run.config, session, downloaded)
        if not run.state.journal.has_event(session.run_id, "downloaded", session.generation):
            run.note("downloaded", session.generation, folder=str(downloaded.folder))
        keep_list(downloaded.folder)
        return downloaded

    @contextmanager
    def _refusing(self, run: RunContext, session: SessionRow) -> Iterator[None]:
        """What a session left is accepted, or refused and downloaded again after a wait, which needs nobody.

        Refused again and again, the session is given up: the run continues from the tree here, as after a crash.
        """
        try:
            yield
        except (VerificationError, NotFound) as error:
            forget_list(run.folder_of(session))
            is_last = session.refusals + 1 >= REFUSALS_TO_GIVE_UP
            with run.state.together():
                session = run.state.add_facts(session, refusals=session.refusals + 1)
                run.note("refused", session.generation, message=error.message)
                if is_last:
                    why = f"given up, for what it left was refused again: {error.message}"
                    close.give_up(run, session, GIVEN_UP, why, FailureKind.OUTPUTS, cause=error.message)
                    return
                run.postpone("outputs", error.message, REFUSED_WAIT_S, REFUSED_LONGEST_S)
            run.reporter.warn(
                f"what session {session.generation} left was refused, and is downloaded again: the training tree "
                f"{run.config.tree} is untouched; refused {REFUSALS_TO_GIVE_UP} times, this session is given up"
            )

    def _bring_home(self, run: RunContext, session: SessionRow) -> None:
        """Restore what the session left, downloaded now unless it is here, and say how it ended."""
        downloaded = received(run.folder_of(session), session) or self.download_results(run, session)
        restored = restore_downloaded(run, session, downloaded)
        outcome = close.close_session(run, session, downloaded, restored=restored is not None)
        notifications.session_ended(self.notifier, run, session.generation, outcome)
        close.note_other_files(run, session, downloaded)
        note_image(run, run.newest_session())
        run.state.refresh()  # a stop may have been asked for since
        is_over = run.row.stop_asked or stop_early.why(run.state, run.config)
        if outcome.step < run.config.target and not outcome.failure and not is_over:
            left = run.config.target - outcome.step
            run.reporter.line(f"relaunch: {left:,} of {run.config.target:,} {run.row.unit} left")

    # --- the end ------------------------------------------------------------------------------------------------------

    def _finish(self, run: RunContext) -> RunReport:
        head = run.head()
        if head is not None:
            check_finished(run, head)
            ensure_final(run, head)
        if run.store.best_on_disk() is None and run.row.counts.get("evaluations"):
            raise best_is_lost(run.config)
        why = notifications.why_finished(run.state)
        with run.state.together():
            run.state.change(finished_at=run.now(), outcome="finished")
            if newest := run.state.newest:
                run.state.add_facts(newest, finished=True)  # of what it was sent to train; see `check_finished`
            run.note("finished", why=why)
        if run.config.quick and run.sessions:
            check_quick_run(run, run.row.counts)
        for line in describe_tree(run):
            run.reporter.checkpoint(line)
        notifications.run_finished(self.notifier, run.config, run.state)
        run.reporter.line(f"finished: {why}", "bold green")
        return describe_run(run.state, self.clock())


def _overcome(run: RunContext) -> None:
    """What was in the way has passed, though nothing may have moved."""
    if run.row.trouble is not None and not run.row.trouble.is_stop:
        run.note("recovered")
