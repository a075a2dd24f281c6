"""Which run a command continues: one training tree is one lineage, started anew only when asked.

An unfinished run of the same tree continues. A finished one, or a tree trained elsewhere, is continued towards the new
target under its own run id, also on another platform. `fresh`, and a new quick run, set the old tree aside first, with
its replay; nothing is deleted.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, TrainingTree, archive_tree
from kaggle_manager.checkpoints.manifest import Manifest
from kaggle_manager.config import FROM_RUN, FROM_SECTION, RunConfig
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import (
    CheckpointIncompatible,
    ConfigError,
    NotFound,
    NoVersionShown,
    StorageError,
    VerificationError,
)
from kaggle_manager.protocol.file_names import TREE_FOLDER
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.runs.session_image import moved_after
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.sessions.download import list_of
from kaggle_manager.sessions.launch import kernel_names, kernel_of, version_of
from kaggle_manager.sessions.metrics import progress_of
from kaggle_manager.sessions.reconcile import find_named
from kaggle_manager.status.run_status import which_tree
from kaggle_manager.system.formatting import epoch
from kaggle_manager.trees.backups import within_limit
from kaggle_manager.trees.current_run import current_run
from kaggle_manager.trees.inspect import look_at, newest_of_run
from kaggle_manager.trees.recover import head_of, is_there, set_aside

REFUSALS = (ConfigError, VerificationError, CheckpointIncompatible)
"""What a command is refused with that only the user can set right."""


@dataclass(frozen=True)
class OpenedRun:
    """A run ready to go on: its row, and the generation its lineage had reached before this journal knew it."""

    row: RunRow
    earlier_generation: int


def limits_of(config: RunConfig) -> dict[str, Any]:
    """What bounds its sessions; a quota of the user's only where an option or a variable says it."""
    is_said = config.sources["quota_per_week"] != FROM_SECTION
    return {"session_limit_s": config.session_limit_s, "quota_per_week_s": config.quota_per_week_s if is_said else None}


def settings_of(config: RunConfig) -> dict[str, Any]:
    """What a later command needs to know to go on as this one would."""
    settings = {**limits_of(config), "seed": config.seed, "section_timesteps": config.scenario.target}
    unit = config.scenario.unit
    return settings if unit == "timesteps" else {**settings, "unit": unit}


def row_of(
    config: RunConfig,
    connection: Connection,
    run_id: str,
    *,
    slug: str,
    target: int,
    settings: Mapping[str, Any],
    at: str,
) -> RunRow:
    """A run that the journal does not have yet, of `config`'s tree on `connection`'s platform."""
    return RunRow(
        run_id=run_id,
        section=config.section.name,
        scenario=config.scenario_name,
        target=target,
        quick=config.quick,
        tree=str(config.tree),
        platform=connection.platform,
        owner=connection.owner,
        slug=slug,
        created_at=at,
        settings=settings,
    )


def open_run(
    config: RunConfig,
    connection: Connection,
    journal: Journal,
    reporter: Reporter,
    at: str,
    check_before: Callable[[RunConfig, Reporter], None],
) -> OpenedRun:
    """Find or make the run this command is about, at the moment `at`.

    Args:
        check_before: raises when a new start would be wasted; called before anything is set aside for one.

    Raises:
        ConfigError: an unfinished run of this tree lives elsewhere; `fresh` was asked while a session of it may still
            be alive; or the target is less than what is saved, and no final model of it can be made any more.
        CheckpointCorrupt: the tree was trained, and none of its checkpoints can be used.
    """
    unfinished = journal.unfinished_run(config.tree)
    if unfinished is not None and config.fresh:
        _refuse_while_alive(config, connection, journal, unfinished, at)
    if (config.fresh or (config.quick and unfinished is None)) and (unfinished is not None or is_there(config)):
        check_before(config, reporter)
    if unfinished is not None and config.fresh:
        _keep_unrestored(config, journal, unfinished, reporter)
        journal.finish_run(unfinished.run_id, "abandoned for a fresh start", at)
        unfinished = None
    if unfinished is not None:
        unfinished = _at_home(config, connection, journal, unfinished, reporter)
        if newest := _beside_a_session(config, journal, unfinished):
            return OpenedRun(_reopened(config, journal, unfinished, reporter), newest.lineage.generation)
    store = CheckpointStore(TrainingTree(config.tree, config.scenario_name), warn=reporter.warn)
    if unfinished is None and (config.fresh or config.quick):
        why = "--fresh was given" if config.fresh else "a quick run starts anew each time"
        if kept := set_aside(config, why):
            reporter.checkpoint(f"{why}: the tree at {config.tree} was set aside as {kept}")
            for line in within_limit(config):
                reporter.checkpoint(line)
    head = head_of(store, config, saved_step=_saved_step(journal, config, unfinished))
    if head is not None and config.target < min(head.step, head.manifest.target):
        config = _with_what_is_done(config, store, head, reporter)
    if unfinished is not None and head is not None and head.manifest.lineage.run_id != unfinished.run_id:
        # Somebody put another training's tree here. The tree is the truth: its lineage continues.
        _refuse_while_alive(config, connection, journal, unfinished, at)
        _name_left_behind(config, journal, unfinished, reporter)
        reporter.warn(f"the tree is of run {head.manifest.lineage.run_id}: run {unfinished.run_id} is given up")
        journal.finish_run(unfinished.run_id, "another training's tree took its place", at)
        unfinished = None
    earlier = head.manifest.lineage.generation if head else 0
    if unfinished is not None:
        return OpenedRun(_reopened(config, journal, unfinished, reporter), earlier)
    return OpenedRun(_continued_or_new(config, connection, journal, head, at), earlier)


@contextmanager
def unchanged_if_refused(config: RunConfig, journal: Journal, reporter: Reporter) -> Iterator[None]:
    """A run is as it was again where what the user asks of it is refused: finished, stopped, on its way to its target.

    Only while no session was started or has ended since: what has happened is not taken back. What the user has
    accepted stays accepted.
    """
    before = current_run(config, journal)
    stages = _stages(journal, before)
    try:
        yield
    except REFUSALS:
        with suppress(StorageError):  # the refusal is what the user must see; that nothing can be written is met again
            if before is not None and _stages(journal, before) == stages:
                _put_back(config, journal, before, reporter)
        raise


def _put_back(config: RunConfig, journal: Journal, before: RunRow, reporter: Reporter) -> None:
    now = journal.run(before.run_id)
    if now.finished_at is not None:  # it ended meanwhile, or nothing was changed
        return
    moved = ["platform", "owner", "published"] if (now.platform, now.owner) != (before.platform, before.owner) else []
    names = ["target", "finished_at", "outcome", "wait", "trouble", "told", "seen_to", *moved]
    settings = [*settings_of(config), *moved_after(0), *(["stopped"] if before.stop_asked else [])]
    with journal.together():
        journal.change_run(before.run_id, **{name: getattr(before, name) for name in names})
        journal.change_settings(before.run_id, **{name: before.settings.get(name) for name in settings})
    if now.target != before.target:
        reporter.line(f"  the target of run {before.run_id} stays {before.target:,}")


def _stages(journal: Journal, run: RunRow | None) -> list[tuple[int, Stage]]:
    return [(each.generation, each.stage) for each in journal.sessions(run.run_id, newest=1)] if run else []


def _beside_a_session(config: RunConfig, journal: Journal, run: RunRow) -> Manifest | None:
    """The newest checkpoint's manifest, where nothing else needs to be read: a session of `run` is not closed yet.

    The tree is read in full, every byte hashed, before a session is started from it; not at each look at one.
    """
    if all(session.stage is Stage.CLOSED for session in journal.sessions(run.run_id, newest=1)):
        return None
    newest = newest_of_run(TrainingTree(config.tree, config.scenario_name), run.run_id)
    return newest if newest and config.target >= min(newest.step, newest.target) else None


def _reopened(config: RunConfig, journal: Journal, run: RunRow, reporter: Reporter) -> RunRow:
    if run.target != config.target:
        reporter.line(f"  the target of run {run.run_id} is now {config.target:,} (was {run.target:,})")
    journal.reopen_run(run.run_id, config.target)
    return journal.run(run.run_id)


def _with_what_is_done(config: RunConfig, store: CheckpointStore, head: Checkpoint, reporter: Reporter) -> RunConfig:
    """A smaller target than what is saved is reached where a final model lies, and out of reach where none does."""
    final, done = store.final(), min(head.step, head.manifest.target)
    unit = config.scenario.unit
    if final is not None and final.step >= head.step:
        reporter.line(f"  more than {config.target:,} {unit} are done: the final model here is of step {final.step:,}")
        return replace(config, target=done)
    raise ConfigError(
        f"{config.tree} is at step {head.step:,} already, on its way to {head.manifest.target:,}: a final model of "
        f"{config.target:,} {unit} cannot come out of it any more.",
        safe="nothing was pushed; the checkpoints and the best model are untouched",
        next_step=f"continue with --timesteps {head.manifest.target}, or end where it is with --timesteps {head.step}; "
        f"{config.target:,} {unit} from zero: add --fresh, which archives this tree, or use another --workdir",
    )


def _saved_step(journal: Journal, config: RunConfig, unfinished: RunRow | None) -> int:
    """What the journal knows to have been saved in this tree by the lineage that continues; 0 for a new one."""
    if unfinished is None and (config.fresh or config.quick):
        return 0
    last = unfinished or journal.run_of(config.tree)
    if last is None or (unfinished is None and last.outcome != "finished"):
        return 0
    return journal.totals(last.run_id).step


def _at_home(config: RunConfig, connection: Connection, journal: Journal, run: RunRow, reporter: Reporter) -> RunRow:
    """The unfinished run, where this command would go on with it; it moves only between sessions, and when asked to."""
    here, there = (connection.platform, connection.owner), (run.platform, run.owner)
    if here == there:
        return run
    # By name, not because credentials happened to be found.
    asked = config.platform == connection.platform and config.sources["platform"] != FROM_RUN
    between = all(session.stage is Stage.CLOSED for session in journal.sessions(run.run_id, newest=1))
    if not asked or not between:
        move = f", or --platform {connection.platform} to move it" if between else ""
        raise ConfigError(
            f"Run {run.run_id} of {config.tree} is unfinished on {run.platform} as {run.owner}, "
            f"and this command would use {connection.platform} as {connection.owner} ({connection.why}).",
            safe="nothing was started; the training tree is untouched",
            next_step=f"add --platform {run.platform} to continue there{move}",
        )
    journal.move_run(run.run_id, *here)
    reporter.line(f"  run {run.run_id} moves from {' as '.join(there)} to {' as '.join(here)}")
    return journal.run(run.run_id)


def _continued_or_new(
    config: RunConfig, connection: Connection, journal: Journal, head: Checkpoint | None, at: str
) -> RunRow:
    run_id = head.manifest.lineage.run_id if head else uuid.uuid4().hex
    known = next((run for run in journal.runs() if run.run_id == run_id), None)
    if known is not None:
        _check_one_tree(config, journal, known)
        with journal.together():
            journal.move_tree(run_id, config.tree)
            journal.move_run(run_id, connection.platform, connection.owner)
            journal.reopen_run(run_id, config.target)
        return journal.run(run_id)
    slug, settings = kernel_names(config.scenario_name, run_id)[0], settings_of(config)
    if head is not None:  # trained elsewhere, or known to a journal that was lost: its kernel may be there
        try:
            found = find_named(connection.client, connection.owner, config.scenario_name, run_id)
        except NoVersionShown:
            settings["uncertain"] = slug
        else:
            if found:
                settings["uncertain"] = slug = found[0].slug
    row = row_of(config, connection, run_id, slug=slug, target=config.target, settings=settings, at=at)
    journal.add_run(row)
    return row


def _check_one_tree(config: RunConfig, journal: Journal, known: RunRow) -> None:
    """A tree that was moved takes its run along; of one that was copied, only the first has it.

    Raises:
        ConfigError: the tree of this run is elsewhere, and this is a copy of it.
    """
    if any(run.run_id == known.run_id for run in journal.runs_of(config.tree)):
        return
    there = look_at(TrainingTree(Path(known.tree), known.scenario), verify=False)
    if any(view.manifest and view.manifest.lineage.run_id == known.run_id for view in there):
        raise ConfigError(
            f"{config.tree} is a copy of the training tree of run {known.run_id}, which is {known.tree}: two trees "
            "of one run would overwrite each other's sessions.",
            safe="nothing was started; both are untouched",
            next_step=f"{which_tree(known, config.state).command('run')}\n  continues with that run; --fresh archives "
            "the copy and starts a run of its own",
        )


def _refuse_while_alive(config: RunConfig, connection: Connection, journal: Journal, run: RunRow, at: str) -> None:
    """Never leave a session of `run` behind that may still be running, or begin to."""
    session = _alive(connection, journal, run, at)
    if session is not None:
        go_on = "; or continue with it: the command without --fresh" if config.fresh else ""
        raise ConfigError(
            f"Session {session.generation} of run {run.run_id} may still be queued or running on {run.platform}, as "
            f"{run.owner}/{run.slug}; leaving it would make two sessions of one training tree.",
            safe="nothing was started; the training tree is untouched",
            next_step=f"{config.command('stop')}\n  ends it; when it has ended, run the same command again{go_on}",
        )


def _alive(connection: Connection, journal: Journal, run: RunRow, at: str) -> SessionRow | None:
    """The session of `run` that may be running, as far as its platform can be asked; what it says is written down."""
    opened = [s for s in journal.sessions(run.run_id, newest=1) if s.stage in (Stage.INTENDED, Stage.PUSHED)]
    if not opened or (connection.platform, connection.owner) != (run.platform, run.owner):
        return opened[-1] if opened else None
    session = opened[-1]
    try:
        if session.version is not None:
            version = version_of(run, session)
        else:
            newest = connection.client.newest(*kernel_of(run, session))
            if newest is None or newest[0].id == session.baseline_version:
                return None
            version = newest[0]
        status = connection.client.status(version)
    except NotFound:
        return None
    except NoVersionShown:
        return session
    journal.add_facts(session, seen=progress_of(session).after_status(status, epoch(at)).as_facts())
    return None if status.state.is_terminal else session


def _keep_unrestored(config: RunConfig, journal: Journal, run: RunRow, reporter: Reporter) -> None:
    """Archive trees that were downloaded and never restored, because they are of another experiment for instance."""
    for session in journal.sessions(run.run_id):
        tree = config.downloads / run.run_id / f"generation_{session.generation}" / TREE_FOLDER
        if session.stage is not Stage.CLOSED and tree.is_dir():
            kept = archive_tree(
                TrainingTree(tree, run.scenario),
                config.archive / f"{run.run_id}-generation_{session.generation}",
                "It was downloaded and not restored before a fresh start was asked for.",
            )
            reporter.checkpoint(f"what session {session.generation} left was set aside as {kept}")
    _name_left_behind(config, journal, run, reporter)


def _name_left_behind(config: RunConfig, journal: Journal, run: RunRow, reporter: Reporter) -> None:
    """Say what is given up with `run` that only its platform has, and how it is brought here."""
    for session in journal.sessions(run.run_id, newest=1):
        folder = config.downloads / run.run_id / f"generation_{session.generation}"
        is_there = session.stage is not Stage.CLOSED and session.version is not None and not list_of(folder).is_file()
        if is_there and progress_of(session).ran_s != 0:  # else it ended in the queue
            download = config.command("download", "--run", run.run_id, "--session", session.generation)
            reporter.warn(
                f"what session {session.generation} of run {run.run_id} left is on {run.platform} and was not "
                f"downloaded. To bring it here, as long as it is there: {download}"
            )
