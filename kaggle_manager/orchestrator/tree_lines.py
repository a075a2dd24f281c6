"""The training tree of a run that has finished, in lines."""

from __future__ import annotations

from collections.abc import Iterator

from kaggle_manager.checkpoints import Checkpoint
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.protocol.sentences import exactness, score_in_words
from kaggle_manager.system.formatting import size


def describe_tree(run: RunContext) -> Iterator[str]:
    """The three levels of checkpoints, with steps and sizes, and where they are."""
    for checkpoint in sorted(run.store.valid_checkpoints(), key=lambda found: found.step):
        yield _level("latest", checkpoint)
    for name, level in (("best", run.store.best()), ("final", run.store.final())):
        if level is not None:
            yield _level(name, level) + (f", {worth}" if (worth := score_in_words(level.manifest)) else "")
    final = run.store.final()
    if final is not None and final.manifest.file("replay_buffer") is None and any(run.tree.replay.glob("*")):
        yield f"the final model's replay buffer: {run.config.command('checkpoints export-sb3', 'latest', 'exported')}"
    if (head := run.head()) is not None and (lost := exactness(head.manifest.exact)):
        yield lost
    yield f"tree    {run.config.tree}"


def _level(name: str, checkpoint: Checkpoint) -> str:
    total = sum(file.size for file in checkpoint.manifest.files)
    is_agents = checkpoint.manifest.file("model") is not None
    where = (
        checkpoint.model_path.name
        if is_agents
        else checkpoint.tree.own_files(checkpoint.manifest.kind, checkpoint.step).name
    )
    return f"{name:<6}  step {checkpoint.step:>8}  {size(total):>9}  {where}"
