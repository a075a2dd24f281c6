"""A trained policy is filmed as its evaluations play it; an environment that does not draw says so."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from line_project import FRAMES, MODULE, make_line, train_line

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, TrainingTree
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.trainer.sb3 import replay_video
from kaggle_manager.trainer.sb3.evaluation import Evaluator
from kaggle_manager.trainer.sb3.replay_video import play

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunConfig]:
    project = make_line(tmp_path_factory.mktemp("line"))
    config = train_line(project)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(project))
        yield config


def best(config: RunConfig) -> Checkpoint:
    found = CheckpointStore(TrainingTree(config.tree, config.scenario_name)).best()
    assert found is not None
    return found


def scenario_of(config: RunConfig) -> ScenarioConfig:
    return config.section.agent(config.scenario_name)


def test_the_video_is_the_first_episode_of_the_evaluations(line: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[float] = []
    real = Evaluator.__call__

    def noting(self: Evaluator, *given: object) -> object:
        result = real(self, *given)  # type: ignore[arg-type]
        played.extend(result.returns)
        return result

    monkeypatch.setattr(Evaluator, "__call__", noting)
    frames: list[np.ndarray] = []
    before = {path: path.read_bytes() for path in line.tree.rglob("*") if path.is_file()}
    play(best(line), scenario_of(line), lambda frame, rate: frames.append(frame))
    assert len(frames) == FRAMES
    places = [int(frame[0, :, 0].argmax()) - 32 for frame in frames]
    assert -5 <= places[0] <= 5
    assert played == [-float(sum(map(abs, places[1:])))], "the pictures are those of the episode that was played"
    assert {path: path.read_bytes() for path in line.tree.rglob("*") if path.is_file()} == before


def test_a_long_episode_is_cut(line: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_video, "MOST_FRAMES", 5)
    frames: list[np.ndarray] = []
    play(best(line), scenario_of(line), lambda frame, rate: frames.append(frame))
    assert len(frames) == 6


def test_an_environment_that_does_not_draw_says_so(line: RunConfig) -> None:
    silent = scenario_of(line).model_copy(update={"environment": f"{MODULE}:silent"})
    import line_that_is_drawn as module

    module.silent = lambda render_mode=None: module.Line(None)
    with pytest.raises(ConfigError, match="draws no pictures: render"):
        play(best(line), silent, lambda frame, rate: None)
