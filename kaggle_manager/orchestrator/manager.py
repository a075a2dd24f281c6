"""`ValidationKaggleManager`: carries out what `lifecycle.decide` decides, and writes every intent down first.

It promises that a run reaches its target whatever a single session does, that no generation is pushed twice, and that
the local training tree only ever changes by a verified, complete restore. It never starts from zero unless asked
(`fresh`) or unless there is nothing to continue, and keeps every tree it replaces as a copy (see `trees.backups`).

`tick` is one pass: everything that can be done now. A run is passes until its target, with waits between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import RestoreReport
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.console.formatting import for_people, iso
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import (
    NotFound,
    QuotaError,
    RemoteError,
    VerificationError,
    error_context,
)
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator import close, notifications
from kaggle_manager.orchestrator.attach import Attached, attach_run
from kaggle_manager.orchestrator.close import check_quick_run, describe_tree
from kaggle_manager.orchestrator.command import attended, command, without_fresh
from kaggle_manager.orchestrator.push import push_generation, reconcile
from kaggle_manager.orchestrator.restore import check_compatible, restore_fetched
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.platforms.kaggle.models import KernelStatus, KernelVersion
from kaggle_manager.runs import lifecycle
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.retry_policy import FailureKind
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.sessions.connection import Connection, connect
from kaggle_manager.sessions.download import LOG_FILE, DownloadedSession, download_session, load_downloaded
from kaggle_manager.sessions.metrics import progress_of
from kaggle_manager.sessions.preflight import run_preflight
from kaggle_manager.sessions.progress import SessionProgress
from kaggle_manager.sessions.watch import watch
from kaggle_manager.status.report import RunReport
from kaggle_manager.status.run_status import describe_run
from kaggle_manager.trees.current_run import current_run
from kaggle_manager.trees.recover import best_is_lost, put_back

# The platform's trouble is waited out: so long at first, twice as long each time, and given up after a day of it.
TROUBLE_WAIT_S, TROUBLE_LONGEST_S, TROUBLE_PATIENCE_S = 30.0, 900.0, 24 * 3600.0
# What was refused is downloaded again: after this long at first, twice as long each time, and so often in all. After so
# many refusals, what is listed of a session without a last word is taken, even if its log names more than that.
REFUSED_WAIT_S, REFUSED_LONGEST_S, REFUSALS_TO_SETTLE, REFUSALS_TO_GIVE_UP = 60.0, 900.0, 3, 5
# A session is watched for so long at a time; when no status can be read at the end of it, the connection is made anew.
WATCH_S = 600.0
# Waits are slept in pieces, so that a laptop that slept through one notices.
NAP_S = 60.0


class ValidationKaggleManager:
    """Trains sections to their targets on Kaggle, or on the local Kaggle, over as many sessions as needed.

    Args:
        platform: `auto` (Kaggle when there are credentials, else the local one), `local` or `kaggle`.
        workdir: everything a run writes goes below it; None: the project itself.
        project_root: folder of the project; None: the nearest one upwards that has the section.
        reporter: where progress is printed; None: the terminal.
        connect_to: returns the connection to the platform of a configuration.
        notifier: where messages are sent; None: as the user's settings say.
        check_before_push: raises when a session would be wasted; called before the first push of a run.
        sleep, clock: wait a number of seconds; return seconds since the epoch.
        watch_session: looks at a session once, or watches it until it ends.
    """

    def __init__(
        self,
        *,
        platform: str | None = None,
        workdir: Path | None = None,
        project_root: Path | None = None,
        reporter: Reporter | None = None,
        connect_to: Callable[[RunConfig], Connection] = connect,
        notifier: Notifier | None = None,
        check_before_push: Callable[[RunConfig, Reporter], None] = run_preflight,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
        watch_session: Callable[..., KernelStatus] = watch,
    ) -> None:
        self._platform, self._workdir, self._project_root = platform, workdir, project_root
        self._reporter = reporter or Reporter()
        self._connect_to, self._sleep, self._clock = connect_to, sleep, clock
        self._watch_session = watch_session
        self._notifier = notifier or Notifier.from_environment(warn=self._reporter.warn)
        self._check_before_push = check_before_push
        self._watched: set[KernelVersion] = set()

    def run_validation_section(
        self,
        section: str | RunConfig,
        *,
        scenario: str | None = None,
        timesteps: int | None = None,
        quick: bool = False,
        session_limit: str | float | None = None,
        seed: int | None = None,
        max_steps: int | None = None,
        fresh: bool = False,
    ) -> RunReport:
        """Train `section` to its target, over as many sessions as needed; return when the target is reached.

        The same call resumes the run after Ctrl-C, a crash or a reboot. It also resumes a run that was stopped, by its
        failures or by the user.

        Args:
            section: name of the section, e.g. `section_7_6_rl_performance`; or its resolved configuration, and then the
                other arguments do not count.
            scenario: one of the section's scenarios; None: its default.
            timesteps: the target, environment steps in all; None: that of the unfinished run, else the scenario's.
            quick: train a few timesteps over two sessions instead, in a directory of its own.
            session_limit: longest session: seconds, or text such as `90m` or `11h30m`; None: 12 h.
            seed: of the training; None: the scenario's. Each seed has its own training tree.
            max_steps: most environment steps of one session; None: as many as fit in its time.
            fresh: archive the training tree that is there and start a new run from zero.

        Returns:
            The finished run. Capacity, quota and an outage of the platform are waited for.

        Raises:
            ConfigError: an option, the section or the environment cannot be used.
            KernelFailed: the sessions failed again and again in the same way; the message says how.
            NotFinished: the run was asked to stop meanwhile.
            AuthError: there are no usable credentials, or Kaggle refused them.
            RemoteError: the platform has not answered for a day.
            VerificationError: what is on the disk, or what a quick run left, is not as it has to be.
            CheckpointIncompatible: the training tree belongs to another experiment than the section declares.
            Busy: another command is working on the same run.
            StorageError: this machine's disk refused.
        """
        config = self._config(
            section,
            scenario=scenario,
            timesteps=timesteps,
            quick=quick,
            session_limit=session_limit,
            seed=seed,
            max_steps=max_steps,
            fresh=fresh,
        )
        with self._command(config), closing(Journal(config.journal)) as journal:
            config = _with_target_of(journal.unfinished_run(config.tree), config)
            with self._opened(config, journal) as run:
                run.go_on()
                run.reporter.line(
                    f"run {run.row.run_id}: {config.scenario_name} to {config.target} timesteps, tree {config.tree}"
                )
                return self._to_the_end(run)

    def tick(
        self,
        section: str | RunConfig,
        *,
        scenario: str | None = None,
        timesteps: int | None = None,
        quick: bool = False,
        session_limit: str | float | None = None,
        seed: int | None = None,
        may_push: bool = True,
    ) -> RunReport:
        """One idempotent pass: do what can be done now, wait for nothing, and return the state of the run.

        Target and session limit are those the run was started with, unless given. A run that was stopped, by the user
        or by its failures, stays stopped until `run_validation_section` is called.

        Args:
            section, scenario, timesteps, quick, session_limit, seed: as for `run_validation_section`.
            may_push: False: start no session.

        Raises:
            QuotaError: nothing can be done before the weekly quota is renewed.
            KaggleManagerError: as `run_validation_section`, but an outage of the platform is raised at once.
        """
        config = self._config(
            section, scenario=scenario, timesteps=timesteps, quick=quick, session_limit=session_limit, seed=seed
        )
        with self._command(config), closing(Journal(config.journal)) as journal:
            known = current_run(config, journal)
            if known is not None:
                config = config.with_stored(known.target, known.settings.get("session_limit_s"))
                if known.outcome == "finished" and known.target >= config.target:
                    report = describe_run(RunState(journal, known), self._clock())
                    if report.state == "finished":
                        return report
            with self._opened(config, journal) as run:
                run.keep_settings()
                return self._after_pass(run, self._pass(run, watch_to_the_end=False, may_push=may_push))

    def go_on(self, section: str | RunConfig, **options: Any) -> None:
        """Let a stopped run continue at its next `tick`; nothing else is done for it yet.

        Args:
            section: as for `tick`, and `options` as well.

        Raises:
            KaggleManagerError: as `run_validation_section`.
        """
        config = self._config(section, **options)
        with self._command(config), closing(Journal(config.journal)) as journal:
            config = _with_target_of(journal.unfinished_run(config.tree), config)
            with self._opened(config, journal) as run:
                run.go_on()

    def attach(
        self,
        section: str | RunConfig,
        run_id: str,
        *,
        scenario: str | None = None,
        seed: int | None = None,
        quick: bool = False,
    ) -> Attached:
        """Adopt a run that another machine started: its kernel and dataset are on the platform.

        Nothing is started; `run_validation_section` or `tick` resumes it here.

        Args:
            section, scenario, seed, quick: as for `run_validation_section`; they name the training tree.
            run_id: as `status` and the log of the run's kernel show it.

        Raises:
            NotFound: this account has no kernel of that run.
            ConfigError: this machine knows the run already, it is another scenario's, or another training is here.
            LineageMismatch, OutputDamaged: the tree on the platform is not the one the session was told to continue.
            RemoteError, AuthError: the platform did not answer, or refused.
        """
        config = self._config(section, scenario=scenario, seed=seed, quick=quick)
        with attended(config), closing(Journal(config.journal)) as journal:
            connection = self._connect_to(config)
            return attach_run(config, connection, journal, self._reporter, run_id, at=iso(self._clock()))

    def restore_copy(
        self, section: str | RunConfig, source: Path, *, scenario: str | None = None, quick: bool = False
    ) -> RestoreReport:
        """Replace the training tree by a copy of it; the tree that is there is archived.

        Args:
            section, scenario, quick: as for `run_validation_section`; they name the training tree.
            source: folder of the copy.

        Raises:
            CheckpointNotFound: `source` holds no checkpoint that verifies.
            CheckpointIncompatible: it belongs to another experiment than the section declares.
            ConfigError: `source` is the tree itself.
            Busy: another command is working on the same run.
            StorageError: this machine's disk refused; the tree that was there is whole.
        """
        config = self._config(section, scenario=scenario, quick=quick)
        with attended(config):
            return put_back(config, source, self._reporter)

    def fetch_outputs(
        self,
        section: str | RunConfig,
        generation: int | None = None,
        *,
        scenario: str | None = None,
        quick: bool = False,
    ) -> DownloadedSession:
        """Download and verify the outputs of a session again; the training tree is not touched.

        Args:
            section, scenario, quick: as for `run_validation_section`; they name the training tree.
            generation: number of the session in its run, from 1; None: the newest.

        Raises:
            NotFound: there is no such session here, or the platform no longer has its outputs.
            LineageMismatch, OutputDamaged, RemoteError: as `download_results`.
        """
        config = self._config(section, scenario=scenario, quick=quick)
        with attended(config), closing(Journal(config.journal)) as journal:
            row = current_run(config, journal)
            known = journal.sessions(row.run_id) if row else []
            chosen = [s for s in known if generation in (None, s.generation) and s.stage is not Stage.INTENDED][-1:]
            if row is None or not chosen or chosen[0].version is None:
                raise NotFound(
                    f"No such session of {config.tree} is in the journal.",
                    next_step=f"kaggle-manager history{config.elsewhere}",
                )
            version = KernelVersion(row.owner, row.slug, chosen[0].version)
            folder = config.downloads / row.run_id / f"generation_{chosen[0].generation}"
            client = self._connect_to(config).client
            return download_session(
                client, version, folder, chosen[0], self._reporter, self._sleep, settle_for_less=True
            )

    def _config(self, section: str | RunConfig, **options: Any) -> RunConfig:
        """The configuration of a command, resolved once: here, or by the caller."""
        if isinstance(section, RunConfig):
            return section
        return build_config(
            section, platform=self._platform, workdir=self._workdir, project_root=self._project_root, **options
        )

    def _command(self, config: RunConfig) -> AbstractContextManager[None]:
        return command(config, self._notifier, self._clock)

    @contextmanager
    def _opened(self, config: RunConfig, journal: Journal) -> Iterator[RunContext]:
        connection = self._connect_to(config)
        self._reporter.line(f"platform: {connection.platform} as {connection.owner} ({connection.why})")
        run = RunContext.open(config, connection, journal, self._reporter, self._clock)
        with error_context(next_step=lambda text: text and text + without_fresh(config)):
            yield run

    # --- passes -------------------------------------------------------------------------------------------------------

    def _to_the_end(self, run: RunContext) -> RunReport:
        trouble_since: float | None = None
        while True:
            try:
                end = self._pass(run, watch_to_the_end=True)
            except RemoteError as error:
                trouble_since = trouble_since or self._clock()
                if self._clock() - trouble_since > TROUBLE_PATIENCE_S:
                    raise
                run.postpone("trouble", error.message, TROUBLE_WAIT_S, TROUBLE_LONGEST_S)
                self._sleep_until(run, run.waits_until, error.message)
                self._reconnect(run)
                continue
            except (VerificationError, NotFound) as error:
                if not _was_refused(run):
                    raise
                run.reporter.warn(f"{error.message} It is downloaded once more before this session is given up")
                continue
            trouble_since = None
            if not isinstance(end, lifecycle.WaitUntil):
                return self._after_pass(run, end)
            self._sleep_until(run, end.time, end.why)

    def _reconnect(self, run: RunContext) -> None:
        """The trouble may be the connection's own: the Kaggle of this machine may have to be started again."""
        try:
            run.connection = self._connect_to(run.config)
        except RemoteError as error:  # as before, so the next try of whatever is next will tell
            run.reporter.warn(f"no new connection: {error.message}")

    def _sleep_until(self, run: RunContext, moment: float, why: str) -> None:
        run.reporter.line(f"waiting until {for_people(moment)}: {why} (Ctrl-C is safe)")
        while (left := moment - self._clock()) > 0:
            run.reporter.phase(f"waiting until {for_people(moment)}: {why}")
            self._sleep(min(NAP_S, left))

    def _pass(self, run: RunContext, *, watch_to_the_end: bool, may_push: bool = True) -> lifecycle.Action:
        """Do one action after the other until one is a wait or an end; return that one."""
        while True:
            action = lifecycle.decide(run.observe())
            match action:
                case lifecycle.Push(generation=generation) if may_push:
                    self._push(run, generation)
                case lifecycle.Reconcile():
                    reconcile(run, self._sleep)
                case lifecycle.Watch():
                    over = self._watch(run, to_the_end=watch_to_the_end)
                    if not over and not watch_to_the_end:
                        return action
                case lifecycle.Fetch():
                    session = run.newest_session()
                    with self._refusing(run, session):
                        self.download_results(run, session)
                case lifecycle.Restore():
                    session = run.newest_session()
                    with self._refusing(run, session):
                        self._close(run, session)
                case _:
                    return action

    def _after_pass(self, run: RunContext, end: lifecycle.Action) -> RunReport:
        match end:
            case lifecycle.Finish():
                return self._finish(run)
            case lifecycle.Stop():
                close.stop(run, end)
            case lifecycle.WaitUntil(time=until, why=why) if run.waits_for_quota():
                raise QuotaError(
                    why,
                    safe="everything that was saved; nothing is running",
                    next_step=f"nothing: a tick after {for_people(until)} goes on",
                )
        if run.row.trouble is not None and not run.row.trouble.is_stop:  # it has passed, though nothing moved
            run.note("recovered")
        return describe_run(run.state, self._clock())

    # --- one session --------------------------------------------------------------------------------------------------

    def _push(self, run: RunContext, generation: int) -> None:
        parent = run.head()
        if parent is not None:
            self._validate_checkpoint_compatibility(run, parent.manifest.identity)
        elif not run.config.quick:  # a quick run is a rehearsal itself
            self._check_before_push(run.config, run.reporter)
        earlier = run.row.forecast
        close.note_forecast(run, generation, run.config.target - (parent.step if parent else 0))
        notifications.forecast_slipped(self._notifier, run, earlier)
        push_generation(run, generation, parent)

    def _watch(self, run: RunContext, *, to_the_end: bool) -> bool:
        """Look at the newest session, or watch it for a while; True when it is over."""
        session = run.newest_session()
        version = run.version_of(session)
        if to_the_end and version not in self._watched:
            self._watched.add(version)
            run.reporter.step(3, f"watch {version.ref} (Ctrl-C leaves the session running)")
        try:
            status = self._watch_session(
                run.connection.client,
                version,
                run.reporter,
                bundle_sha256=session.bundle_sha256,
                until=time.monotonic() + WATCH_S if to_the_end else 0.0,
                earlier=progress_of(session),
                on_seen=lambda seen: self._note_seen(run, session, seen),
                session_s=(session.facts.get("planned") or {}).get("timeout_s"),
                log_copy=run.folder_of(session) / LOG_FILE,
                wall=self._clock,
            )
        except NotFound as error:
            close.check_is_gone(run, session)
            close.give_up(run, session, "gone", error.message, FailureKind.GONE)
            return True
        if not status.state.is_terminal and not status.ended_by_log:
            return False
        ended = f"{status.state.name} {status.failure_message}".strip()
        with run.state.together():
            run.state.add_facts(session, ended_by_log=status.ended_by_log)
            run.state.update_session(session, stage=Stage.ENDED, ended_at=run.now(), why=ended)
            run.note("ended", session.generation, status=ended)
        run.reporter.line(f"  the platform says {ended}")
        return True

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
        run.reporter.step(4, f"download, verify and restore what generation {session.generation} left")
        fetched = download_session(
            run.connection.client,
            run.version_of(session),
            run.folder_of(session),
            session,
            run.reporter,
            self._sleep,
            local_tree=run.config.tree,
            ended_by_log=bool(session.facts.get("ended_by_log")),
            settle_for_less=session.refusals >= REFUSALS_TO_SETTLE,
        )
        with run.state.together():
            run.state.update_session(session, stage=Stage.FETCHED)
            run.note("fetched", session.generation, folder=str(fetched.folder))
        return fetched

    @contextmanager
    def _refusing(self, run: RunContext, session: SessionRow) -> Iterator[None]:
        """What a session left is believed or refused. Refused again and again, the session is given up.

        So it can be seen what happened, and the run can go on: from the tree that is here, as after a crash.
        """
        try:
            yield
        except (VerificationError, NotFound) as error:
            is_last = session.refusals + 1 >= REFUSALS_TO_GIVE_UP
            with run.state.together():
                session = run.state.add_facts(session, refusals=session.refusals + 1)
                run.note("refused", session.generation, message=error.message)
                if is_last:
                    why = f"given up, for what it left was refused again: {error.message}"
                    close.give_up(run, session, "given up", why, FailureKind.OUTPUTS, cause=error.message)
                    return
                run.state.update_session(session, stage=Stage.ENDED)
                run.postpone("outputs", error.message, REFUSED_WAIT_S, REFUSED_LONGEST_S)
            head = run.head()
            go_on = f"step {head.step}" if head else "zero, for nothing else was saved,"
            next_step = (
                f"run the same command again: it downloads generation {session.generation} anew; refused "
                f"{REFUSALS_TO_GIVE_UP} times, it gives this session up and goes on from {go_on} with the next one"
            )
            untouched = f"the training tree {run.config.tree} is untouched"
            with error_context(safe=lambda text: text or untouched, next_step=next_step):
                raise

    def _close(self, run: RunContext, session: SessionRow) -> None:
        """Restore what was fetched, and say how the session ended."""
        fetched = load_downloaded(run.folder_of(session), session)
        restored = self._restore_checkpoints_for_next_run(run, session, fetched)
        outcome = close.close_session(run, session, fetched, restored=restored is not None)
        notifications.session_ended(self._notifier, run, session.generation, outcome)
        run.state.refresh()  # a stop may have been asked for since
        if outcome.step < run.config.target and not outcome.failure and not run.row.stop_asked:
            run.reporter.line(f"relaunch: {run.config.target - outcome.step} timesteps remain")

    def _restore_checkpoints_for_next_run(
        self, run: RunContext, session: SessionRow, fetched: DownloadedSession
    ) -> RestoreReport | None:
        """Put the fetched tree in the place of the local one; see `restore.restore_fetched`."""
        return restore_fetched(run, session, fetched)

    def _validate_checkpoint_compatibility(self, run: RunContext, checkpoint_identity: Mapping[str, Any]) -> None:
        """Hold a checkpoint's identity against what this run trains; see `restore.check_compatible`."""
        check_compatible(run, checkpoint_identity)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _finish(self, run: RunContext) -> RunReport:
        head, sessions = run.head(), run.state.totals.count
        if head is not None:
            self._validate_checkpoint_compatibility(run, head.manifest.identity)
        if run.store.best() is None and run.row.counts.get("evaluations"):
            raise best_is_lost(run.config)
        why = f"{run.config.target} timesteps are done, over {sessions} session{'s' * (sessions != 1)}"
        with run.state.together():
            run.state.change(finished_at=run.now(), outcome="finished")
            run.note("finished", why=why)
        if run.config.quick and run.sessions:
            check_quick_run(run, run.row.counts)
        for line in describe_tree(run):
            run.reporter.checkpoint(line)
        notifications.run_finished(self._notifier, run, why)
        run.reporter.line(f"finished: {why}", "bold green")
        return describe_run(run.state, self._clock())


def _with_target_of(unfinished: RunRow | None, config: RunConfig) -> RunConfig:
    """With the target of the unfinished run, unless it starts afresh or section.toml names another one since."""
    same = unfinished is not None and unfinished.settings.get("section_timesteps") == config.scenario.timesteps
    return config.with_stored(unfinished.target) if unfinished and same and not config.fresh else config


def _was_refused(run: RunContext) -> bool:
    """Whether what the newest session left was refused a moment ago, and is worth another download."""
    newest = run.state.newest
    return newest is not None and newest.stage is Stage.ENDED and newest.refusals > 0
