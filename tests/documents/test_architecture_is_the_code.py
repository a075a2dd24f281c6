"""docs/architecture.md names every room and module there is, the layers that hold, and no file that is gone."""

from __future__ import annotations

import re
import runpy
from functools import cache
from pathlib import Path

import pytest
from documents import PAGES, ROOT, spans

PAGE = ROOT / "docs/architecture.md"
PACKAGE = ROOT / "kaggle_manager"
TEST = re.compile(r"^ *def (test_\w+)", re.MULTILINE)
LAYERS = runpy.run_path(str(ROOT / "tests/unit/test_layers.py"))["LAYERS"]


def modules_of(room: str) -> set[str]:
    """The modules of a room, relative to it; of one that is a module itself, none."""
    files = (path.relative_to(PACKAGE / room).with_suffix("") for path in (PACKAGE / room).rglob("*.py"))
    return {path.as_posix() for path in files if path.name not in ("__init__", "__main__")}


def rooms_here() -> set[str]:
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE]
    return {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in files}


def described() -> dict[str, set[str]]:
    """Room -> the modules named under its heading."""
    part = PAGE.read_text(encoding="utf-8").split("\n## Rooms\n")[1].split("\n### Around the package\n")[0]
    return {
        room: set(re.findall(r"`([a-z0-9_]+(?:/[a-z0-9_]+)*)`", text))
        for room, text in re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", part, re.MULTILINE | re.DOTALL)
    }


def test_every_room_has_its_lines() -> None:
    assert set(described()) == rooms_here()


@pytest.mark.parametrize("room", sorted(rooms_here()))
def test_the_modules_under_a_room_are_those_it_has(room: str) -> None:
    named, here = described()[room], modules_of(room)
    assert named == here, f"{room}: name {sorted(here - named)}, take out {sorted(named - here)}"


def test_the_layers_are_those_that_hold() -> None:
    part = PAGE.read_text(encoding="utf-8").split("\n## Layers\n")[1]
    shown = dict(re.findall(r"^(\d+)  (.+)$", part.split("```")[1], re.MULTILINE))
    rooms = rooms_here()
    assert shown == {
        str(number): "  ".join(room for room in layer if room in rooms) for number, layer in enumerate(LAYERS, 1)
    }


@cache
def python_files() -> list[str]:
    tops = ("docs", "kaggle_manager", "kernels", "scripts", "tests", "validation_ch7")
    return [f"/{path.relative_to(ROOT).as_posix()}" for top in tops for path in (ROOT / top).rglob("*.py")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_python_file_that_a_page_names_is_there(page: Path) -> None:
    named = {span for span in spans(page) if re.fullmatch(r"[\w/-]+\.py", span)}
    assert {name for name in named if not any(path.endswith(f"/{name}") for path in python_files())} == set()
    folders = {
        span for span in spans(page) if re.fullmatch(r"(kaggle_manager|kernels|scripts|tests|docs)/[\w/]*", span)
    }
    assert {name for name in folders if not (ROOT / name).exists()} == set()
