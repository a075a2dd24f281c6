"""A publication is one commit of verified bytes, says what the run says, touches nothing else and shows no secret."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from loopback_hub import Hub, Repository, running, spoken_to_by_the_library
from small_trees import SECTION, flip
from tracked_world import IDENTITY, RUN, begin, grow
from typer.testing import CliRunner

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.cli import publish as command
from kaggle_manager.cli.commands import app
from kaggle_manager.errors import AuthError, CheckpointNotFound, ConfigError, Unavailable

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # those of the library's own code
    pytest.mark.skipif(
        find_spec("huggingface_hub") is None,
        reason="no huggingface_hub: pip install -c constraints.txt -e '.[train,dev,hub]'",
    ),
]
TOKEN = "hf_" + "93f1a7secret"
MODEL = "me/walker"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in [name for name in os.environ if name.startswith(("HF_", "KM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with running(TOKEN) as hub:
        spoken_to_by_the_library(hub, monkeypatch, str(tmp_path / "cache"))
        yield hub


def publish(folder: Path, *options: str, code: int = 0, to: str = MODEL) -> dict[str, Any]:
    line = ["publish", SECTION, f"hf://{to}", "--workdir", str(folder), "--json", *options]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == code, done.output
    assert TOKEN not in done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_preview_needs_no_token_and_writes_what_would_be_sent(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_video_of", lambda *_: b"a video")
    config = begin(tmp_path / "work")
    grow(config, 1)
    sent = publish(tmp_path / "work")
    monkeypatch.delenv("HF_TOKEN")
    folder, before = tmp_path / "card", len(hub.repositories[MODEL].commits)
    refused = publish(tmp_path / "work", "--preview", str(folder), "--private", code=2)
    assert "--private" in refused["why"]
    assert not folder.exists()
    done = publish(tmp_path / "work", "--preview", str(folder))
    assert (done["url"], done["commit"], done["files"]) == (str(folder), "", sent["files"])
    there = {name: data for name, data in hub.repositories[MODEL].files.items() if name != ".gitattributes"}
    assert {name: (folder / name).read_bytes() for name in done["files"]} == there
    assert len(hub.repositories[MODEL].commits) == before
    refused = publish(tmp_path / "work", "--preview", str(folder), code=2)
    assert "There are files in" in refused["why"]


def test_model_statistics_page_and_curves_are_one_commit_and_a_second_call_changes_nothing(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(command, "_video_of", lambda *_: b"a video")
    config = begin(tmp_path / "work")
    grow(config, 1)
    grow(config, 2)
    done = publish(tmp_path / "work")
    assert (done["run_id"], done["step"], done["score"], done["no_video"]) == (RUN, 200, 200.0, "")
    there = hub.repositories[MODEL]
    assert len(there.commits) == 2, "that which made the repository, and one"
    assert set(there.files) == {".gitattributes", *done["files"]}
    assert there.files["best_model.zip"] == b"model 200"
    assert there.files["vecnormalize.pkl"] == b"statistics 200"
    assert there.files["replay.mp4"] == b"a video"
    assert b"<svg" in there.files["curve.svg"]
    card = huggingface_hub.ModelCard(there.files["README.md"].decode())
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("mean_reward", "200.00 +/- 1.00")
    assert (result.dataset_name, card.data.library_name) == ("Walk-v1", "stable-baselines3")
    facts = json.loads(there.files["training.json"])
    assert (facts["seed"], facts["exactness"]) == (3, "Its bits are those of a training that was never interrupted.")
    assert [row["last_step"] for row in facts["sessions"]] == [100, 200]
    assert facts["identity"]["hyperparameters"]["learning_rate"] == 0.001
    page = there.files["README.md"].decode()
    assert facts["manifest_sha256"] in page
    assert "PPO.load(" in page
    written = there.files["README.md"] + there.files["training.json"]
    assert str(tmp_path).encode() not in written
    again = publish(tmp_path / "work")
    assert (again["up_to_date"], again["commit"], len(there.commits)) == (True, done["commit"], 2)
    everything = [path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in data for data in [*everything, *there.files.values()])


def test_a_better_model_takes_the_place_of_the_other_with_a_video_of_its_own(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    monkeypatch.setattr(command, "_video_of", lambda _, checkpoint: made.append(checkpoint.step) or b"%d" % made[-1])
    config = begin(tmp_path / "work")
    grow(config, 1)
    publish(tmp_path / "work", "--private")
    assert hub.repositories[MODEL].private
    assert publish(tmp_path / "work")["up_to_date"]
    grow(config, 2, is_last=True)
    publish(tmp_path / "work")
    assert made == [100, 200], "one for each model, and none for the same one again"
    assert hub.repositories[MODEL].files["replay.mp4"] == b"200"
    grow(config, 3)
    without = publish(tmp_path / "work", "--no-video")
    assert without["no_video"] == "none was asked for"
    assert "replay.mp4" not in hub.repositories[MODEL].files, "it was of another model"


def test_a_repository_that_holds_something_else_is_left_alone(hub: Hub, tmp_path: Path) -> None:
    grow(begin(tmp_path / "work"), 1)
    hub.repositories[MODEL] = Repository(private=False)
    hub.repositories[MODEL].commit({"README.md": b"# Somebody's\n"})
    said = publish(tmp_path / "work", code=ConfigError.exit_code)
    assert "files that are no publication" in said["why"]
    grow(begin(tmp_path / "one"), 1)
    publish(tmp_path / "one", "--no-video", to="me/one")
    facts = json.loads(hub.repositories["me/one"].files["training.json"]) | {"scenario": "another"}
    hub.repositories["me/one"].commit({"training.json": json.dumps(facts).encode()})
    said = publish(tmp_path / "one", to="me/one", code=ConfigError.exit_code)
    assert "holds the model of" in said["why"]
    later = json.dumps(facts | {"scenario": "later", "schema": 1_000}).encode()
    hub.repositories["me/one"].commit({"training.json": later})
    said = publish(tmp_path / "one", to="me/one", code=ConfigError.exit_code)
    assert "a later version of kaggle-manager" in said["why"]
    assert "update kaggle-manager" in said["next"]
    assert len(hub.repositories["me/one"].commits) == 4


def test_a_token_among_the_arguments_of_the_environment_is_not_published(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(begin(tmp_path / "work"), 1)
    monkeypatch.setenv("KAGGLE_KEY", "Walk-v1-as-a-key")
    monkeypatch.setitem(IDENTITY, "environment_kwargs", {"id": "Walk-v1", "key": "Walk-v1-as-a-key"})
    grow(begin(tmp_path / "other"), 1)
    said = publish(tmp_path / "other", "--no-video", code=ConfigError.exit_code)
    assert "KAGGLE_KEY" in said["why"]
    assert hub.repositories == {}
    publish(tmp_path / "work", "--no-video")


def test_what_keeps_a_model_from_being_published_is_said(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = begin(tmp_path / "work")
    assert publish(tmp_path / "work", code=CheckpointNotFound.exit_code)["error"] == "CheckpointNotFound"
    grow(config, 1)
    assert publish(tmp_path / "work", to="no-owner", code=2)["next"] == "write it as hf://OWNER/NAME"
    hub.refuses = 503
    assert publish(tmp_path / "work", code=Unavailable.exit_code)["human_action_required"] is False
    hub.refuses = 0
    monkeypatch.setenv("HF_TOKEN", "hf_" + "another")
    assert "HF_TOKEN" in publish(tmp_path / "work", code=AuthError.exit_code)["next"]
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    asked = len(hub.asked)
    assert "hf auth login" in publish(tmp_path / "work", code=AuthError.exit_code)["next"]
    assert len(hub.asked) == asked, "that needs no network"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    flip(TrainingTree(config.tree, config.scenario_name).best_model)
    publish(tmp_path / "work", code=CheckpointNotFound.exit_code)
    assert hub.repositories == {}
