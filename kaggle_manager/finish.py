"""The end of a run: what is in the training tree, and proof that a quick run really exercised everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kaggle_manager.checkpoints import Checkpoint
from kaggle_manager.errors import VerificationError
from kaggle_manager.progress import size
from kaggle_manager.run_context import RunContext

# What a quick run exists to show; counted by the trainer and the manager, never assumed.
REQUIRED_BY_QUICK = {"updates": "gradient update", "evaluations": "evaluation", "restores": "restore"}


def check_quick_run(run: RunContext, counts: Mapping[str, int]) -> None:
    """Hold a finished quick run against what it promises.

    Raises:
        VerificationError: something a quick run must exercise did not happen; names what.
    """
    missing = [name for key, name in REQUIRED_BY_QUICK.items() if counts.get(key, 0) < 1]
    steps = sorted(checkpoint.step for checkpoint in run.store.valid_checkpoints())
    # Not always at the target itself: algorithms that train in rollouts end with the one that reaches it.
    if run.config.target >= 2 and (len(steps) < 2 or steps[-1] < run.config.target):
        missing.append(f"two valid checkpoints, the newer at step {run.config.target} (found {steps})")
    if run.store.best() is None:
        missing.append("best model")
    if run.store.final() is None:
        missing.append("final model")
    if not run.tree.metadata.is_file():
        missing.append("training metadata")
    if missing:
        raise VerificationError(
            f"The quick run reached its target but did not show: {', '.join(missing)}.",
            safe=f"what it made is in {run.config.tree}",
            next_step="do not start a long run on this; mend the trainer first",
        )


def describe_tree(run: RunContext) -> Iterator[str]:
    """The training tree in lines: the three levels of checkpoints, with steps and sizes."""
    for checkpoint in sorted(run.store.valid_checkpoints(), key=lambda found: found.step):
        yield _level("latest", checkpoint)
    for name, level in (("best", run.store.best()), ("final", run.store.final())):
        if level is not None:
            score = level.manifest.score
            yield _level(name, level) + (f", mean reward {score:.3f}" if score is not None else "")
    yield f"tree    {run.config.tree}"


def _level(name: str, checkpoint: Checkpoint) -> str:
    total = sum(file.size for file in checkpoint.manifest.files)
    return f"{name:<6}  step {checkpoint.step:>8}  {size(total):>9}  {checkpoint.model_path.name}"
