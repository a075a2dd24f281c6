"""`ValidationKaggleManager`: carries out what `lifecycle.decide` decides, and writes every intent down first.

It promises that a run reaches its target whatever a single session does, that no generation is pushed twice, and that
the local training tree only ever changes by a verified, complete restore. It never starts from zero unless asked
(`fresh`) or unless there is nothing to continue, and never deletes a tree it replaces.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from kaggle_manager import experiment, lifecycle
from kaggle_manager.checkpoints import CheckpointStore, RestoreReport, TrainingTree, restore_tree
from kaggle_manager.checkpoints.tree_lock import alone_in
from kaggle_manager.config import PROJECT_ROOT, RunConfig, build_config
from kaggle_manager.connection import Connection, connect
from kaggle_manager.errors import (
    CheckpointIncompatible,
    ConfigError,
    Interrupted,
    KaggleManagerError,
    KernelFailed,
    NotFound,
    OutputDamaged,
    StorageError,
    Unavailable,
    VerificationError,
)
from kaggle_manager.fetch import LOG_FILE, Fetched, fetch_session, load_fetched
from kaggle_manager.finish import check_quick_run, describe_tree
from kaggle_manager.journal import Journal, SessionRow
from kaggle_manager.kept import best_is_lost, put_back
from kaggle_manager.lifecycle import Stage
from kaggle_manager.outcome import judge
from kaggle_manager.progress import Reporter, size
from kaggle_manager.pushing import push_generation, reconcile
from kaggle_manager.report import RunReport
from kaggle_manager.run_context import RunContext
from kaggle_manager.run_setup import now
from kaggle_manager.session_report import TREE_FOLDER, normalised_failure
from kaggle_manager.watch import watch

AMBIGUOUS_PUSHES_TO_STOP = 3
# Exit code of a kernel whose own check found the checkpoint to be of another experiment.
INCOMPATIBLE_EXIT = 7


class ValidationKaggleManager:
    """Trains validation sections on Kaggle, or on the Kaggle of this machine, session after session.

    Args:
        platform: `auto` (Kaggle when there are credentials), `local` or `kaggle`.
        workdir: everything a run writes goes below it; absent: the project itself.
        reporter: where progress is shown.
        connect_to: how to reach a Kaggle.
        sleep: waits; injectable.
    """

    def __init__(
        self,
        *,
        platform: str | None = None,
        workdir: Path | None = None,
        project_root: Path = PROJECT_ROOT,
        reporter: Reporter | None = None,
        connect_to: Callable[[RunConfig], Connection] = connect,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._platform, self._workdir, self._project_root = platform, workdir, project_root
        self._reporter = reporter or Reporter()
        self._connect_to, self._sleep = connect_to, sleep

    def run_validation_section(
        self,
        section: str,
        *,
        scenario: str | None = None,
        timesteps: int | None = None,
        quick: bool = False,
        session_limit: str | float | None = None,
        fresh: bool = False,
    ) -> RunReport:
        """Train `section` to its target, over as many sessions as it takes.

        Calling it again after anything at all (Ctrl-C, a crash, a reboot) goes on where the run is.

        Raises:
            KaggleManagerError: any of the tree in `errors.py`; its message says what is safe and what comes next.
        """
        config = build_config(
            section,
            scenario=scenario,
            timesteps=timesteps,
            quick=quick,
            session_limit=session_limit,
            fresh=fresh,
            platform=self._platform,
            workdir=self._workdir,
            project_root=self._project_root,
        )
        with self._alone(config), self._opened(config) as run:
            run.reporter.line(
                f"run {run.row.run_id}: {config.scenario_name} to {config.target} timesteps, tree {config.tree}"
            )
            return self._to_the_end(run)

    def restore_copy(
        self, section: str, source: Path, *, scenario: str | None = None, quick: bool = False
    ) -> RestoreReport:
        """Put a kept copy of a training tree in its place again; the tree that is there is archived.

        Raises:
            CheckpointNotFound: `source` holds no checkpoint that verifies.
            CheckpointIncompatible: it is of another experiment than the section's.
            ConfigError: `source` is the tree itself.
        """
        config = build_config(
            section, scenario=scenario, quick=quick, workdir=self._workdir, project_root=self._project_root
        )
        with self._alone(config):
            return put_back(config, source, self._reporter)

    @contextmanager
    def _alone(self, config: RunConfig) -> Iterator[None]:
        """Hold the state folder for this process alone; what the machine refuses inside becomes a typed error."""
        try:
            for folder in (config.state, config.tree.parent):
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    pass  # refused here in a moment, not after hours of a session
            lock = FileLock(config.state / "manager.lock")  # the operating system drops it when its holder dies
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ConfigError(
                f"Another kaggle-manager is working in {config.state}.",
                safe="nothing was started",
                next_step="wait for it, or use another --workdir",
            ) from error
        except OSError as error:
            raise StorageError(
                f"The folder {error.filename or config.state} cannot be written: {error.strerror or error}.",
                safe="nothing was started",
                next_step="make it writable, or choose another with --workdir",
            ) from error
        try:
            with alone_in(config.tree):
                yield
        except KeyboardInterrupt as error:
            raise Interrupted(
                "Interrupted. A session that is running goes on by itself.",
                safe="everything saved so far, here and on the platform",
                next_step="run the same command again to go on watching" + _without_fresh(config),
            ) from error
        except (OSError, sqlite3.Error) as error:
            raise StorageError(
                f"This machine refused: {error}.",
                safe=f"the checkpoints in {config.tree}, and what is on the platform",
                next_step="free space or give back the permission, and run the same command again"
                + _without_fresh(config),
            ) from error
        finally:
            lock.release()

    @contextmanager
    def _opened(self, config: RunConfig) -> Iterator[RunContext]:
        journal = Journal(config.journal)
        try:
            connection = self._connect_to(config)
            self._reporter.line(f"platform: {connection.platform} as {connection.owner} ({connection.why})")
            run = RunContext.open(config, connection, journal, self._reporter)
            try:
                yield run
            except KaggleManagerError as error:
                if error.next_step:  # a fresh start was made; doing that again would undo what came of it
                    error.next_step += _without_fresh(config)
                raise
        finally:
            journal.close()

    def _to_the_end(self, run: RunContext) -> RunReport:
        unanswered = 0
        while True:
            match lifecycle.decide(run.observe()):
                case lifecycle.Push(generation=generation):
                    self._push(run, generation)
                case lifecycle.Reconcile():
                    unanswered = 0 if reconcile(run, self._sleep) else unanswered + 1
                    if unanswered >= AMBIGUOUS_PUSHES_TO_STOP:
                        raise Unavailable(
                            f"{unanswered} pushes in a row were neither answered nor accepted.",
                            safe="no session was started; the training tree is untouched",
                            next_step="run the same command again later",
                        )
                case lifecycle.Watch():
                    self._watch(run)
                case lifecycle.Fetch():
                    session = run.newest_session()
                    with self._refusing(run, session):
                        self.download_results(run, session)
                case lifecycle.Restore():
                    session = run.newest_session()
                    with self._refusing(run, session):
                        self._close(run, session)
                case lifecycle.Finish():
                    return self._finish(run)
                case lifecycle.Stop(why=why):
                    self._stop(run, why)

    # --- one session --------------------------------------------------------------------------------------------------

    def _push(self, run: RunContext, generation: int) -> None:
        parent = run.head()
        if parent is not None:
            self._validate_checkpoint_compatibility(run, parent.manifest.identity)
        push_generation(run, generation, parent, self._sleep)

    def _watch(self, run: RunContext) -> None:
        session = run.newest_session()
        version = run.version_of(session)
        run.reporter.step(3, f"watch {version.ref} (Ctrl-C leaves the session running)")
        try:
            status = watch(run.connection.client, version, run.reporter, bundle_sha256=session.bundle_sha256)
        except NotFound as error:
            # Denied for long with good credentials: somebody deleted the kernel, and its outputs with it.
            run.reporter.warn(f"{version.ref} is gone: {error.message}")
            run.journal.update_session(
                session, stage=Stage.CLOSED, outcome="gone", why=error.message, fingerprint="gone", ended_at=now()
            )
            run.note("gone", session.generation, message=error.message)
            return
        ended = f"{status.state.name} {status.failure_message}".strip()
        run.journal.update_session(session, stage=Stage.ENDED, ended_at=now(), why=ended)
        run.note("ended", session.generation, status=ended)
        run.reporter.line(f"  the platform says {ended}")

    def download_results(self, run: RunContext, session: SessionRow) -> Fetched:
        """Download and verify what `session` left, into a folder of its own.

        Raises:
            LineageMismatch, OutputDamaged, RemoteError: see `fetch.fetch_session`; the training tree is untouched.
        """
        run.reporter.step(4, f"download, verify and restore what generation {session.generation} left")
        fetched = fetch_session(
            run.connection.client, run.version_of(session), run.folder_of(session), session, run.reporter, self._sleep
        )
        run.journal.update_session(session, stage=Stage.FETCHED)
        run.note("fetched", session.generation, folder=str(fetched.folder))
        return fetched

    @contextmanager
    def _refusing(self, run: RunContext, session: SessionRow) -> Iterator[None]:
        """What a session left is believed or refused. Refused once more at the next call, the session is given up.

        So a person sees what happened, and the run can go on: from the tree that is here, as after a crash.
        """
        try:
            yield
        except (VerificationError, NotFound) as error:
            refused = [
                event["generation"] for event in run.journal.events(run.row.run_id) if event["kind"] == "refused"
            ]
            run.note("refused", session.generation, message=error.message)
            if session.generation in refused:
                why = f"given up, for what it left was refused again: {error.message}"
                run.reporter.warn(f"generation {session.generation} is {why}")
                run.journal.update_session(
                    session,
                    stage=Stage.CLOSED,
                    outcome="given up",
                    why=why,
                    fingerprint=normalised_failure(error.message),
                )
                return
            run.journal.update_session(session, stage=Stage.ENDED)
            head = run.head()
            go_on = f"step {head.step}" if head else "zero, for nothing else was saved,"
            error.safe = error.safe or f"the training tree {run.config.tree} is untouched"
            error.next_step = (
                f"run the same command again: it downloads generation {session.generation} anew; if that is refused "
                f"again, it gives this session up and goes on from {go_on} with the next one"
            )
            raise

    def _close(self, run: RunContext, session: SessionRow) -> None:
        """Restore what was fetched, say how the session ended, and make room for the next one."""
        fetched = load_fetched(run.folder_of(session), session)
        restored = self._restore_checkpoints_for_next_run(run, session, fetched)
        head, final = run.head(), run.store.final()
        outcome = judge(
            result=fetched.result,
            platform_says=session.why,
            log=fetched.log,
            step_before=session.min_step,
            step_after=head.step if head else 0,
            target_reached=final is not None and final.step >= run.config.target,
        )
        counts = {**(fetched.result.counts if fetched.result else {}), "restores": int(restored is not None)}
        run.note("closed", session.generation, outcome=outcome.kind, why=outcome.why, counts=counts)
        run.journal.update_session(
            session,
            stage=Stage.CLOSED,
            outcome=outcome.kind,
            why=outcome.why,
            fingerprint=outcome.failure,
            step=outcome.step,
        )
        (run.reporter.warn if outcome.failure else run.reporter.line)(f"generation {session.generation} {outcome.why}")
        if fetched.result is not None and fetched.result.exit_code == INCOMPATIBLE_EXIT:
            raise CheckpointIncompatible(
                f"The kernel refused the checkpoint: {fetched.result.reason}",
                safe=f"the training tree {run.config.tree} is as it was",
                next_step=experiment.WAY_OUT,
            )
        if fetched.result is not None and fetched.result.refused_its_order:
            raise ConfigError(
                f"The kernel cannot carry out what it was told: {outcome.why}",
                safe=f"the training tree {run.config.tree} is as it was",
                next_step="correct section.toml, or whatever else it names, and run the same command again",
            )
        if restored is not None:
            self._forget_older(run)
        if outcome.step < run.config.target and not outcome.failure:
            run.reporter.line(f"relaunch: {run.config.target - outcome.step} timesteps remain")

    def _restore_checkpoints_for_next_run(
        self, run: RunContext, session: SessionRow, fetched: Fetched
    ) -> RestoreReport | None:
        """Put the fetched tree in the place of the local one: all of it, or nothing.

        Returns None when the session failed and left nothing newer; anything else that restores nothing is an error.

        Raises:
            OutputDamaged: a session that says it trained left no checkpoint.
            LineageMismatch, CheckpointCorrupt, CheckpointIncompatible: the tree may not be restored; it stays in the
                download folder and the local tree is untouched.
        """
        result = fetched.result
        trained = result is not None and result.outcome in ("completed", "interrupted")
        source = TrainingTree(fetched.tree, run.config.scenario_name) if fetched.tree else None
        valid = CheckpointStore(source).valid_checkpoints() if source else []
        if not valid:
            if result is not None and trained and result.step is not None:
                raise OutputDamaged(
                    f"Generation {session.generation} says it trained, but left no checkpoint.",
                    safe=f"nothing was restored; what it left is in {fetched.folder}",
                    next_step=f"read {fetched.folder / LOG_FILE}",
                )
            return None
        found = valid[0]
        lineage = found.manifest.lineage
        nothing_new = found.manifest.sha256 == session.parent_sha256
        if nothing_new and not (result is not None and result.outcome == "completed"):
            return None  # it ended before its first save: what came back is what went in
        own = (lineage.run_id, lineage.generation) == (session.run_id, session.generation)
        if not own and result is not None and not trained:
            return None  # it refused what was mounted; that is no work of its own
        files = found.manifest.files
        run.reporter.checkpoint(
            f"found step {found.step} of generation {lineage.generation}: "
            + ", ".join(f"{file.name} ({size(file.size)})" for file in files)
        )
        self._validate_checkpoint_compatibility(run, found.manifest.identity)
        report = restore_tree(
            found.tree.root,
            run.tree,
            run_id=session.run_id,
            # Only the final model may have been missing; then the newest checkpoint is still the parent.
            generation=lineage.generation if nothing_new else session.generation,
            min_step=session.min_step,
            keep_replaced=run.replaced_by(session),
            # What was downloaded is what the session left, so asking for it again would not mend anything.
            accept_damaged=True,
            warn=run.reporter.warn,
        )
        for problem in report.left_out:
            run.reporter.warn(f"left out, for it does not verify: {problem}")
        run.reporter.checkpoint(f"restored into {run.config.tree}; the trainer's search finds step {report.step}")
        if report.replaced is not None:
            run.reporter.checkpoint(f"the tree it replaces is kept in {report.replaced}")
        return report

    def _forget_older(self, run: RunContext) -> None:
        """Free the room of copies beyond the two newest; logs and results stay."""
        for copies in (
            [run.folder_of(session) / TREE_FOLDER for session in run.sessions()],
            [run.replaced_by(session) for session in run.sessions()],
        ):
            for older in [folder for folder in copies if folder.is_dir()][:-2]:
                shutil.rmtree(older, ignore_errors=True)

    def _validate_checkpoint_compatibility(self, run: RunContext, checkpoint_identity: Mapping[str, Any]) -> None:
        """Hold a checkpoint's identity against what this run trains.

        Raises:
            CheckpointIncompatible: with every difference, and what to do about each.
        """
        kept = [run.folder_of(session) for session in run.sessions() if session.stage is Stage.FETCHED]
        safe = f"the training tree {run.config.tree} is untouched"
        safe += f"; what was downloaded is whole, with its replay, in {kept[-1]}" if kept else ""
        experiment.check(checkpoint_identity, run.config, safe=safe, warn=run.reporter.warn)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _stop(self, run: RunContext, why: str) -> NoReturn:
        """Put three equal failures before a person; the next command has three tries again.

        Raises:
            KernelFailed: always.
        """
        newest = run.newest_session()
        run.note("stopped", newest.generation, why=why)
        log = run.folder_of(newest) / LOG_FILE
        raise KernelFailed(
            f"Run {run.row.run_id} was stopped: {why}.\nThe last of them: generation {newest.generation} {newest.why}",
            safe=f"the training tree {run.config.tree} is untouched since the last restore",
            next_step=(f"read {log}, " if log.is_file() else "") + "mend the cause, and run the same command again",
        )

    def _finish(self, run: RunContext) -> RunReport:
        head, sessions = run.head(), len(run.sessions())
        if head is not None:
            self._validate_checkpoint_compatibility(run, head.manifest.identity)
        if run.store.best() is None and run.counts()["evaluations"]:
            raise best_is_lost(run.config)
        why = f"{run.config.target} timesteps are done, over {sessions} session{'s' * (sessions != 1)}"
        run.journal.finish_run(run.row.run_id, "finished", now())
        if run.config.quick and run.sessions():
            check_quick_run(run, run.counts())
        for line in describe_tree(run):
            run.reporter.checkpoint(line)
        run.note("finished", why=why)
        run.reporter.line(f"finished: {why}", "bold green")
        return run.report("finished", why, "", human_action_required=False)


def _without_fresh(config: RunConfig) -> str:
    return " (without --fresh, which would start over once more)" * config.fresh
