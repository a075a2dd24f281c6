"""`checkpoints export-sb3|import-sb3`: to and from stock Stable-Baselines3."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from kaggle_manager.cli.common import (
    QuickOption,
    ScenarioOption,
    SectionOption,
    WorkdirOption,
    errors_as_messages,
    run_module,
)
from kaggle_manager.errors import ConfigError
from kaggle_manager.progress import Reporter

EXCHANGE = "kernels.rl_training.sb3_exchange"


def export_sb3(
    which: Annotated[str, typer.Argument(help="Timesteps of a checkpoint, or `latest`.")],
    folder: Annotated[Path, typer.Argument(help="Where the two files are written.")],
    *,
    section: SectionOption,
    scenario: ScenarioOption = None,
    quick: QuickOption = False,
    workdir: WorkdirOption = None,
) -> None:
    """Write a checkpoint as a model and a replay buffer that stock Stable-Baselines3 loads.

    Example:

      kaggle-manager checkpoints export-sb3 latest exported
    """
    from kaggle_manager.config import build_config

    with errors_as_messages():
        if which != "latest" and not which.isdecimal():
            raise ConfigError(f"{which!r} is no checkpoint; timesteps such as 45000, or latest, are accepted.")
        config = build_config(section, scenario=scenario, quick=quick, workdir=workdir)
        step = [] if which == "latest" else ["--step", which]
        tree = ["--tree", str(config.tree), "--scenario", config.scenario_name]
        run_module(EXCHANGE, ["export", str(folder), *tree, *step], needed_for="the export")


def import_sb3(
    model: Annotated[Path, typer.Argument(help="Model saved by stock Stable-Baselines3.")],
    replay_buffer: Annotated[Path | None, typer.Option(help="Its replay buffer, as stock saves it.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Archive the training that is there first.")] = False,
    *,
    section: SectionOption,
    scenario: ScenarioOption = None,
    workdir: WorkdirOption = None,
) -> None:
    """Begin a training tree from such files, saying what exactness they do not hold.

    Examples:

      kaggle-manager checkpoints import-sb3 model.zip --replay-buffer buffer.pkl --workdir elsewhere

      kaggle-manager checkpoints import-sb3 model.zip --replace
    """

    def take_in(below: Path | None) -> None:
        options = {"--replay-buffer": replay_buffer, "--section": section, "--scenario": scenario, "--workdir": below}
        given = [text for name, value in options.items() if value is not None for text in (name, str(value))]
        run_module(EXCHANGE, ["import", str(model), *given], needed_for="the import")

    with errors_as_messages(), Reporter() as reporter:
        if not replace:
            take_in(workdir)
        _take_in_beside(take_in, section, scenario, workdir, reporter)


def _take_in_beside(
    take_in: Callable[[Path], None], section: str, scenario: str | None, workdir: Path | None, reporter: Reporter
) -> None:
    """Import into a folder of its own, then restore that: a pair that does not fit leaves the tree as it is."""
    from kaggle_manager.config import build_config
    from kaggle_manager.manager import ValidationKaggleManager

    config = build_config(section, scenario=scenario, workdir=workdir)
    config.state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="import-", dir=config.state) as folder:
        try:
            take_in(Path(folder))
        except typer.Exit as ended:
            if ended.exit_code:
                raise
        source = build_config(section, scenario=scenario, workdir=Path(folder), project_root=config.project_root).tree
        manager = ValidationKaggleManager(workdir=workdir, project_root=config.project_root, reporter=reporter)
        manager.restore_copy(section, source, scenario=scenario)
