"""Which run a command continues: one training tree is one lineage, started anew only when asked.

An unfinished run of the same tree goes on. A finished one, or a tree trained elsewhere, is continued towards the new
target under its own run id. `fresh`, and a new quick run, set the old tree aside first, with its replay; nothing is
deleted.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, TrainingTree, archive_tree
from kaggle_manager.config import RunConfig
from kaggle_manager.connection import Connection
from kaggle_manager.errors import ConfigError
from kaggle_manager.journal import Journal, RunRow
from kaggle_manager.launch import kernel_slug
from kaggle_manager.lifecycle import Stage
from kaggle_manager.progress import Reporter


@dataclass(frozen=True)
class OpenedRun:
    """A run ready to go on: its row, and the generation its lineage had reached before this journal knew it."""

    row: RunRow
    earlier_generation: int


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def open_run(config: RunConfig, connection: Connection, journal: Journal, reporter: Reporter) -> OpenedRun:
    """Find or make the run this command is about.

    Raises:
        ConfigError: an unfinished run of this tree lives on another platform, or `fresh` was asked while a session of
            it may still be alive.
    """
    unfinished = journal.open_run(config.tree)
    if unfinished is not None and unfinished.platform != connection.platform:
        raise ConfigError(
            f"Run {unfinished.run_id} of {config.tree} is unfinished on {unfinished.platform}, "
            f"and this command would use {connection.platform} ({connection.why}).",
            safe="nothing was started; the training tree is untouched",
            next_step=f"add --platform {unfinished.platform}, or another --workdir",
        )
    if unfinished is not None and config.fresh:
        _abandon(journal, unfinished)
        unfinished = None
    store = CheckpointStore(TrainingTree(config.tree, config.scenario_name), warn=reporter.warn)
    if unfinished is None and (config.fresh or config.quick):
        _set_aside(config, reporter)
    head = store.find_latest_checkpoint()
    earlier = head.manifest.lineage.generation if head else 0
    if unfinished is not None:
        if unfinished.target != config.target:
            reporter.line(f"  the target of run {unfinished.run_id} is now {config.target} (was {unfinished.target})")
        journal.reopen_run(unfinished.run_id, config.target)
        return OpenedRun(journal.run(unfinished.run_id), earlier)
    return OpenedRun(_continued_or_new(config, connection, journal, head), earlier)


def _continued_or_new(config: RunConfig, connection: Connection, journal: Journal, head: Checkpoint | None) -> RunRow:
    run_id = head.manifest.lineage.run_id if head else uuid.uuid4().hex
    known = {run.run_id: run for run in journal.runs()}
    if run_id in known and known[run_id].platform == connection.platform:
        journal.reopen_run(run_id, config.target)
        return journal.run(run_id)
    row = RunRow(
        # A lineage that moves to another platform keeps its checkpoints and gets a row, and a kernel, of its own.
        run_id=run_id if run_id not in known else uuid.uuid4().hex,
        section=config.section.name,
        scenario=config.scenario_name,
        target=config.target,
        quick=config.quick,
        tree=str(config.tree),
        platform=connection.platform,
        owner=connection.owner,
        slug=kernel_slug(config.scenario_name, run_id),
        created_at=now(),
    )
    journal.add_run(row)
    return row


def _abandon(journal: Journal, run: RunRow) -> None:
    alive = [s for s in journal.sessions(run.run_id) if s.stage in (Stage.INTENDED, Stage.PUSHED)]
    if alive:
        raise ConfigError(
            f"Run {run.run_id} has a session (generation {alive[-1].generation}) that may still be alive; "
            "starting from zero beside it would make two sessions of one tree.",
            safe="nothing was started; the training tree is untouched",
            next_step="run the same command without --fresh until that session has ended, then with it",
        )
    journal.finish_run(run.run_id, "abandoned for a fresh start", now())


def _set_aside(config: RunConfig, reporter: Reporter) -> None:
    if not config.tree.exists() or not any(config.tree.iterdir()):
        return
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    kept = config.state / "archive" / f"{config.section.name}-{config.tree.name}-{stamp}"
    archive_tree(TrainingTree(config.tree, config.scenario_name), kept)
    why = "--fresh was given" if config.fresh else "a quick run starts anew each time"
    reporter.checkpoint(f"{why}: the tree at {config.tree} was set aside as {kept}")
