"""Input data is named in Kaggle's own forms, found wherever Kaggle mounts it, and recognised by its files."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest

from kaggle_manager.checkpoints import compare
from kaggle_manager.errors import ConfigError, InputMissing
from kaggle_manager.sections.input_folders import files_in, find_inputs, identity_of_inputs, inputs_here, offer
from kaggle_manager.sections.inputs import LOCAL_FOLDER, VARIABLE, read_input
from kaggle_manager.sections.model import load_section

FORMS = {
    "alice/roads": ("dataset", None, "datasets/alice/roads", "roads"),
    "alice/roads/versions/3": ("dataset", 3, "datasets/alice/roads", "roads"),
    "competition:titanic": ("competition", None, "competitions/titanic", "titanic"),
    "model:google/bert/keras/base/2": ("model", 2, "models/google/bert/keras/base/2", "bert/keras/base/2"),
}
MODEL = "model:google/bert/tensorFlow2/base"


@pytest.mark.parametrize("text", FORMS)
def test_every_form_is_read_and_written_back(text: str) -> None:
    kind, version, *places = FORMS[text]
    found = read_input(text)
    assert (found.kind, found.version, found.text) == (kind, version, text)
    assert [str(place) for place in found.places] == places


@pytest.mark.parametrize("text", [*FORMS, f"{MODEL}/1", "model:google/bert/tensorFlow2/2B-it/1"])
def test_every_place_where_kaggle_may_mount_it_is_looked_at(text: str, tmp_path: Path) -> None:
    asked = read_input(text)
    for number, place in enumerate(asked.places):
        folder = tmp_path / str(number) / place
        folder.mkdir(parents=True)
        (folder / "a.csv").write_text("1")
        assert find_inputs(tmp_path / str(number), [asked]) == {asked.name: folder}


def test_a_mount_that_comes_late_is_waited_for_and_an_empty_one_is_none(tmp_path: Path) -> None:
    asked, at = read_input("alice/roads"), [0.0]
    (tmp_path / "roads").mkdir()

    def sleep(seconds: float) -> None:
        at[0] += seconds
        if at[0] >= 60:
            (tmp_path / "roads/a.csv").touch()

    assert find_inputs(tmp_path, [asked], wait_s=120, now=lambda: at[0], sleep=sleep)
    assert 60 <= at[0] < 61


def test_data_of_two_owners_under_one_name_is_never_taken_for_each_other(tmp_path: Path) -> None:
    inputs = [read_input("alice/roads"), read_input("bob/roads")]
    for place in ("roads", "datasets/bob/roads"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.csv").touch()
    with pytest.raises(InputMissing, match="The input alice/roads is"):
        find_inputs(tmp_path, inputs)
    assert find_inputs(tmp_path, inputs[1:]) == {"bob/roads": tmp_path / "datasets/bob/roads"}


def test_what_is_missing_is_named_beside_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "datasets/alice").mkdir(parents=True)
    with pytest.raises(InputMissing, match=r"alice/roads/versions/3, competition:titanic .*datasets/alice"):
        find_inputs(tmp_path, [read_input("alice/roads/versions/3"), read_input("competition:titanic")])


SECTION = """
name = "s"
title = "A section"
trains = true
default_scenario = "a"
inputs = ["alice/roads"]
[scenarios.a]
inputs = [{inputs}]
environment = "gymnasium:make"
algorithm = "DQN"
timesteps = 4
models = "data/models"
quick = {{ models = "data/quick" }}
"""


def section_with(tmp_path: Path, inputs: str) -> Path:
    file = tmp_path / "s" / "section.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(SECTION.format(inputs=inputs))
    return file


def test_a_scenario_reads_the_inputs_of_its_section_and_its_own(tmp_path: Path) -> None:
    section = load_section(section_with(tmp_path, '"competition:titanic", "alice/roads"'))
    assert [each.text for each in section.inputs_of("a")] == ["alice/roads", "competition:titanic"]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ('"roads"', "owner/dataset/versions/3"),
        ('"alice/roads/3"', "owner/dataset/versions/3"),
        ('"alice/roads/versions/0"', "owner/dataset"),
        ('"../roads"', "owner/dataset"),
        ('"alice/roads/versions/3/"', "owner/dataset"),
        ('"competition:"', "competition:name"),
        ('"model:google/bert"', "model:owner/model"),
        ('"https://www.kaggle.com/datasets/alice/roads"', "owner/dataset"),
        ('"alice/roads/versions/2"', "names alice/roads in two versions"),
        ("3", "string"),
    ],
)
def test_what_is_no_input_is_refused_with_the_forms_that_are(tmp_path: Path, inputs: str, said: str) -> None:
    with pytest.raises(ConfigError, match="inputs") as refused:
        load_section(section_with(tmp_path, inputs))
    assert said in refused.value.message


def test_the_users_code_is_told_where_its_inputs_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    offer({"alice/roads": tmp_path})
    assert json.loads(os.environ[VARIABLE]) == {"alice/roads": str(tmp_path)}


def test_on_this_machine_they_lie_as_on_kaggle_or_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    shelf = tmp_path / LOCAL_FOLDER
    inputs = [read_input(text) for text in ("alice/roads/versions/3", MODEL)]
    with pytest.raises(InputMissing) as missing:
        inputs_here(inputs, tmp_path)
    assert str(shelf / "datasets/alice/roads") in missing.value.next_step
    base = "models/google/bert/tensorFlow2/base"
    for place in ("datasets/alice/roads", f"{base}/1", f"{base}/12"):
        (shelf / place).mkdir(parents=True)
        (shelf / place / "a.csv").touch()
    assert inputs_here(inputs, tmp_path / "without", tmp_path) == {
        "alice/roads": shelf / "datasets/alice/roads",
        MODEL: shelf / base / "12",
    }
    monkeypatch.setenv(VARIABLE, json.dumps({"alice/roads": str(tmp_path)}))
    assert inputs_here(inputs[:1], tmp_path / "without") == {"alice/roads": tmp_path}


def test_files_are_recognised_wherever_they_lie(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep/a.csv").write_text("1,2")
        with contextlib.suppress(OSError):  # not everyone may make links on Windows
            (tmp_path / name / "nowhere").symlink_to(tmp_path / "gone")
    assert files_in(tmp_path / "one") == files_in(tmp_path / "two")
    (tmp_path / "two/deep/a.csv").write_text("1,2,3")
    assert files_in(tmp_path / "one") != files_in(tmp_path / "two")


def test_another_version_or_other_files_are_another_experiment(tmp_path: Path) -> None:
    before = {"algorithm": "DQN", "hyperparameters": {}, "environment_fingerprint": "e", "reward_fingerprint": "r"}
    asked = read_input("alice/roads/versions/3")
    (tmp_path / "a.csv").touch()
    trained = {**before, **identity_of_inputs([asked], {asked.name: tmp_path})}
    assert not compare(trained, trained).differences
    (tmp_path / "b.csv").touch()
    changed = {**before, **identity_of_inputs([asked], {asked.name: tmp_path})}
    assert [(each.field, each.severity.name) for each in compare(trained, changed).differences] == [
        ("input_files.alice/roads", "REFUSE")
    ]
    (other,) = compare(trained, changed).differences
    assert str(other).startswith("REFUSE Input alice/roads: its files are other ones than before")
    assert trained["input_files"][asked.name] not in str(other)
    accepted = compare(trained, changed, accept_changes=True)
    assert (accepted.refused, accepted.accepted) == (False, "input alice/roads")
    told = other.current
    assert compare(trained, changed).other_files == {asked.name: told}
    assert not compare(trained, changed, accept_changes=True, accepted_files={asked.name: told}).refused
    for files in ({}, {asked.name: "e" * 64}, {"bob/roads": told}):
        later = compare(trained, changed, accept_changes=True, accepted_files=files)
        assert (later.refused, later.can_be_accepted) == (True, True), "what was not told of was not accepted"
    with_it = {**changed, "inputs": {asked.name: 4}}
    assert not compare(trained, with_it, accept_changes=True, accepted_files={}).refused, "its version was accepted"
    newer = {**trained, **identity_of_inputs([asked.at(4)], {}), "input_files": trained["input_files"]}
    assert "checkpoint=3, current=4" in str(compare(trained, newer).differences[0])
    assert compare(trained, newer).refused
    assert compare(trained, {**trained, "inputs": {}}).refused
    [added] = compare(before, {**before, "inputs": {asked.name: None}}).differences
    assert f"{added.said} - {added.what_to_do}".startswith("it was trained without it - take it out of section.toml")
    [gone] = compare(trained, {**trained, "inputs": {}}).differences
    assert f"{gone.said} - {gone.what_to_do}".startswith("section.toml names it no longer - name it there again")
    assert compare(before, trained).refused
    added = {**before, "inputs": {asked.name: None}}
    assert compare({**before, "inputs": {}}, added).refused, "known before a push, which settles its version"
    assert compare(added, {**before, "inputs": {}}).refused
    unknown = {**before, "inputs": {asked.name: None}}  # text alone does not know the version, nor the files
    assert not compare(trained, unknown).differences
