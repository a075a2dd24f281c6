"""An environment may hold whatever pickles; what does not unpickle any more costs exactness, never the training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from trainer_runs import Holding, origin_of, session, settings

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.errors import CheckpointIncompatible
from kaggle_manager.trainer.sb3.env_state import EntryPoint
from kaggle_manager.trainer.sb3.pickles import Apart

pytestmark = pytest.mark.slow

SHORT: dict[str, Any] = {"total": 100, "evaluate_every": 1000}


class NoSummary:
    """Pickles, but takes itself apart only for a pickler: no digest can be made of it."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        if protocol != 5:
            raise TypeError("only by the newest protocol")
        return NoSummary, ()


def with_an_expression() -> Holding:
    return Holding(re.compile("^lane_[0-9]+$"))


def without_a_summary() -> Holding:
    return Holding(NoSummary())


def head_of(tree: Path) -> Any:
    newest = CheckpointStore(TrainingTree(tree, "cart")).find_latest_checkpoint()
    assert newest is not None
    return newest.manifest


def test_an_environment_with_a_compiled_regular_expression_is_saved_and_certified(tmp_path: Path) -> None:
    assert session(settings(tmp_path / "tree", environment=with_an_expression, **SHORT)).kind == "completed"
    head = head_of(tmp_path / "tree")
    assert head.step == 100
    assert head.certificate


def test_a_certificate_that_cannot_be_computed_is_empty_and_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = session(settings(tmp_path / "tree", environment=without_a_summary, **SHORT))
    assert (outcome.kind, outcome.digests) == ("completed", {})
    assert head_of(tmp_path / "tree").certificate == ""
    assert "only by the newest protocol" in capfd.readouterr().out


@pytest.mark.parametrize("workers", [False, True], ids=["in this process", "in a worker process"])
def test_what_does_not_unpickle_any_more_breaks_exactness_and_nothing_else(
    workers: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    renamed = tmp_path / "renamed"
    environment = EntryPoint("trainer_runs:with_a_library", {"renamed": str(renamed)})
    chosen = settings(tmp_path / "tree", environment=environment, processes=workers, **SHORT)
    session(chosen, max_steps=60)
    renamed.touch()
    assert session(chosen).kind == "completed"
    [broken] = head_of(tmp_path / "tree").exact["broken"]
    assert "the environment could not be put back (ModuleNotFoundError" in broken["why"]
    assert broken["why"] in capfd.readouterr().out


@pytest.mark.parametrize("name", ["random", "action_space", "episode_statistics", "observations"])
def test_what_libraries_keep_may_be_of_another_form(name: str, tmp_path: Path) -> None:
    chosen = settings(tmp_path / "tree", **SHORT)
    session(chosen, max_steps=60)
    origin = origin_of(chosen.tree)
    origin.items[name] = {"python": "of another version"} if name == "random" else 3
    assert session(chosen, origin=origin).kind == "completed"
    [broken] = head_of(chosen.tree).exact["broken"]
    assert f"the {name.replace('_', ' ')} could not be put back" in broken["why"]


def test_what_a_training_cannot_go_on_without_is_refused_in_words(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "tree", **SHORT)
    session(chosen, max_steps=60)
    origin = origin_of(chosen.tree)
    origin.items["replay"] = Apart(b"cgone\nClass\n.")
    with pytest.raises(CheckpointIncompatible, match="The replay in the checkpoint's state does not open"):
        session(chosen, origin=origin)
