"""`ValidationKaggleManager`: carries out what `lifecycle.decide` decides, and writes every intent down first.

It promises that a run reaches its target whatever a single session does, that no generation is pushed twice, and that
the local training tree only ever changes by a verified, complete restore. It never starts from zero unless asked
(`fresh`) or unless there is nothing to continue, and never deletes a tree it replaces.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kaggle_manager import launch, lifecycle
from kaggle_manager.checkpoints import CheckpointStore, RestoreReport, TrainingTree, compare, restore_tree
from kaggle_manager.config import PROJECT_ROOT, RunConfig, build_config
from kaggle_manager.connection import Connection, connect
from kaggle_manager.errors import (
    AmbiguousPush,
    CapacityReached,
    CheckpointIncompatible,
    ConfigError,
    Interrupted,
    KaggleManagerError,
    NotFound,
    OutputDamaged,
    PushMismatch,
    RunError,
    StorageError,
    Unavailable,
    VerificationError,
)
from kaggle_manager.fetch import LOG_FILE, Fetched, fetch_session, load_fetched
from kaggle_manager.finish import check_quick_run, describe_tree
from kaggle_manager.journal import Journal, SessionRow
from kaggle_manager.kaggle_api.models import KernelVersion
from kaggle_manager.kernel_bundle import build_bundle, describe, render_script
from kaggle_manager.lifecycle import Stage
from kaggle_manager.outcome import judge
from kaggle_manager.progress import Reporter, size
from kaggle_manager.report import RunReport
from kaggle_manager.run_context import RunContext
from kaggle_manager.run_setup import now
from kaggle_manager.session_report import TREE_FOLDER
from kaggle_manager.watch import watch

# Seconds between two tries while the account's session slots are taken; a wait costs no attempt.
CAPACITY_WAIT_S = 30.0
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
        with self._opened(config) as run:
            run.reporter.line(
                f"run {run.row.run_id}: {config.scenario_name} to {config.target} timesteps, tree {config.tree}"
            )
            try:
                return self._to_the_end(run)
            except KeyboardInterrupt as error:
                raise Interrupted(
                    "Interrupted. A session that is running goes on by itself.",
                    safe="everything saved so far, here and on the platform",
                    next_step="run the same command again to go on watching",
                ) from error

    @contextmanager
    def _opened(self, config: RunConfig) -> Iterator[RunContext]:
        """Hold the state folder for this process alone, and the run opened in it."""
        try:
            config.state.mkdir(parents=True, exist_ok=True)
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
                f"The folder {config.state} cannot be written: {error.strerror or error}.",
                safe="nothing was started",
                next_step="make it writable, or choose another with --workdir",
            ) from error
        try:
            journal = Journal(config.journal)
            try:
                connection = self._connect_to(config)
                self._reporter.line(f"platform: {connection.platform} as {connection.owner} ({connection.why})")
                yield RunContext.open(config, connection, journal, self._reporter)
            finally:
                journal.close()
        finally:
            lock.release()

    def _to_the_end(self, run: RunContext) -> RunReport:
        unanswered = 0
        while True:
            match lifecycle.decide(run.observe()):
                case lifecycle.Push() as push:
                    self._push(run, push)
                case lifecycle.Reconcile():
                    unanswered = 0 if self._reconcile(run) else unanswered + 1
                    if unanswered >= AMBIGUOUS_PUSHES_TO_STOP:
                        raise Unavailable(
                            f"{unanswered} pushes in a row were neither answered nor accepted.",
                            safe="no session was started; the training tree is untouched",
                            next_step="run the same command again later",
                        )
                case lifecycle.Watch():
                    self._watch(run)
                case lifecycle.Fetch():
                    self.download_results(run, run.newest_session())
                case lifecycle.Restore():
                    self._close(run, run.newest_session())
                case lifecycle.Finish():
                    return self._finish(run)
                case lifecycle.Stop(why=why):
                    run.note("stopped", why=why)
                    raise RunError(
                        f"Run {run.row.run_id} was stopped: {why}.",
                        safe=f"the training tree {run.config.tree} holds the newest verified checkpoints",
                        next_step=f"read {run.folder_of(run.newest_session()) / LOG_FILE}, mend the cause, "
                        "and run the same command again",
                    )

    # --- one session --------------------------------------------------------------------------------------------------

    def _push(self, run: RunContext, push: lifecycle.Push) -> None:
        config, generation, reporter = run.config, push.generation, run.reporter
        parent = run.store.find_latest_checkpoint()
        if parent is not None:
            self._validate_checkpoint_compatibility(run, parent.manifest.identity)
        reporter.step(1, f"package generation {generation}")
        bundle = build_bundle(config.project_root, config.section.kernel.include)
        order = launch.launch_order(config, run.row, generation, parent=parent, bundle=bundle, identity=run.identity)
        script = render_script(config.project_root, bundle, order)
        reporter.line(f"  {describe(bundle, script)}")
        client = run.connection.client
        if parent is not None:
            dataset = launch.publish_tree(client, run.row, run.tree, generation)
            reporter.checkpoint(f"step {parent.step} goes in as dataset {dataset.ref}")
        newest = client.newest_kernel(run.row.owner, run.row.slug)
        session = SessionRow(
            run_id=run.row.run_id,
            generation=generation,
            stage=Stage.INTENDED,
            parent_sha256=parent.manifest.sha256 if parent else None,
            min_step=push.min_step,
            bundle_sha256=bundle.sha256,
            source_sha256=launch.source_sha256(script),
            baseline_version=newest[0].version if newest else 0,
            started_at=now(),
        )
        run.journal.add_session(session)
        reporter.step(2, f"push {run.row.owner}/{run.row.slug} for {config.section.kernel.accelerator}")
        try:
            pushed = client.push_kernel(launch.kernel_push(config, run.row, script, has_parent=parent is not None))
        except AmbiguousPush as error:
            run.note("push_without_answer", generation, message=error.message)
            reporter.warn(f"the push was not answered ({error.message}); looking before anything is repeated")
        except CapacityReached as error:
            run.journal.drop_intent(session)
            reporter.line(f"  {error.message}; trying again in {CAPACITY_WAIT_S:.0f} s, which costs no attempt")
            self._sleep(CAPACITY_WAIT_S)
        except PushMismatch as error:
            self._mismatched(run, session, error)
        except KaggleManagerError as error:
            run.journal.drop_intent(session)
            run.note("push_refused", generation, message=error.message)
            raise
        else:
            self._accepted(run, session, pushed.version)

    def _accepted(self, run: RunContext, session: SessionRow, version: KernelVersion) -> None:
        run.journal.update_session(session, stage=Stage.PUSHED, version=version.version)
        run.note("pushed", session.generation, version=version.version)
        run.reporter.line(f"  accepted as {version.ref}")

    def _mismatched(self, run: RunContext, session: SessionRow, error: PushMismatch) -> None:
        """A session exists, but not as asked: never pushed again under this generation."""
        run.note("push_changed", session.generation, message=error.message, started=error.started)
        owner, slug, version = error.started.split("/")
        if (owner, slug) == (run.row.owner, run.row.slug):
            # An input was dropped: the kernel's own look at its mounts ends it within seconds, and says so.
            run.reporter.warn(error.message)
            self._accepted(run, session, KernelVersion(owner, slug, int(version)))
            return
        run.journal.update_session(
            session, stage=Stage.CLOSED, outcome="misfiled", why=error.message, fingerprint="misfiled", ended_at=now()
        )
        raise error

    def _reconcile(self, run: RunContext) -> bool:
        """Look for a push whose answer never came; True when it had been accepted."""
        session = run.newest_session()
        version = launch.look_for_push(run.connection.client, run.row, session, sleep=self._sleep)
        if version is None:
            run.journal.drop_intent(session)
            run.note("push_not_accepted", session.generation)
            return False
        run.reporter.line(f"  the push of generation {session.generation} had been accepted")
        self._accepted(run, session, version)
        return True

    def _watch(self, run: RunContext) -> None:
        session = run.newest_session()
        version = run.version_of(session)
        run.reporter.step(3, f"watch {version.ref} (Ctrl-C leaves the session running)")
        try:
            status = watch(run.connection.client, version, run.reporter)
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

    def _close(self, run: RunContext, session: SessionRow) -> None:
        """Restore what was fetched, say how the session ended, and make room for the next one."""
        try:
            fetched = load_fetched(run.folder_of(session), session)
            restored = self._restore_checkpoints_for_next_run(run, session, fetched)
        except VerificationError:
            run.journal.update_session(session, stage=Stage.ENDED)  # the next call downloads it anew
            raise
        head = run.store.find_latest_checkpoint()
        outcome = judge(
            result=fetched.result,
            platform_says=session.why,
            log=fetched.log,
            step_before=session.min_step,
            step_after=head.step if head else 0,
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
                next_step="undo the change, or start a new lineage with --fresh (the old tree is kept aside)",
            )
        self._forget_older(run, session)
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
            if trained:
                raise OutputDamaged(
                    f"Generation {session.generation} says it trained, but left no checkpoint.",
                    safe=f"nothing was restored; what it left is in {fetched.folder}",
                    next_step=f"read {fetched.folder / LOG_FILE}",
                )
            return None
        found = valid[0]
        if found.manifest.sha256 == session.parent_sha256 and not trained:
            return None  # it failed before its first save: what came back is what went in
        files = found.manifest.files
        run.reporter.checkpoint(
            f"found step {found.step} of generation {found.manifest.lineage.generation}: "
            + ", ".join(f"{file.name} ({size(file.size)})" for file in files)
        )
        self._validate_checkpoint_compatibility(run, found.manifest.identity)
        report = restore_tree(
            found.tree.root,
            run.tree,
            run_id=session.run_id,
            generation=session.generation,
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

    def _forget_older(self, run: RunContext, session: SessionRow) -> None:
        """Free the room of trees that two verified newer ones have replaced; logs and results stay."""
        for older in run.sessions():
            if older.generation <= session.generation - 2:
                for folder in (run.folder_of(older) / TREE_FOLDER, run.replaced_by(older)):
                    shutil.rmtree(folder, ignore_errors=True)

    def _validate_checkpoint_compatibility(self, run: RunContext, checkpoint_identity: Mapping[str, Any]) -> None:
        """Hold a checkpoint's identity against what this run trains.

        Raises:
            CheckpointIncompatible: with every difference, and what to do about each.
        """
        # What only a trainer can measure (spaces, versions, device) it compares itself, before it loads anything.
        stated = {name: value for name, value in checkpoint_identity.items() if name in run.identity}
        verdict = compare(stated, run.identity)
        lines = [str(difference) for difference in verdict.differences]
        if verdict.refused:
            raise CheckpointIncompatible(
                "The checkpoint is of another experiment:\n  " + "\n  ".join(lines),
                safe=f"the training tree {run.config.tree} is untouched",
                next_step="undo the change, or start a new lineage with --fresh (the old tree is kept aside)",
            )
        for line in lines:
            run.reporter.warn(line)

    def _finish(self, run: RunContext) -> RunReport:
        counts = run.counts()
        if run.config.quick and run.sessions():
            check_quick_run(run, counts)
        for line in describe_tree(run):
            run.reporter.checkpoint(line)
        sessions = len(run.sessions())
        why = f"{run.config.target} timesteps are done, over {sessions} session{'s' * (sessions != 1)}"
        run.journal.finish_run(run.row.run_id, "finished", now())
        run.note("finished", why=why)
        run.reporter.line(f"finished: {why}", "bold green")
        return run.report("finished", why, "", human_action_required=False)
