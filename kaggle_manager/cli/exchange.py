"""`checkpoints export-sb3|import-sb3`: to and from stock Stable-Baselines3."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kaggle_manager.cli.common import JsonOption, TrustOption, answer, load_module, print_json, reporter
from kaggle_manager.cli.other_trees import another_tree_may_be_meant
from kaggle_manager.cli.selection import TreeOf, as_command
from kaggle_manager.errors import ConfigError
from kaggle_manager.system.scratch import scratch_folder

if TYPE_CHECKING:
    from kaggle_manager.checkpoints import Manifest
    from kaggle_manager.console.reporter import Reporter

EXCHANGE = "kaggle_manager.trainer.sb3.sb3_exchange"


@as_command
def export_sb3(
    which: Annotated[str, typer.Argument(help="Timesteps of a checkpoint, or `latest`.")],
    folder: Annotated[Path, typer.Argument(help="Where the files are written.")],
    trust: TrustOption = False,
    *,
    of: TreeOf,
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint as files of stock Stable-Baselines3.

    That is the model, the running normalisation and the replay buffer.

    Example:

      km checkpoints export-sb3 section_7_6_rl_performance latest exported
    """
    from kaggle_manager.checkpoints.vouched import Vouched

    if which != "latest" and not which.isdecimal():
        raise ConfigError(
            f"{which!r} is no checkpoint that can be exported; timesteps such as 45000, or latest, are accepted.",
            safe="nothing was written",
            next_step=f"name one that is listed as latest: {of.config().command('checkpoints ls')}\n  those of best "
            "and final are files that stock Stable-Baselines3 loads as they are",
        )
    config = of.config()
    config.section.agent(config.scenario_name)
    step = None if which == "latest" else int(which)
    exchange = load_module(EXCHANGE, needed_for="the export")
    again = config.command("checkpoints export-sb3", which, folder, "--trust")

    def check(manifest: Manifest) -> None:
        Vouched(config.state).require(manifest, tree=config.tree, doing="The export", again=again, trust=trust)

    with another_tree_may_be_meant(of):
        found = exchange.export_sb3(config.tree, config.scenario_name, step, folder, check=check)
        files = [str(path) for path in found]
    answer({"schema": 1, "files": files}, files, as_json=as_json)


@as_command
def import_sb3(
    model: Annotated[Path, typer.Argument(help="Model saved by stock Stable-Baselines3.")],
    replay_buffer: Annotated[Path | None, typer.Option(help="Its replay buffer, as stock saves it.")] = None,
    vecnormalize: Annotated[
        Path | None, typer.Option(help="Its running normalisation, as VecNormalize.save() writes it.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Archive the training that is there first.")] = False,
    *,
    of: TreeOf,
    as_json: JsonOption = False,
) -> None:
    """Start a training from files of stock Stable-Baselines3.

    The checkpoints record what the files do not contain, and that the training is not bit-identical from there on.

    Examples:

      km checkpoints import-sb3 section_7_6_rl_performance model.zip --replay-buffer buffer.pkl

      km checkpoints import-sb3 section_7_6_rl_performance model.zip --vecnormalize vecnormalize.pkl
    """

    def take_in(below: Path | None) -> Any:
        which = {"vecnormalize": vecnormalize, "seed": of.seed, "quick": of.quick, "state": config.state}
        return exchange.import_here(of.section, of.scenario, model, replay_buffer, below, **which)

    with reporter(as_json) as shown:
        config = of.config()
        config.section.agent(config.scenario_name)
        exchange = load_module(EXCHANGE, needed_for="the import")
        with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
            taken = _take_in_beside(take_in, of, config.state, shown) if replace else take_in(of.workdir)
        why = taken.manifest.exact["broken"][-1]["why"]
        shown.line(f"step {taken.step:,} is the newest checkpoint of {config.tree}")
        shown.warn(f"bits are not promised from here: {why}")
    if as_json:
        facts = {"tree": str(config.tree), "step": taken.step, "manifest_sha256": taken.manifest.sha256}
        print_json({"schema": 1, **facts, "not_exact": why})


def _take_in_beside(take_in: Any, of: TreeOf, state: Path, shown: Reporter) -> Any:
    """Import into a folder of its own, then restore that: a pair that does not fit leaves the tree as it is."""
    state.mkdir(parents=True, exist_ok=True)
    with scratch_folder("km_import_", within=state) as folder:
        taken = take_in(folder)
        source = of.config(workdir=folder).tree
        of.manager(shown).restore_copy(of.config(), source)
    return taken
