"""A run that grows session by session, with real checkpoints, curves and journal, for what is told of it elsewhere."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from dashboard_world import BEGAN, add_session
from small_trees import config_in, curve

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.config import RunConfig
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.system.formatting import iso

RUN = "d" * 32
STEPS = 100
"""Of a session; it evaluates at half of it and at its end, and plays an episode every ten."""
IDENTITY = {
    "algorithm": "PPO",
    "environment": "gymnasium:make",
    "environment_kwargs": {"id": "Walk-v1"},
    "hyperparameters": {"learning_rate": 0.001, "policy_kwargs": {"net_arch": [64, 64]}},
    "reward_fingerprint": "e" * 64,
    "seed": 3,
    "source_files": {"reward_fingerprint": {"reward.py": "f" * 64}},
}


def begin(folder: Path) -> RunConfig:
    """A run of which nothing is saved yet."""
    config = config_in(folder)
    names = (RUN, config.section.name, config.scenario_name, 9 * STEPS, False, str(config.tree))
    with closing(Journal(config.journal)) as journal:
        journal.add_run(RunRow(*names, "local", "owner", "slug", iso(BEGAN)))
    return config


def grow(config: RunConfig, generation: int, *, is_last: bool = False) -> int:
    """One session more; the step it has saved."""
    step = STEPS * generation
    with closing(Journal(config.journal)) as journal:
        add_session(journal, RUN, generation, gained=STEPS)
        if is_last:
            journal.change_run(RUN, target=step)
            journal.finish_run(RUN, "finished", iso(BEGAN + 1000 * generation))
    tree = TrainingTree(config.tree, config.scenario_name)
    store = CheckpointStore(tree)
    facts = {"target": step, "lineage": Lineage(RUN, generation, None, 0), "bundle_sha256": "b" * 64}
    facts |= {"identity": IDENTITY, "exact": {"arithmetic": {"torch": "2.13.0"}}}
    files = {"model": b"model %d" % step, "statistics": b"statistics %d" % step}
    store.save_latest(step=step, files={**files, "state": b"state"}, **facts)  # type: ignore[arg-type]
    store.save_best(step=step, score=float(step), files=files, **facts)  # type: ignore[arg-type]
    if is_last:
        store.save_final(step=step, files=files, **facts)  # type: ignore[arg-type]
    tree.history.mkdir(exist_ok=True)
    evaluated = range(STEPS // 2, step + 1, STEPS // 2)
    (tree.history / "evaluations.npz").write_bytes(curve([(each, [each - 1.0, each + 1.0]) for each in evaluated]))
    rows = "".join(f"{-each},10,{each / 10},{each}\n" for each in range(10, step + 1, 10))
    (tree.history / "monitor.csv").write_text(f'#{{"t_start": 0.0}}\nr,l,t,step\n{rows}')
    return step
