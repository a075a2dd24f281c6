"""An object of section.toml that is not there is known by the text of its module; nothing is said that is not sure."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_manager.sessions.object_names import mistake


def wrong(name: str, project: Path, *, all_here: bool = True) -> str:
    travels = {file.relative_to(project).as_posix() for file in project.rglob("*.py")}
    return mistake(name, project, travels, all_here=all_here)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Modules whose names the text says."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").write_text("from .nets import *\nfrom json import dumps as text\n")
    (tmp_path / "mine/nets.py").write_text(
        "class Net: ...\nif True:\n    Wide = Net\ndef make():\n    global late\n    late, inner = 1, 2\n"
    )
    (tmp_path / "plain.py").write_text("class Wrapper:\n    class Inner: ...\n")
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "mine:Net",
        "mine:Wide",
        "mine:make",
        "mine:text",
        "mine:nets",
        "mine.nets:late",
        "plain:Wrapper.Inner",
        "mine:Net.of",
    ],
)
def test_what_is_there_is_right(name: str, project: Path) -> None:
    assert wrong(name, project) == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mine:Nett", "mine has no Nett; did you mean Net?"),
        ("mine:net", "mine has no net; did you mean Net?"),
        ("mine.nets:inner", "mine.nets has no inner; it has Net, Wide, late, make"),
        ("mine.nests:Net", "there is no module mine.nests; did you mean mine.nets?"),
        ("plan:Wrapper", "there is no module plan; did you mean plain?"),
        ("nowhere:X", "there is no module nowhere; there is mine, mine.nets, plain"),
        ("json:dump_s", "json has no dump_s; did you mean dumps?"),
        ("json.encoders:JSONEncoder", "there is no module json.encoders; did you mean json.encoder?"),
    ],
)
def test_what_is_not_there_is_named_with_the_one_that_is_meant(name: str, said: str, project: Path) -> None:
    assert wrong(name, project) == f"given {name!r}; accepted: an object as module:Name, such as torch.nn:ReLU; {said}"


@pytest.mark.parametrize(
    "source",
    [
        "def __getattr__(name): ...\n",
        "globals().update(X=1)\n",
        "from math import *\n",  # is no text
        "from no_such_package import *\n",
        "this is no Python\n",
    ],
)
def test_a_module_that_makes_its_names_as_it_runs_may_have_any(source: str, project: Path) -> None:
    (project / "plain.py").write_text(source)
    assert wrong("plain:X", project) == ""


def test_a_package_that_is_not_on_this_machine_may_be_in_a_session(project: Path) -> None:
    assert wrong("nowhere:X", project, all_here=False) == ""
    assert wrong("mine:Nett", project, all_here=False) != ""


def test_a_slip_in_the_name_of_a_class_of_torch_is_known() -> None:
    pytest.importorskip("torch")
    assert mistake("torch.nn:Relu", Path(), (), all_here=True).endswith("torch.nn has no Relu; did you mean ReLU?")
    assert mistake("torch.nn:ReLU", Path(), (), all_here=True) == ""
