"""The way from a tree without checkpoints back to one, by the copies this machine keeps (see `backups`).

A tree that was trained and now has no checkpoint that verifies is an error that offers its copies, never a start from
zero. What a copy replaces is archived.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from kaggle_manager.checkpoints import (
    Checkpoint,
    CheckpointStore,
    Manifest,
    RestoreReport,
    TrainingTree,
    archive_tree,
    restore_tree,
)
from kaggle_manager.checkpoints.atomic_swap import check_place
from kaggle_manager.checkpoints.layout import MANIFEST_SUFFIX, OWN_FILES_SUFFIX, PENDING_SUFFIX, TEMPORARY_SUFFIX
from kaggle_manager.checkpoints.vouched import BY_USER, Vouched, manifests_of
from kaggle_manager.config import RunConfig
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import CheckpointCorrupt, CheckpointIncompatible, CheckpointNotFound, ConfigError
from kaggle_manager.runs.journal import Journal
from kaggle_manager.trees.backups import find_copies, stamped_name, within_limit
from kaggle_manager.trees.compatibility import check, verdict_on


def head_of(store: CheckpointStore, config: RunConfig, *, saved_step: int = 0) -> Checkpoint | None:
    """The checkpoint the next session continues; None only when the tree was never trained.

    Args:
        store: of the tree `config.tree`, which the caller holds.
        saved_step: what the journal knows to have been saved.

    Raises:
        CheckpointCorrupt: the tree was trained, and none of its checkpoints can be used; offers the copies there are.
    """
    try:
        head = store.claim_latest_checkpoint()
        problem = f"{config.tree} was trained and holds no checkpoint that can be used."
    except CheckpointCorrupt as error:
        head, problem = None, error.message
    if head is not None or not (saved_step or _was_trained(store.tree)):
        return head
    from_zero = "start again from zero with --fresh, which archives what is left of the tree"
    copies = sorted(kept_copies(config), key=_age, reverse=True)
    if not copies:
        raise CheckpointCorrupt(problem, safe=f"what is left is in {config.tree}", next_step=from_zero)
    raise CheckpointCorrupt(
        problem,
        safe="; ".join(f"step {copy.step} is in {copy.tree.root}" for copy in copies),
        next_step=f"{_restore_command(copies[0], config)}; or {from_zero}",
    )


def kept_copies(config: RunConfig) -> Iterator[Checkpoint]:
    """The newest checkpoint of each kept tree that still verifies and belongs to the experiment of `config`."""
    for folder in (copy.folder for copy in find_copies(config) if copy.step is not None):
        for newest in CheckpointStore(TrainingTree(folder, config.scenario_name)).valid_checkpoints()[:1]:
            if not verdict_on(newest, config).refused:
                yield newest


def best_is_lost(config: RunConfig) -> CheckpointCorrupt:
    """The error of a tree whose best model is gone; offers the newest copy that still has one."""
    having = [copy for copy in kept_copies(config) if CheckpointStore(copy.tree).best_on_disk() is not None]
    newest = max(having, key=lambda copy: copy.step, default=None)
    problem = f"The best model of {config.tree} is gone, though policies were evaluated."
    if newest is None:
        again = "train on with a larger --timesteps: the next evaluation makes a new one"
        return CheckpointCorrupt(problem, safe="the checkpoints and the final model", next_step=again)
    safe = f"a copy at step {newest.step} that has it is in {newest.tree.root}"
    return CheckpointCorrupt(problem, safe=safe, next_step=_restore_command(newest, config))


def is_there(config: RunConfig) -> bool:
    """Whether the folder of the training tree holds anything at all."""
    return config.tree.exists() and any(config.tree.iterdir())


def set_aside(config: RunConfig, why: str) -> Path | None:
    """Archive the tree of `config`, replay and all, with the reason; None when there is nothing to archive."""
    check_place(config.tree)
    if not is_there(config):
        return None
    archive = config.archive / stamped_name(config)
    return archive_tree(TrainingTree(config.tree, config.scenario_name), archive, f"{why}.")


def put_back(config: RunConfig, source: Path, reporter: Reporter) -> RestoreReport:
    """Make a copy the training tree again. See `ValidationKaggleManager.restore_copy`."""
    safe = f"the training tree {config.tree} is untouched"
    source = source.resolve()
    if source == config.tree.resolve():
        raise ConfigError(f"{source} is the training tree itself.", safe=safe, next_step="name a copy of it")
    valid = CheckpointStore(TrainingTree(source, config.scenario_name)).valid_checkpoints()
    if not valid:
        others = ", ".join(str(copy.tree.root) for copy in kept_copies(config)) or "none is left"
        raise CheckpointNotFound(
            f"{source} holds no checkpoint of {config.scenario_name} that verifies.",
            safe=safe,
            next_step=f"name another copy; those that verify: {others}",
        )
    newest = valid[0].manifest
    _check_same_tree(newest, source, config, safe)
    if check(valid[0], config, safe=safe, warn=reporter.warn).accepted:
        reporter.warn(f"to continue it: {config.command('run', '--accept-changes')}")
    kind = next((copy.kind for copy in find_copies(config) if copy.folder.resolve() == source), "copy")
    what, session = f"{kind} of step {newest.step:,}", newest.lineage.generation
    reporter.checkpoint(f"restoring the {what}, session {session}, saved {newest.created_at}, from {source}")
    report = restore_tree(
        source,
        TrainingTree(config.tree, config.scenario_name),
        min_step=newest.step,
        keep_replaced=config.archive / stamped_name(config),
        reason=f"replaced by the {what}: {source}.",
        warn=reporter.warn,
    )
    if report.replaced is not None:
        reporter.checkpoint(f"the tree that was there is kept in {report.replaced}")
    reporter.checkpoint(f"restored into {config.tree}; the next session resumes from step {report.step}")
    _ask_who_vouches(config, newest, reporter)
    for line in within_limit(config):
        reporter.checkpoint(line)
    return report


def _check_same_tree(newest: Manifest, source: Path, config: RunConfig, safe: str) -> None:
    """Refuse a copy of another tree: the journal knows whose it is, else its manifest says its seed.

    Raises:
        CheckpointIncompatible: with the command that puts it where it belongs.
    """
    runs = []
    if config.journal.is_file():
        with closing(Journal.to_read(config.journal)) as journal:
            runs = [run for run in journal.runs() if run.run_id == newest.lineage.run_id]
    own, seed = config.which, newest.identity.get("seed", config.scenario.seed)
    is_own_seed = seed == config.section.scenario(config.scenario_name).seed or not isinstance(seed, int)
    its = replace(own, seed=None if is_own_seed else seed)
    for run in runs:
        its = replace(own, section=run.section, scenario=run.scenario, seed=run.settings.get("seed"), quick=run.quick)
    if its != own:
        raise CheckpointIncompatible(
            f"{source} is a copy of another training tree: of {its.words}; {own.words} was named.",
            safe=safe,
            next_step=its.command("restore", "--from", source),
        )


def _ask_who_vouches(config: RunConfig, head: Manifest, reporter: Reporter) -> None:
    """A tree that comes back is data; that it may be continued is known, or said by the user, or missing and told."""
    vouched = Vouched(config.state)
    if config.trust:
        vouched.add(manifests_of(TrainingTree(config.tree, config.scenario_name)), BY_USER)
    if who := vouched.who(head):
        reporter.checkpoint(f"it is {who}")
    else:
        reporter.warn(
            "this tree is not trusted here: it was not made on this machine, and no session that was started here "
            "brought it. To continue it runs whatever its pickles say. If you trust who made it: "
            + config.command("run", "--trust")
        )


def _restore_command(copy: Checkpoint, config: RunConfig) -> str:
    return f"{config.command('restore', '--from', copy.tree.root)}\n  and then the same command again"


def _age(copy: Checkpoint) -> tuple[str, int, int]:
    """Sorts checkpoints from old to new. `created_at` has whole seconds, and a short session takes less than one."""
    return copy.manifest.created_at, copy.manifest.lineage.generation, copy.step


def _was_trained(tree: TrainingTree) -> bool:
    """Whether checkpoints have lain in a tree, whatever has become of them; its quarantine is part of it."""
    saved = ("*.zip", f"*{MANIFEST_SUFFIX}", f"*{OWN_FILES_SUFFIX}/**/*")
    found = (path for pattern in saved for path in tree.root.rglob(pattern))
    return any(path.is_file() and not path.name.endswith((PENDING_SUFFIX, TEMPORARY_SUFFIX)) for path in found)
