"""Input data: what is there, and in which version, is known before the push; sessions see it where Kaggle mounts it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from loopback_kaggle import Loopback
from scripted_kaggle import ScriptedKaggle, answer

from kaggle_manager.errors import ConfigError, Unavailable
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.platform import SessionRequest
from kaggle_manager.sections.inputs import read_input
from kaggle_manager.sessions.inputs import SettledInput, settle_inputs

SHELF = ("datasets/bob/roads", "competitions/titanic", "models/google/bert/tensorFlow2/base/2")
ASKED = ("bob/roads", "competition:titanic", "model:google/bert/tensorFlow2/base")


def settle(
    client: KaggleClient, *texts: str, trained_on: Mapping[str, int] | None = None
) -> tuple[list[SettledInput], list[str]]:
    told: list[str] = []
    return list(settle_inputs(client, [read_input(text) for text in texts], trained_on or {}, told.append)), told


@pytest.fixture
def kaggle(loopback: Callable[..., Loopback]) -> Loopback:
    """A local Kaggle with data of others in its folder of inputs; one of them is a link."""
    local = loopback()
    for place in SHELF[1:]:
        (local.root / "inputs" / place).mkdir(parents=True)
        (local.root / "inputs" / place / "a.csv").write_text(place)
    elsewhere = local.root.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.csv").write_text(SHELF[0])
    (local.root / "inputs/datasets/bob").mkdir(parents=True)
    try:
        (local.root / "inputs" / SHELF[0]).symlink_to(elsewhere, target_is_directory=True)
    except OSError:  # not everyone may make links on Windows
        shutil.copytree(elsewhere, local.root / "inputs" / SHELF[0])
    return local


@pytest.fixture
def client(kaggle: Loopback) -> Any:
    token = Credentials("token", None, kaggle.client.token, "a test")
    with KaggleClient(token, endpoint=kaggle.url, sleep=lambda seconds: None) as opened:
        yield opened


def test_a_session_sees_each_input_in_both_layouts(kaggle: Loopback, client: KaggleClient) -> None:
    settled, told = settle(client, *ASKED)
    assert told == []
    assert [each.input.version for each in settled] == [1, None, 2]
    assert [each.source for each in settled] == ["bob/roads", "titanic", "google/bert/tensorFlow2/base/2"]
    places = [str(place) for each in settled for place in each.input.places[:2]]
    root = "__import__('os').environ.get('KAGGLE_INPUT_DIR', '/kaggle/input')"
    code = f"for place in {places}: print(open({root} + '/' + place + '/a.csv').read())"
    push = SessionRequest(
        owner="local",
        slug="reads-inputs",
        source=code,
        inputs=(settled[0].source,),
        competitions=(settled[1].source,),
        models=(settled[2].source,),
    )
    pushed = client.start(push)
    assert kaggle.client.end("reads-inputs", int(pushed.version.id))[0] == "COMPLETE"
    assert kaggle.client.log("reads-inputs").split() == [place for place in SHELF for _ in range(2)]


@pytest.mark.parametrize(
    "text",
    ["bob/nothing", "bob/roads/versions/2", "competition:nothing", "model:google/bert/jax/base", f"{ASKED[2]}/3"],
)
def test_what_is_not_there_is_said_before_the_push(client: KaggleClient, text: str) -> None:
    with pytest.raises(ConfigError, match="not there") as refused:
        settle(client, text)
    assert text in refused.value.message
    assert "nothing was pushed" in refused.value.safe


def test_a_dataset_published_here_is_used_as_it_is_and_a_run_stays_with_its_version(
    kaggle: Loopback, client: KaggleClient, tmp_path: Path
) -> None:
    for text in ("one", "two"):
        (tmp_path / "a.csv").write_text(text)
        client.publish_inputs(owner="local", slug="my-roads", files=[tmp_path / "a.csv"], notes=text)
    settled, told = settle(client, "local/my-roads")
    assert (settled[0].input.version, settled[0].source, told) == (2, "local/my-roads", [])
    settled, told = settle(client, "local/my-roads", trained_on={"local/my-roads": 1})
    assert (settled[0].input.version, settled[0].source) == (1, "local/my-roads/1")
    assert told == ["the input local/my-roads has version 2 by now; this run stays with version 1"]
    assert settle(client, "local/my-roads/versions/1")[1] == [], "a version that was asked for is no news"
    root = "__import__('os').environ.get('KAGGLE_INPUT_DIR', '/kaggle/input')"
    code = f"print(open({root} + '/my-roads/a.csv').read())"
    pushed = client.start(SessionRequest("local", "reads-one", code, inputs=(settled[0].source,)))
    kaggle.client.end("reads-one", int(pushed.version.id))
    assert kaggle.client.log("reads-one").strip() == "one"


def versions(current: int, *numbers: int) -> Any:
    return answer({"currentVersionNumber": current, "versions": [{"versionNumber": number} for number in numbers]})


def test_a_version_that_kaggle_deleted_is_named() -> None:
    with ScriptedKaggle() as kaggle:
        kaggle.script("GetDataset", versions(4, 3, 4))
        with pytest.raises(ConfigError, match=r"not there in version 2, only in 3, 4"):
            settle(kaggle.client(), "bob/roads", trained_on={"bob/roads": 2})
        kaggle.script("GetDataset", versions(4))  # nothing is listed: nothing is known of the others
        assert settle(kaggle.client(), "bob/roads", trained_on={"bob/roads": 2})[0][0].source == "bob/roads/2"


def test_a_dataset_that_is_being_processed_is_waited_for() -> None:
    with ScriptedKaggle() as kaggle:
        kaggle.script("GetDataset", versions(0))
        with pytest.raises(Unavailable, match="no version yet"):
            settle(kaggle.client(), "bob/roads")


def test_what_cannot_be_found_out_of_a_competition_or_a_model_is_said_and_ends_nothing() -> None:
    texts = ["competition:titanic", "model:google/bert/unheardOf/base/2", "model:google/bert/keras/base"]
    with ScriptedKaggle() as kaggle:
        kaggle.script("ListDataFiles", answer({"code": 400, "message": "try again"}, 400))
        kaggle.script("GetModelInstance", answer({"code": 503, "message": "down"}, 503))
        settled, told = settle(kaggle.client(), *texts)
    assert [each.source for each in settled] == ["titanic", "google/bert/unheardOf/base/2", "google/bert/keras/base"]
    assert [text in line and "not known" in line for text, line in zip(texts, told, strict=True)] == [True] * 3


def test_rules_that_were_not_accepted_are_named_in_kaggles_words() -> None:
    with ScriptedKaggle() as kaggle:
        words = "You must accept this competition's rules before you'll be able to download files."
        kaggle.script("ListDataFiles", answer({"code": 403, "message": words}, 403))
        with pytest.raises(ConfigError, match="rules have to be accepted first") as refused:
            settle(kaggle.client(), "competition:titanic")
    assert words in refused.value.message


def test_a_push_names_its_sources_as_the_official_client_does() -> None:
    with ScriptedKaggle() as kaggle:
        kaggle.script("SaveKernel", answer({"versionNumber": 1, "url": "/code/alice/reads-inputs"}))
        push = SessionRequest("alice", "reads-inputs", "", inputs=("bob/roads/3",), competitions=("titanic",))
        kaggle.client().start(push)
        sent = kaggle.asked("SaveKernel")[0].json
    assert (sent["datasetDataSources"], sent["competitionDataSources"]) == (["bob/roads/3"], ["titanic"])
