"""A training that only a quick run was made of is not found without `--quick`: whoever looks for it is told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from kaggle_manager.config import STATE_FOLDER, RunConfig, build_config
from kaggle_manager.errors import NotFound, error_context
from kaggle_manager.runs.journal import Journal

HINT = "only a quick run is here: add --quick to the same command"


@contextlib.contextmanager
def quick_may_be_meant(config: RunConfig) -> Iterator[None]:
    """Say so in what comes next when nothing is found."""
    try:
        yield
    except NotFound as error:
        with error_context(next_step=HINT if only_quick_is_here(config) else None):
            raise error


def only_quick_is_here(config: RunConfig) -> bool:
    """Whether nothing was trained of what `config` names but its quick variant."""
    if config.quick:
        return False
    elsewhere = None if config.state == config.project_root / STATE_FOLDER else config.state
    quick = build_config(
        config.section.name,
        scenario=config.scenario_name,
        seed=config.seed,
        quick=True,
        workdir=elsewhere,
        project_root=config.project_root,
        environ={},
    )
    return not _was_trained(config, config.tree) and _was_trained(config, quick.tree)


def _was_trained(config: RunConfig, tree: Path) -> bool:
    if any(tree.rglob("*.manifest.json")):
        return True
    if not config.journal.exists():
        return False
    with closing(Journal.to_read(config.journal)) as journal:
        return journal.run_of(tree) is not None
