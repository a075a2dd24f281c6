"""Which run of the journal a training tree is of."""

from __future__ import annotations

from contextlib import closing

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.config import RunConfig
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.trees.inspect import look_at


def current_run(config: RunConfig, journal: Journal) -> RunRow | None:
    """The run whose checkpoints lie in the tree of `config`, else the newest that trained there; None for none.

    Manifests are trusted here: no other file is read.
    """
    views = look_at(TrainingTree(config.tree, config.scenario_name), verify=False)
    lineage = next((view.manifest.lineage.run_id for view in views if view.manifest), None)
    return journal.run_of(config.tree, lineage)


def is_begun(config: RunConfig) -> bool:
    """Whether the journal knows a run of the tree of `config`; nothing is made, not even the folder of the journal.

    Raises:
        StorageError: the journal is there and cannot be read.
    """
    if not config.journal.is_file():
        return False
    with closing(Journal.to_read(config.journal)) as journal:
        return bool(journal.runs_of(config.tree))
