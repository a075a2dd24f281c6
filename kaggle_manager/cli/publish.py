"""`publish`: the best model of a run on the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kaggle_manager.cli.common import (
    JsonOption,
    answer,
    libraries_needed_for,
    load_module,
    reporter,
)
from kaggle_manager.cli.other_trees import another_tree_may_be_meant
from kaggle_manager.cli.selection import TreeOf, as_command
from kaggle_manager.errors import ConfigError
from kaggle_manager.system.formatting import count

if TYPE_CHECKING:
    from kaggle_manager.checkpoints import Checkpoint
    from kaggle_manager.config import RunConfig


@as_command
def publish(
    url: Annotated[str, typer.Argument(help="Where to: hf://OWNER/NAME.")],
    private: Annotated[
        bool, typer.Option("--private", help="A repository that is made can be read by you alone.")
    ] = False,
    video: Annotated[bool, typer.Option(help="With a video of an episode, where the environment draws one.")] = True,
    preview: Annotated[
        Path | None, typer.Option(help="Write what would be published into this folder; nothing is sent.")
    ] = None,
    *,
    of: TreeOf,
    as_json: JsonOption = False,
) -> None:
    """Publish the best model on the Hugging Face Hub.

    With it go its running statistics, a model card with results, configuration and lineage, its curves, and a video of
    an episode. Credentials are those of the Hub's own library: `hf auth login`, or HF_TOKEN. The same model published
    again changes nothing; a better one takes its place.

    Examples:

      km publish section_7_6_rl_performance hf://me/traffic-light

      km publish section_7_6_rl_performance hf://me/traffic-light --private --no-video

      km publish section_7_6_rl_performance hf://me/traffic-light --preview card
    """
    from kaggle_manager.integrations.hub import preview_model, publish_model

    def film(checkpoint: Checkpoint) -> bytes:
        if not video:
            raise ConfigError("none was asked for")
        with libraries_needed_for("a video"):
            return _video_of(config, checkpoint)

    with reporter(as_json) as shown:
        if preview and private:
            raise ConfigError("--private is for a repository, and a preview makes none.", next_step="leave one out")
        config = of.config()
        printed = contextlib.redirect_stdout(sys.stderr)  # what libraries and environments print is no data
        with another_tree_may_be_meant(of), libraries_needed_for("publishing"), printed:
            if preview:
                done = preview_model(config, url, preview, film=film, now=time.time(), tell=shown.status)
            else:
                done = publish_model(config, url, film=film, private=private, now=time.time(), tell=shown.status)
        if done.no_video and video:
            shown.warn(f"{'written' if preview else 'published'} without a video: {done.no_video}")
    score = "" if done.score is None else f", score {done.score:.6g}"
    news = "was there already" if done.up_to_date else "is written to a folder" if preview else "is published"
    lines = [f"the best model of run {done.run_id}, step {done.step:,}{score}, {news}: {done.url}"]
    at = "nothing was sent" if preview else f"commit {done.commit[:12]}"
    lines.append(f"  {count(len(done.files), 'file')}, {at}")
    answer({"schema": 1, **asdict(done)}, lines, as_json=as_json)


def _video_of(config: RunConfig, checkpoint: Checkpoint) -> bytes:
    agent = config.section.agent(config.scenario_name)
    agent = agent.for_quick() if config.quick else agent
    module = load_module("kaggle_manager.trainer.sb3.replay_video", needed_for="a video")
    video: bytes = module.video_of(
        checkpoint,
        agent,
        section=config.section,
        name=config.scenario_name,
        project=config.project_root,
        state=config.state,
    )
    return video
