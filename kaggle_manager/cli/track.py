"""`track`: a run in MLflow or Weights & Biases."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import asdict
from typing import Annotated

import typer

from kaggle_manager.cli.common import JsonOption, answer, libraries_needed_for
from kaggle_manager.cli.other_trees import another_tree_may_be_meant
from kaggle_manager.cli.selection import TreeOf, as_command
from kaggle_manager.integrations import Tracker
from kaggle_manager.system.formatting import count


@as_command
def track(
    to: Annotated[Tracker, typer.Option("--to", help="MLflow, or Weights & Biases.")],
    project: Annotated[
        str | None,
        typer.Option(help="Experiment of MLflow, or project of Weights & Biases. [default: the section's name]"),
    ] = None,
    *,
    of: TreeOf,
    as_json: JsonOption = False,
) -> None:
    """Send a run's curves and sessions to MLflow or W&B.

    Configuration, evaluations, episodes and sessions become one run there. Run it again at any time to send what is
    new; nothing is sent twice. Address and credentials are those of the tracker's own library on this machine.

    Examples:

      km track section_7_6_rl_performance --to mlflow

      km track section_7_6_rl_performance --to wandb --project traffic
    """
    from kaggle_manager.integrations.track import track_run

    config = of.config()
    printed = contextlib.redirect_stdout(sys.stderr)  # the libraries' own lines are no data
    with another_tree_may_be_meant(of), libraries_needed_for(f"tracking to {to}"), printed:
        done = track_run(config, to, project, time.time())
    news = "nothing new" if done.up_to_date else f"{count(done.points, 'point')} sent"
    lines = [f"run {done.run_id} is {to} run {done.tracked_as}: {news}", *([f"  {done.where}"] if done.where else [])]
    answer({"schema": 1, **asdict(done)}, lines, as_json=as_json)
