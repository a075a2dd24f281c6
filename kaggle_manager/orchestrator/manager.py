"""`ValidationKaggleManager`: what a user asks of a run, each under its lock; `passes` carries it on.

It promises that a run reaches its target whatever a single session does, that no session is pushed twice, and that
the local training tree only ever changes by a verified, complete restore. It never starts from zero unless asked
(`fresh`) or unless there is nothing to continue, and keeps every tree it replaces as a copy (see `trees.backups`).

`tick` is one pass: everything that can be done now. A run is passes until its target, with waits between them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import RestoreReport
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import NotFound, error_context
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator import notifications
from kaggle_manager.orchestrator.adopt import Adopted, adopt_run
from kaggle_manager.orchestrator.command import attended, command, settings_told, without_fresh
from kaggle_manager.orchestrator.open_run import unchanged_if_refused
from kaggle_manager.orchestrator.passes import Passes
from kaggle_manager.orchestrator.restore import check_compatible, vouch_for
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.orchestrator.start import SharedSession
from kaggle_manager.platforms.platform import SessionStatus
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.sections.project import STATE_FOLDER
from kaggle_manager.sessions.connection import Connection, connect
from kaggle_manager.sessions.download import DownloadedSession, download_session
from kaggle_manager.sessions.gone import said_where_deleted
from kaggle_manager.sessions.lane import outputs_of
from kaggle_manager.sessions.launch import version_of
from kaggle_manager.sessions.other_files import download_others
from kaggle_manager.sessions.preflight import run_preflight
from kaggle_manager.sessions.watch import watch
from kaggle_manager.status.report import RunReport
from kaggle_manager.status.run_status import describe_run
from kaggle_manager.system.accelerators import runs_on
from kaggle_manager.system.formatting import iso
from kaggle_manager.trees.current_run import current_run
from kaggle_manager.trees.recover import put_back


class ValidationKaggleManager:
    """Trains sections to their targets, over as many sessions of a platform as needed.

    Args:
        platform: its name, as `build_config` takes it; None for that of the environment.
        workdir: everything a run writes goes below it; None: the project itself.
        project_root: folder of the project; None: the nearest one upwards that has the section.
        reporter: where progress is printed; None: the terminal.
        connect_to: returns the connection to the platform of a configuration.
        notifier: where messages are sent; None: as the user's settings say.
        check_before_push: raises when a session would be wasted; called before every push, with the identity of the
            checkpoint it continues where the user accepts a change since, else None, and before a tree is set aside
            for a new start.
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
        check_before_push: Callable[[RunConfig, Reporter, Mapping[str, Any] | None], None] = run_preflight,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
        watch_session: Callable[..., SessionStatus] = watch,
    ) -> None:
        self._platform, self._workdir, self._project_root = platform, workdir, project_root
        self._reporter = reporter or Reporter()
        self._connect_to, self._sleep, self._clock = connect_to, sleep, clock
        self._notifier = notifier or Notifier.from_environment(warn=self._reporter.warn)
        self._passes = Passes(connect_to, self._notifier, check_before_push, sleep, clock, watch_session)

    def run_validation_section(
        self,
        section: str | RunConfig,
        *,
        scenario: str | None = None,
        timesteps: int | None = None,
        quick: bool = False,
        session_limit: str | float | None = None,
        quota_per_week: str | float | None = None,
        seed: int | None = None,
        max_steps: int | None = None,
        fresh: bool = False,
        trust: bool = False,
        accept_changes: bool = False,
        image: str | None = None,
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
            quota_per_week: most session time in a week, seconds or text such as `20h`; None: what section.toml says.
            seed: of the training; None: the scenario's. Each seed has its own training tree.
            max_steps: most environment steps of one session; None: as many as fit in its time.
            fresh: archive the training tree that is there and start a new run from zero.
            trust: continue the tree that is there though it was made elsewhere: what its pickles say is run.
            accept_changes: continue it though the environment or the reward was changed since; its checkpoints say so.
            image: `latest`: the next session moves to the platform's newest docker image; None: it stays in the run's.

        Returns:
            The finished run. Capacity, quota and an outage of the platform are waited for.

        Raises:
            ConfigError: an option, the section or the environment cannot be used.
            KernelFailed: the sessions failed again and again in the same way; the message says how.
            NotFinished: the run was asked to stop meanwhile.
            AuthError: there are no usable credentials, or the platform refused them.
            RemoteError: the platform has not answered for a day.
            VerificationError: what is on the disk, or what a quick run left, is not as it has to be.
            CheckpointIncompatible: the training tree belongs to another experiment than the section declares.
            UntrustedTree: it was made elsewhere, and is not trusted here.
            Busy: another command is working on the same run.
            StorageError: this machine's disk refused.
        """
        config = self._config_told(
            section,
            scenario=scenario,
            timesteps=timesteps,
            quick=quick,
            session_limit=session_limit,
            quota_per_week=quota_per_week,
            seed=seed,
            max_steps=max_steps,
            fresh=fresh,
            trust=trust,
            accept_changes=accept_changes,
            image=image,
        )
        with self._command(config, by_user=True), closing(Journal(config.journal)) as journal:
            config = _as_started(config, journal, also_finished=False)
            with unchanged_if_refused(config, journal, self._reporter), self._opened(config, journal) as run:
                run.go_on()
                run.reporter.line(
                    f"run {run.row.run_id}: {config.name} to {run.config.target:,} {run.row.unit}, tree {config.tree}"
                )
                return self._passes.until_done(run)

    def tick(
        self,
        section: str | RunConfig,
        *,
        scenario: str | None = None,
        timesteps: int | None = None,
        quick: bool = False,
        session_limit: str | float | None = None,
        quota_per_week: str | float | None = None,
        seed: int | None = None,
        accept_changes: bool = False,
        image: str | None = None,
        may_push: bool = True,
        shared: SharedSession | None = None,
    ) -> RunReport:
        """One idempotent pass: do what can be done now, wait for nothing, and return the state of the run.

        It starts one session at most.

        Target and session limit are those the run was started with, unless given. A run that was stopped, by the user
        or by its failures, stays stopped until `run_validation_section` is called.

        Args:
            section, scenario, timesteps, quick, session_limit, quota_per_week, seed, accept_changes, image: as for
                `run_validation_section`.
            may_push: False: start no session.
            shared: a session that other runs share with it, should it start one; None: one of its own.

        Raises:
            QuotaError: nothing can be done before the week's quota, or the user's own, is renewed.
            KaggleManagerError: as `run_validation_section`, but an outage of the platform is raised at once.
        """
        config = self._config_told(
            section,
            scenario=scenario,
            timesteps=timesteps,
            quick=quick,
            session_limit=session_limit,
            quota_per_week=quota_per_week,
            seed=seed,
            accept_changes=accept_changes,
            image=image,
        )
        with self._command(config), closing(Journal(config.journal)) as journal:
            known, config = current_run(config, journal), _as_started(config, journal, also_finished=True)
            ended = known is not None and known.outcome == "finished" and journal.unfinished_run(config.tree) is None
            if known is not None and ended and known.target >= config.target:
                state = RunState(journal, known)
                report = describe_run(state, self._clock())
                if report.state == "finished":
                    notifications.run_finished(self._notifier, config, state)
                    return report
            with self._opened(config, journal) as run:
                run.keep_settings()
                return self._passes.once(run, may_push=may_push, shared=shared)

    def room_for(self, config: RunConfig) -> int:
        """How many sessions of such a run its platform has room for at once.

        Args:
            config: of the run.

        Raises:
            RemoteError, AuthError: the platform did not answer, or refused.
        """
        room = self._connect_to(config).client.limits().room
        return room.get(runs_on(config.section.kernel.accelerator), sys.maxsize)

    def go_on(self, section: str | RunConfig, **options: Any) -> None:
        """Let a stopped run continue at its next `tick`; nothing else is done for it yet.

        Args:
            section: as for `tick`, and `options` as well.

        Raises:
            KaggleManagerError: as `run_validation_section`.
        """
        config = self._config(section, **options)
        with self._command(config, by_user=True), closing(Journal(config.journal)) as journal:
            config = _as_started(config, journal, also_finished=False)
            with unchanged_if_refused(config, journal, self._reporter), self._opened(config, journal) as run:
                run.go_on()
                head = run.head() if run.is_between_sessions else None
                if head is not None and head.step < run.config.target:
                    check_compatible(run, head)  # now, while what the command asks for can be refused as a whole

    def adopt(
        self,
        section: str | RunConfig,
        run_id: str,
        *,
        scenario: str | None = None,
        seed: int | None = None,
        quick: bool = False,
    ) -> Adopted:
        """Adopt a run that another machine started: its kernel and dataset are on the platform.

        Nothing is started; `run_validation_section` or `tick` resumes it here.

        Args:
            section, scenario, seed, quick: as for `run_validation_section`; they name the training tree.
            run_id: as `status` and the log of the run's kernel show it.

        Raises:
            NotFound: this account has no session of that run.
            ConfigError: this machine knows the run already, it is another scenario's, or another training is here.
            LineageMismatch, OutputDamaged: the tree on the platform is not the one the session was told to continue.
            RemoteError, AuthError: the platform did not answer, or refused.
        """
        config = self._config(section, scenario=scenario, seed=seed, quick=quick)
        with attended(config), closing(Journal(config.journal)) as journal:
            connection = self._connect_to(config)
            return adopt_run(config, connection, journal, self._reporter, run_id, at=iso(self._clock()))

    def restore_copy(
        self,
        section: str | RunConfig,
        source: Path,
        *,
        scenario: str | None = None,
        seed: int | None = None,
        quick: bool = False,
        trust: bool = False,
        accept_changes: bool = False,
    ) -> RestoreReport:
        """Replace the training tree by a copy of it; the tree that is there is archived.

        Args:
            section, scenario, seed, quick: as for `run_validation_section`; they name the training tree.
            source: folder of the copy.
            trust: let it be continued though made elsewhere; else `run_validation_section` refuses to continue it.
            accept_changes: restore it though the environment or the reward was changed since.

        Raises:
            CheckpointNotFound: `source` holds no checkpoint that verifies.
            CheckpointIncompatible: it belongs to another experiment than the section declares.
            ConfigError: `source` is the tree itself.
            Busy: another command is working on the same run.
            StorageError: this machine's disk refused; the tree that was there is whole.
        """
        config = self._config(
            section, scenario=scenario, seed=seed, quick=quick, trust=trust, accept_changes=accept_changes
        )
        with attended(config):
            return put_back(config, source, self._reporter)

    def download_outputs(
        self,
        section: str | RunConfig,
        generation: int | None = None,
        *,
        run_id: str | None = None,
        scenario: str | None = None,
        seed: int | None = None,
        quick: bool = False,
    ) -> DownloadedSession:
        """Download and verify the outputs of a session again; the training tree is not touched.

        Args:
            section, scenario, seed, quick: as for `run_validation_section`; they name the training tree.
            generation: number of the session in its run, from 1; None: the newest.
            run_id: a run that this tree was left by, see `km history`; None: the run of the tree.

        Raises:
            NotFound: there is no such session here, or the platform no longer has its outputs.
            LineageMismatch, OutputDamaged, RemoteError: as a download during the run.
        """
        config = self._config(section, scenario=scenario, seed=seed, quick=quick)
        with attended(config), closing(Journal(config.journal)) as journal:
            row = journal.run(run_id) if run_id else current_run(config, journal)
            known = journal.sessions(row.run_id) if row else []
            chosen = [s for s in known if generation in (None, s.generation) and s.stage is not Stage.INTENDED][-1:]
            if row is None or not chosen or chosen[0].version is None:
                raise NotFound(
                    f"{config.scenario_name} has no such session with outputs."
                    if known
                    else f"{config.scenario_name} has no sessions yet.",
                    safe="nothing was changed",
                    next_step=config.command("history" if known else "run"),
                )
            version = version_of(row, chosen[0])
            folder = config.downloads / row.run_id / f"generation_{chosen[0].generation}"
            client = self._connect_to(config.at_home(row.platform)).client
            with said_where_deleted(config, journal, row, chosen[0], client):
                left = outputs_of(client, chosen[0])
                downloaded = download_session(
                    left, version, folder, chosen[0], self._reporter, self._sleep, settle_for_less=True
                )
            vouch_for(config, chosen[0], downloaded)
            if caution := download_others(left, version, folder, downloaded.result):
                self._reporter.warn(f"it left {caution}")
            return downloaded

    def _config(self, section: str | RunConfig, **options: Any) -> RunConfig:
        """The configuration of a command, resolved once: here, or by the caller."""
        if isinstance(section, RunConfig):
            return section
        return build_config(
            section, platform=self._platform, workdir=self._workdir, project_root=self._project_root, **options
        )

    def _config_told(self, section: str | RunConfig, **options: Any) -> RunConfig:
        """The same for a command that may be unattended: the user is told what it cannot read."""
        if isinstance(section, RunConfig):
            return section
        workdir = self._workdir or (self._project_root / STATE_FOLDER if self._project_root else None)
        with settings_told(section, workdir, self._notifier, about=repr((section, options))):
            return self._config(section, **options)

    def _command(self, config: RunConfig, *, by_user: bool = False) -> AbstractContextManager[None]:
        return command(config, self._notifier, self._clock, by_user=by_user)

    @contextmanager
    def _opened(self, config: RunConfig, journal: Journal) -> Iterator[RunContext]:
        connection = self._connect_to(config)
        self._reporter.line(f"platform: {connection.platform} as {connection.owner} ({connection.why})")

        def check(new: RunConfig, reporter: Reporter) -> None:
            self._passes.check_before_push(new, reporter, None)

        run = RunContext.open(config, connection, journal, self._reporter, self._clock, check)
        if config.accept_changes:
            run.accept_changes()
        if config.image == "latest":
            run.leave_image()
        with error_context(next_step=lambda text: text and text + without_fresh(config)):
            yield run


def _as_started(config: RunConfig, journal: Journal, *, also_finished: bool) -> RunConfig:
    """With the target, the session limit and the platform of the run of this tree; a fresh one has none yet.

    Args:
        also_finished: what is finished stays so, as for a `tick` that nobody watches; else it continues to the target
            of its section.
    """
    known = None if config.fresh else current_run(config, journal)
    if known is None or (known.finished_at is not None and not also_finished):
        return config
    config = config.with_stored(known.target, known.settings)
    return config.at_home(known.platform) if known.finished_at is None else config
