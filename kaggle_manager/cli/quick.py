"""A training that only a quick run was made of is not found without `--quick`; the error then names that option."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kaggle_manager.cli.selection import Selection
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import NotFound, error_context
from kaggle_manager.runs.journal import Journal

HINT = "only a quick run is here: add --quick to the same command"


@contextlib.contextmanager
def quick_may_be_meant(of: Selection) -> Iterator[None]:
    """Make `HINT` the next step of a `NotFound` where it is true."""
    try:
        yield
    except NotFound as error:
        with error_context(next_step=HINT if only_quick_is_here(of) else None):
            raise error


def only_quick_is_here(of: Selection) -> bool:
    """Whether nothing was trained of what `of` names but its quick variant."""
    return not of.quick and not _was_trained(of.config()) and _was_trained(of.config(quick=True))


def _was_trained(config: RunConfig) -> bool:
    if any(config.tree.rglob("*.manifest.json")):
        return True
    if not config.journal.exists():
        return False
    with contextlib.closing(Journal.to_read(config.journal)) as journal:
        return journal.run_of(config.tree) is not None
