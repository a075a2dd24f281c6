"""`checkpoints`: what to do with the checkpoints of a training tree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaggle_manager.cli.common import (
    DEFAULT_SECTION,
    QuickOption,
    ScenarioOption,
    SectionOption,
    WorkdirOption,
    errors_as_messages,
    group,
    run_module,
)
from kaggle_manager.errors import ConfigError

EXCHANGE = "kernels.rl_training.sb3_exchange"
checkpoints = group("What to do with checkpoints.")


@checkpoints.command("export-sb3")
def export_sb3(
    which: Annotated[str, typer.Argument(help="Timesteps of a checkpoint, or `latest`.")],
    folder: Annotated[Path, typer.Argument(help="Where the two files are written.")],
    section: SectionOption = DEFAULT_SECTION,
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


@checkpoints.command("import-sb3")
def import_sb3(
    model: Annotated[Path, typer.Argument(help="Model saved by stock Stable-Baselines3.")],
    replay_buffer: Annotated[Path | None, typer.Option(help="Its replay buffer, as stock saves it.")] = None,
    section: SectionOption = DEFAULT_SECTION,
    scenario: ScenarioOption = None,
    workdir: WorkdirOption = None,
) -> None:
    """Begin a training tree from such files, saying what exactness they do not hold.

    Example:

      kaggle-manager checkpoints import-sb3 model.zip --replay-buffer buffer.pkl --workdir elsewhere
    """
    options = {"--replay-buffer": replay_buffer, "--section": section, "--scenario": scenario, "--workdir": workdir}
    given = [text for name, value in options.items() if value is not None for text in (name, str(value))]
    with errors_as_messages():
        run_module(EXCHANGE, ["import", str(model), *given], needed_for="the import")
