"""Which training trees of a section are here: of its scenarios, their quick runs and their seeds."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from kaggle_manager.checkpoints.atomic_swap import check_place
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.sections.project import get_section


def trees_here(project: Path, section: str, workdir: Path | None) -> Iterator[RunConfig]:
    """The configuration of each tree that holds a checkpoint; the journal is not asked, and may be lost.

    Args:
        workdir: below which they lie; None: the project itself.

    Raises:
        StorageError: where one belongs is something that can be none.
    """
    loaded = get_section(project, section)
    for scenario in loaded.scenarios:
        for quick in (False, True):
            build = partial(build_config, loaded, workdir=workdir, project_root=project, environ={})
            own = build(scenario=scenario, quick=quick)
            check_place(own.tree)
            for seed in (None, *_seeds_beside(own.tree)):
                config = build(scenario=scenario, quick=quick, seed=seed)
                if any(config.tree.rglob("*.manifest.json")):
                    yield config


def _seeds_beside(tree: Path) -> list[int]:
    found = (re.fullmatch(r".*_seed_(\d+)", path.name) for path in tree.parent.glob(f"{glob.escape(tree.name)}_seed_*"))
    return sorted(int(each[1]) for each in found if each)
