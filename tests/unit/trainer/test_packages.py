"""What a session installs: from wheels that were compared, or under constraints; and torch stays the image's own."""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import sys
import time
from pathlib import Path

import pytest
from packaging.tags import platform_tags
from tiny_wheels import Image, index_of, tiny_wheel

from kaggle_manager.trainer import packages

pytestmark = pytest.mark.skipif(os.name == "nt", reason="an image of links is made")


@pytest.fixture
def image(tmp_path: Path) -> Image:
    image = Image(tmp_path / "image")
    for name, version in (("torch", "2.6.0+cu124"), ("numpy", "2.0.2"), ("nvidia-cublas-cu12", "12.8.4.1")):
        image.has(name, version)
    return image


def mounted(folder: Path) -> dict[str, object]:
    """The dataset of the wheels in `folder`, as a launch order names it."""
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.whl")}
    return {"dataset": "ann/km-wheels-1", "files": files}


def test_it_imports_the_standard_library_and_what_it_runs() -> None:
    tree = ast.parse(inspect.getsource(packages))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [each.module or "" if isinstance(each, ast.ImportFrom) else each.names[0].name for each in imports]
    assert {name.partition(".")[0] for name in names} <= {*sys.stdlib_module_names, "pip"}


@pytest.mark.parametrize("layout", ["ann-first", "slug-only"])
def test_from_wheels_without_an_index_and_only_what_is_missing(image: Image, tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "input" / ("datasets/ann/km-wheels-1" if layout == "ann-first" else "km-wheels-1")
    image.has("settled", "1.0")
    image.has("gymnasium", "1.3.0")
    for name, version, requires in (
        ("agent", "2.9", ["torch>=2.8", "helper>=1"]),
        ("helper", "1.4", []),
        ("settled", "1.0", []),
        ("gymnasium", "1.4.0", []),
    ):
        tiny_wheel(folder, name, version, requires=requires)
    for other in ("cp300", "cp399"):  # of another Python: pip takes what fits
        tiny_wheel(folder, "helper", "1.4", tag=f"{other}-{other}-manylinux2014_x86_64")
    # An index has another build of it, which pip would prefer.
    tiny_wheel(tmp_path / "index", "agent", "2.9", requires=["evil"], tag="1-py3-none-any")
    image.index = index_of(tmp_path / "index")
    before = image.versions()
    problem, said = image.install(
        ["agent==2.9", "settled==1.0", "gymnasium==1.4.0"], mounted(folder), tmp_path / "input"
    )
    assert problem == ""
    changed = {"agent": "2.9", "helper": "1.4", "gymnasium": "1.4.0"}
    assert image.versions() == before | changed
    assert (
        "torch 2.6.0+cu124, numpy 2.0.2, gymnasium 1.3.0; installing agent==2.9, gymnasium==1.4.0, helper==1.4" in said
    )
    assert "agent none -> 2.9, gymnasium 1.3.0 -> 1.4.0, helper none -> 1.4" in said
    assert "Warning: agent requires torch>=2.8, and this image has 2.6.0+cu124" in said
    assert said.count("Warning: ") == 1


def test_what_is_mounted_for_another_python_is_not_asked_for(image: Image, tmp_path: Path) -> None:
    folder = tmp_path / "input/km-wheels-1"
    tiny_wheel(folder, "agent", "2.9", requires=["helper", "lib"])
    tiny_wheel(folder, "helper", "1.4", tag=f"cp36-abi3-{next(platform_tags())}")
    tiny_wheel(folder, "lib", "2.0")
    for other in ("cp300", "cp399"):
        tiny_wheel(folder, "helper", "9.0", tag=f"{other}-{other}-manylinux2014_x86_64")
        tiny_wheel(folder, "backport", "1.0", tag=f"{other}-{other}-manylinux2014_x86_64")
    tiny_wheel(folder, "lib", "1.0", tag="py2.py3-none-any")  # the newest of another Python, by what is in it
    before = image.versions()
    problem, said = image.install(["agent==2.9"], mounted(folder), tmp_path / "input")
    assert (problem, image.versions()) == ("", before | {"agent": "2.9", "helper": "1.4", "lib": "2.0"}), said


def test_what_the_image_has_is_not_installed_and_needs_nothing(image: Image) -> None:
    image.has("agent-of_mine", "2.9+cpu")
    assert image.install(["Agent.of-mine==2.9"]) == ("", "")


@pytest.mark.parametrize("harm", ["altered", "missing", "not mounted"])
def test_wheels_that_are_not_those_that_were_sent_are_not_installed(image: Image, tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "input/km-wheels-1"
    wheel = tiny_wheel(folder, "agent", "2.9")
    order = mounted(folder)
    if harm == "altered":
        tiny_wheel(folder, "agent", "2.9", requires=["evil"])
    else:
        wheel.unlink()
    problem, said = image.install(["agent==2.9"], order, tmp_path / "input")
    assert "agent" not in image.versions()
    assert ("not the file that was sent" if harm == "altered" else "not mounted, or not whole") in problem
    assert "reached no package index" in problem
    assert "the wheels of these packages are not used" in said
    good = tiny_wheel(tmp_path / "index", "agent", "2.9")  # and with an index the session trains all the same
    image.index = index_of(good.parent)
    assert image.install(["agent==2.9"], order, tmp_path / "input")[0] == ""
    assert image.versions()["agent"] == "2.9"


def test_without_wheels_and_without_internet_it_is_over_in_seconds_in_words(image: Image) -> None:
    started = time.monotonic()
    problem, said = image.install(["agent==2.9"])
    assert time.monotonic() - started < 30
    assert "agent==2.9 could not be installed: this session reached no package index" in problem
    assert (problem.count("Retrying"), said.count("Retrying")) == (1, 0), "pip's words, once"
    assert "`internet` in section.toml" in problem
    assert (image.refused, image.unfit) == (False, False), "the next session may have it"


def test_wheels_for_another_python_are_told_from_what_time_may_cure(image: Image, tmp_path: Path) -> None:
    folder = tmp_path / "input" / "km-wheels-1"
    tiny_wheel(folder, "agent", "2.9", tag="cp300-cp300-manylinux2014_x86_64")
    problem, _ = image.install(["agent==2.9"], mounted(folder), tmp_path / "input")
    assert "this session reached no package index, and pip ended with code 1" in problem
    assert (image.refused, image.unfit) == (False, True)


def test_pip_fails_in_words_rather_than_replace_torch(image: Image, tmp_path: Path) -> None:
    index = tmp_path / "index"
    tiny_wheel(index, "agent", "2.9", requires=["torch>=2.8"])
    for version in ("2.6.0", "2.14.1"):
        tiny_wheel(index, "torch", version)
    image.index = index_of(index)
    before = image.versions()
    problem, _ = image.install(["agent==2.9"])
    assert image.versions() == before
    assert "agent==2.9" in problem
    assert "torch 2.6.0+cu124" in problem
    assert "torch>=2.8" in problem, "pip's own words are in the result"
    assert image.refused, "no session after this one is spent on the same"


def test_where_others_use_its_python_a_session_installs_nothing_and_names_what_lacks(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "_pip", lambda *_: pytest.fail("nothing is installed"))
    monkeypatch.setattr(packages, "installed", lambda: {"agent": "2.8", "simulator": "1.0"})
    packages.check(["simulator[all]==1.0"])
    with pytest.raises(packages.Refused) as refused:
        packages.check(["agent==2.9", "simulator==1.0", "nowhere==1.0"])
    assert "pins agent==2.9, nowhere==1.0, and the Python of this session" in str(refused.value)
    assert f"has agent 2.8. Sessions install nothing here: {sys.executable} -m pip install" in str(refused.value)


def test_what_pip_finds_is_installed_with_what_it_needs(image: Image, tmp_path: Path) -> None:
    index = tmp_path / "index"
    tiny_wheel(index, "agent", "2.9", requires=["torch>=2.1", "helper>=1"])
    tiny_wheel(index, "helper", "1.4")
    tiny_wheel(index, "torch", "2.14.1")
    image.index = index_of(index)
    before = image.versions()
    problem, said = image.install(["agent==2.9"])
    assert problem == ""
    assert image.versions() == before | {"agent": "2.9", "helper": "1.4"}
    assert "agent none -> 2.9, helper none -> 1.4" in said


@pytest.mark.parametrize("pin", ["torch==2.14.1", "numpy==1.26.4", "nvidia-cublas-cu12==13.0"])
def test_a_section_that_pins_what_a_session_keeps_is_told_so(image: Image, pin: str) -> None:
    problem, _ = image.install([pin])
    assert f"section.toml pins {pin}" in problem
    assert image.refused
    assert image.install([f"{pin.partition('==')[0]}=={image.versions()[pin.partition('==')[0]]}"]) == ("", "")
