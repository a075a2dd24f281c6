"""A training that only another variant was made of is not found; the error then names the option it is found by."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kaggle_manager.cli.selection import Selection
from kaggle_manager.errors import NotFound, error_context

if TYPE_CHECKING:
    from kaggle_manager.config import RunConfig


@contextlib.contextmanager
def another_tree_may_be_meant(of: Selection) -> Iterator[None]:
    """Make `hint` the next step of a `NotFound` where there is one; each of them says what is safe and what is next."""
    try:
        yield
    except NotFound as error:
        config = of.config()
        begin = "" if _was_trained(config) else f"train it: {config.command('run')}"
        meant = hint(of)
        with error_context(
            safe=lambda said: said or "nothing was changed", next_step=lambda said: meant or said or begin
        ):
            raise error


def hint(of: Selection) -> str:
    """The options of the trees that are here when nothing was trained of what `of` names; "" when something was."""
    from kaggle_manager.trees.here import trees_here

    config = of.config()
    if of.quick or of.seed is not None or _was_trained(config):
        return ""
    others = [
        each.which.options(beside=config.which) for each in trees_here(config.project_root, of.section, of.workdir)
    ]
    if others == ["--quick"]:
        return "only a quick run is here: add --quick to the same command"
    return f"here is only what the same command finds with {' or with '.join(others)}" if others else ""


def _was_trained(config: RunConfig) -> bool:
    from kaggle_manager.runs.journal import Journal

    if any(config.tree.rglob("*.manifest.json")):
        return True
    with contextlib.closing(Journal.to_read(config.journal)) as journal:
        return journal.run_of(config.tree) is not None
