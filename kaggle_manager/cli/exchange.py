"""`checkpoints export-sb3|import-sb3`: to and from stock Stable-Baselines3."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from kaggle_manager.cli.common import (
    JsonOption,
    QuickOption,
    ScenarioOption,
    SectionOption,
    WorkdirOption,
    errors_as_messages,
    load_module,
    print_json,
)
from kaggle_manager.cli.quick import quick_may_be_meant
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import ConfigError

EXCHANGE = "kaggle_manager.trainer.sb3.sb3_exchange"


def export_sb3(
    which: Annotated[str, typer.Argument(help="Timesteps of a checkpoint, or `latest`.")],
    folder: Annotated[Path, typer.Argument(help="Where the two files are written.")],
    *,
    section: SectionOption,
    scenario: ScenarioOption = None,
    quick: QuickOption = False,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint as a model and a replay buffer that stock Stable-Baselines3 loads.

    Example:

      kaggle-manager checkpoints export-sb3 latest exported
    """
    with errors_as_messages(as_json=as_json):
        if which != "latest" and not which.isdecimal():
            raise ConfigError(
                f"{which!r} is no checkpoint that can be exported; timesteps such as 45000, or latest, are accepted.",
                safe="nothing was written",
                next_step="name one that `kaggle-manager checkpoints ls` lists as latest; those of best and final are "
                "files that stock Stable-Baselines3 loads as they are",
            )
        config = build_config(section, scenario=scenario, quick=quick, workdir=workdir)
        step = None if which == "latest" else int(which)
        exchange = load_module(EXCHANGE, needed_for="the export")
        with quick_may_be_meant(config):
            files = [str(path) for path in exchange.export_sb3(config.tree, config.scenario_name, step, folder)]
        if as_json:
            print_json({"schema": 1, "files": files})
        else:
            print("\n".join(files))


def import_sb3(
    model: Annotated[Path, typer.Argument(help="Model saved by stock Stable-Baselines3.")],
    replay_buffer: Annotated[Path | None, typer.Option(help="Its replay buffer, as stock saves it.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Archive the training that is there first.")] = False,
    *,
    section: SectionOption,
    scenario: ScenarioOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a training tree from such files, saying what exactness they do not hold.

    Examples:

      kaggle-manager checkpoints import-sb3 model.zip --replay-buffer buffer.pkl --workdir elsewhere

      kaggle-manager checkpoints import-sb3 model.zip --replace
    """

    def take_in(below: Path | None) -> Any:
        return exchange.import_here(section, scenario, model, replay_buffer, below)

    progress = sys.stderr if as_json else sys.stdout
    with errors_as_messages(as_json=as_json), Reporter(progress) as reporter:
        config = build_config(section, scenario=scenario, workdir=workdir)
        exchange = load_module(EXCHANGE, needed_for="the import")
        with contextlib.redirect_stdout(progress):
            taken = _take_in_beside(take_in, config, workdir, reporter) if replace else take_in(workdir)
        why = taken.manifest.exact["broken"][-1]["why"]
        reporter.line(f"step {taken.step:,} is the newest checkpoint of {config.tree}")
        reporter.warn(f"bits are not promised from here: {why}")
    if as_json:
        facts = {"tree": str(config.tree), "step": taken.step, "manifest_sha256": taken.manifest.sha256}
        print_json({"schema": 1, **facts, "not_exact": why})


def _take_in_beside(take_in: Any, config: RunConfig, workdir: Path | None, reporter: Reporter) -> Any:
    """Import into a folder of its own, then restore that: a pair that does not fit leaves the tree as it is."""
    from kaggle_manager.orchestrator.manager import ValidationKaggleManager

    names: dict[str, Any] = {"section": config.section.name, "scenario": config.scenario_name}
    config.state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="import-", dir=config.state) as folder:
        taken = take_in(Path(folder))
        source = build_config(**names, workdir=Path(folder), project_root=config.project_root).tree
        manager = ValidationKaggleManager(workdir=workdir, project_root=config.project_root, reporter=reporter)
        manager.restore_copy(source=source, **names)
    return taken
