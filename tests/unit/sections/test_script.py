"""A scenario that is a script: what section.toml may say of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.identity import identity_of
from kaggle_manager.sections.model import Section, section_of
from kaggle_manager.sections.new_script import HELPERS, new_script
from kaggle_manager.sections.script import ScriptScenario, script_files
from kaggle_manager.sessions.bundle import build_bundle

TOML = """
name = "toy"
title = "A script"
trains = true
default_scenario = "toy"

[scenarios.toy]
script = {script}
target = 40
models = "data/models"
{more}

[scenarios.toy.quick]
models = "data/models_quick"
"""


def section(project: Path, script: str = '"train.py"', more: str = "") -> Section:
    folder = project / "sections/toy"
    folder.mkdir(parents=True, exist_ok=True)
    text = TOML.format(script=script, more=more)
    (folder / "section.toml").write_text(text)
    return section_of(text, folder / "section.toml")


def scenario(found: Section) -> ScriptScenario:
    its = found.scenario()
    assert isinstance(its, ScriptScenario)
    return its


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('"train.py"', ("train.py", "--lr", "1")),
        ('"-m pack.train"', ("-m pack.train", "--lr", "1")),
        ('["torchrun", "--standalone", "train.py"]', ("torchrun", "--standalone", "train.py", "--lr", "1")),
    ],
)
def test_a_script_is_a_file_a_module_or_a_command(script: str, words: tuple[str, ...], tmp_path: Path) -> None:
    its = scenario(section(tmp_path, script, 'arguments = ["--lr", "1"]\nunit = "epochs"'))
    assert (its.words, its.target, its.unit, its.for_quick().target) == (words, 40, "epochs", 2)
    assert its.for_seed(3).models == "data/models_seed_3"


def test_a_new_section_may_be_of_a_command_with_what_its_file_needs_beside_it(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("from resumable import Session\n")
    made = new_script("mine", tmp_path, ["torchrun", "train.py"])
    assert scenario(made.section).script == ["torchrun", "train.py"]
    assert made.files == ("resumable.py", "sections/mine/section.toml")


@pytest.mark.parametrize("script", ['"train"', '"/etc/train.py"', '"../train.py"', '"-m a b"', "[]", '[""]', "3"])
def test_any_other_script_is_refused_by_its_key(script: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"scenarios\.toy\.script.*: given"):
        section(tmp_path, script)


@pytest.mark.parametrize(
    ("slip", "meant"), [("scirpt", "script"), ("scripts", "script"), ("enviroment", "environment"), ("biuld", "build")]
)
def test_a_slip_in_the_key_that_says_what_a_scenario_is_is_the_one_thing_said(
    slip: str, meant: str, tmp_path: Path
) -> None:
    text = TOML.format(script='"train.py"', more='arguments = ["a"]\nunit = "epochs"').replace("script =", f"{slip} =")
    with pytest.raises(ConfigError) as refused:
        section_of(text, tmp_path / "toy/section.toml")
    assert refused.value.message == f"{tmp_path}/toy/section.toml: scenarios.toy.{slip}: did you mean {meant}?"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('units = "epochs"', r"scenarios\.toy\.units: is not a key of this file; did you mean unit\?$"),
        ('best = { metric = "a", modes = "max" }', r"best\.modes: is not a key of this file; did you mean mode\?$"),
        ("xyz = 3", r"scenarios\.toy\.xyz: is not a key of this file; accepted here: arguments, best"),
    ],
)
def test_a_key_with_a_slip_is_answered_with_the_key_that_was_meant(more: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        section(tmp_path, more=more)
    assert re.search(said, refused.value.message)


def test_a_key_of_the_other_kind_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"scenarios\.toy\.algorithm: is a key of a scenario without `script`"):
        section(tmp_path, more='algorithm = "PPO"')
    text = TOML.format(script='"train.py"', more="") + "hyperparameters = {}\n"
    with pytest.raises(ConfigError, match=r"scenarios\.toy\.quick\.hyperparameters: is not a key of this file"):
        section_of(text, tmp_path / "sections/toy/section.toml")


def test_what_a_script_imports_travels_and_is_its_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "src/parts").mkdir(parents=True)
    (tmp_path / "lib").mkdir()
    (tmp_path / "src/train.py").write_text("import os, torch\nfrom parts import net\nfrom lib.data import load\n")
    (tmp_path / "src/parts/net.py").write_text("WIDTH = 3\n")
    (tmp_path / "lib/data.py").write_text("def load(): ...\n")
    (tmp_path / "lib/unused.py").write_text("")
    found = section(tmp_path, '"src/train.py"')
    files = {"src/train.py", "src/parts/net.py", "lib/data.py"}
    assert set(script_files(scenario(found), found.folder, tmp_path)) == files
    assert files <= {name for name, _ in build_bundle(tmp_path, found).files}
    before = identity_of(found, "toy", tmp_path)
    (tmp_path / "src/parts/net.py").write_text("WIDTH = 3  # a comment\n")
    assert identity_of(found, "toy", tmp_path) == before
    (tmp_path / "src/parts/net.py").write_text("WIDTH = 4\n")
    assert identity_of(found, "toy", tmp_path)["script_fingerprint"] != before["script_fingerprint"]


def test_init_writes_a_section_that_is_read_and_copies_what_the_script_imports(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("from resumable import Session\nimport numpy\n")
    asked: list[str] = []

    def pins(modules: Iterable[str]) -> list[str]:
        asked.extend(modules)
        return ["tiny==1.0"]

    made = new_script("my_model", tmp_path, "train.py", target=500, pins=pins)
    its = scenario(made.section)
    assert (its.words, its.target, its.quick.target) == (("train.py",), 500, 20)
    assert made.section.kernel.packages == ["tiny==1.0"]
    assert "numpy" in asked
    assert "sections/my_model/section.toml" in made.files
    there = (HELPERS / "resumable.py").is_file()
    assert (tmp_path / "resumable.py").is_file() == there
    with pytest.raises(ConfigError, match="exists already"):
        new_script("my_model", tmp_path, "train.py")
    with pytest.raises(ConfigError, match=r"There is no file other.py"):
        new_script("second", tmp_path, "other.py")
    assert not (tmp_path / "sections/second").exists()


@pytest.mark.parametrize(
    ("imports", "fitting"),
    [
        ("json", []),
        ("torch", ["resumable_state"]),
        ("lightning.pytorch", ["resumable_lightning", "resumable_state"]),
        ("pytorch_lightning", ["resumable_lightning", "resumable_state"]),
        ("transformers", ["resumable_transformers"]),
    ],
)
def test_init_offers_the_file_for_the_framework_of_a_script(imports: str, fitting: list[str], tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(f"import {imports}\n")
    (tmp_path / "resumable.py").write_text("# the user's own copy\n")
    new_script("first", tmp_path, "train.py")
    assert sorted(path.name for path in tmp_path.glob("*.py")) == ["resumable.py", "train.py"]
    new_script("second", tmp_path, "train.py", helper=True)
    copied = {path.stem for path in tmp_path.glob("*.py")} - {"train", "resumable"}
    assert sorted(copied) == fitting
    assert (tmp_path / "resumable.py").read_text() == "# the user's own copy\n"
    assert all((tmp_path / f"{name}.py").read_bytes() == (HELPERS / f"{name}.py").read_bytes() for name in copied)
