"""Adopt a run on a machine that knows nothing of it: the credentials and the run's id are enough.

The program of its newest session carries that session's order; the tree it continues lies in the run's inputs. Both are
taken here, the tree only after every byte of it was verified, and the session is then watched, downloaded and restored
like any other. Nothing is started here, and nothing on the platform is changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree, restore_tree, unpack_tree
from kaggle_manager.checkpoints.archive import INDEX_NAME, PACK_NAME
from kaggle_manager.checkpoints.vouched import Vouched, manifests_of
from kaggle_manager.config import RunConfig
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import ConfigError, LineageMismatch, NotFound
from kaggle_manager.orchestrator.open_run import row_of, settings_of
from kaggle_manager.protocol.launch_order import read_order
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.sessions import launch, reconcile
from kaggle_manager.sessions.bundle import order_of
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.system.command_line import command
from kaggle_manager.system.scratch import scratch_folder
from kaggle_manager.trees.backups import stamped_name

_RUN_ID = re.compile(r"[0-9a-z-]{8,64}")


@dataclass(frozen=True)
class Adopted:
    """The run that was adopted: its newest session, and the step of the tree that is here now (None: none yet)."""

    run_id: str
    generation: int
    target: int
    step: int | None


def adopt_run(
    config: RunConfig, connection: Connection, journal: Journal, reporter: Reporter, run_id: str, *, at: str
) -> Adopted:
    """Write a run of the platform into the journal, and bring the tree its newest session continues.

    Args:
        run_id: as `run`, `status` and the kernel's log name it.

    Raises:
        NotFound: this account has no session of such a run.
        ConfigError: the run is known here already, its kernel is another scenario's, or another training is here.
        LineageMismatch, OutputDamaged: the tree on the platform is not what the session was sent to continue.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ConfigError(
            f"{run_id!r} is not a run id (32 hexadecimal digits).",
            safe="nothing was changed",
            next_step=f"`{command('status')}` shows it, where the run was started",
        )
    if any(row.run_id == run_id for row in journal.runs()):
        raise ConfigError(f"Run {run_id} is known here already.", safe="nothing was changed", next_step=_go_on(config))
    tree = TrainingTree(config.tree, config.scenario_name)
    head = CheckpointStore(tree, warn=reporter.warn).find_latest_checkpoint()
    if head is not None and head.manifest.lineage.run_id != run_id:
        raise ConfigError(
            f"{config.tree} holds another training, of run {head.manifest.lineage.run_id}.",
            safe="nothing was changed",
            next_step="adopt into a folder of its own: --workdir DIR",
        )
    named = reconcile.find_named(connection.client, connection.owner, config.scenario_name, run_id)
    slug = named[0].slug if named else launch.kernel_names(config.scenario_name, run_id)[0]
    led = reconcile.led_by_another(connection.client, connection.owner, run_id)
    newest = max(filter(None, (named, led)), key=lambda found: _generation(found[1], run_id), default=None)
    if newest is None:
        raise NotFound(
            f"{connection.owner} has no session called {slug} on {connection.platform}.",
            next_step="check the run id, and --scenario when it is not the section's default",
        )
    order = order_of(newest[1], run_id) or {}
    if (order.get("run_id"), order.get("scenario")) != (run_id, config.scenario_name):
        raise ConfigError(
            f"The session {newest[0].ref} is not of run {run_id} of {config.scenario_name}.",
            safe="nothing was changed",
            next_step="check the run id and --scenario",
        )
    asked = read_order(order)
    if (asked.section, asked.seed, asked.quick) != (config.section.name, config.seed, config.quick):
        of_it = replace(config.which, section=asked.section, seed=asked.seed, quick=asked.quick)
        raise ConfigError(
            f"Run {run_id} trains {of_it.words}; {config.which.words} was named.",
            safe="nothing was changed",
            next_step=of_it.command("adopt", run_id),
        )
    tree_slug = asked.parent.dataset.partition("/")[2] if asked.parent is not None else ""
    datasets = dict.fromkeys(("tree_dataset", "tree_there"), tree_slug) if tree_slug else {}
    settings = settings_of(config) | datasets
    row = row_of(config, connection, run_id, slug=slug, target=asked.target, settings=settings, at=at)
    session = reconcile.unknown_session(row, newest, reached=0, known=set(), at=at)
    if session is None:
        raise ConfigError(f"The order in {newest[0].ref} cannot be read.", next_step="it was edited by hand")
    step = head.step if head else None
    if head is None and session.parent_sha256 is not None:
        step = _bring_parent(connection, row, config, session.parent_sha256, session.min_step, reporter)
    with journal.together():
        journal.add_run(row)
        journal.add_session(session)
        journal.note(run_id, session.generation, "adopted", at, version=session.version)
    reporter.line(f"adopted: session {session.generation} of run {run_id}, target {row.target:,}")
    return Adopted(run_id, session.generation, row.target, step)


def _bring_parent(
    connection: Connection,
    row: RunRow,
    config: RunConfig,
    manifest_sha256: str,
    min_step: int,
    reporter: Reporter,
) -> int:
    """Download, verify and restore the tree the newest session continues; its step."""
    slug, tree = launch.tree_dataset(row), TrainingTree(config.tree, config.scenario_name)
    with scratch_folder("km_adopt_") as folder:
        reporter.phase(f"downloading dataset {row.owner}/{slug}")
        connection.client.download_inputs(row.owner, slug, (INDEX_NAME, PACK_NAME), folder)
        source = TrainingTree(folder / "tree", tree.scenario)
        unpack_tree(folder, source.root, warn=reporter.warn)
        head = CheckpointStore(source).find_latest_checkpoint()
        if head is None or head.manifest.sha256 != manifest_sha256:
            raise LineageMismatch(
                f"Dataset {row.owner}/{slug} does not contain what the newest session was sent to continue.",
                safe="nothing was restored",
                next_step="wait until that session has ended, and adopt again",
            )
        own = (found for found in manifests_of(source) if found.lineage.run_id == row.run_id)
        Vouched(config.state).add(own, f"adopted from {row.owner}/{slug}, of this account")
        restored = restore_tree(
            source.root,
            tree,
            run_id=row.run_id,
            min_step=min_step,
            keep_replaced=config.archive / stamped_name(config),
            warn=reporter.warn,
        )
    reporter.checkpoint(f"restored step {restored.step} from dataset {row.owner}/{slug} into {tree.root}")
    return restored.step


def _generation(source: str, run_id: str) -> int:
    return int((order_of(source, run_id) or {}).get("generation", 0))


def _go_on(config: RunConfig) -> str:
    return config.command("run")
