"""Each format has a number, and for each number that ever was current there is a release whose files have it."""

from __future__ import annotations

import ast
import functools
import itertools
import json
import pickletools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from format_place import FIXTURES, RELEASES

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "kaggle_manager"
NUMBER = re.compile(r"(\w+_)?(SCHEMA|VERSION)")
HOW = """
Files that a release has written are read by every later version (CONTRIBUTING.md, "Change a format"):
1. keep reading the old number: a reader of it, or a migration
2. make what this version writes: python scripts/make_format_fixtures.py
   (with --replace only while the version of pyproject.toml is not released)"""


def in_json(path: Path) -> int:
    number: int = json.loads(path.read_bytes())["schema"]
    return number


def in_sqlite(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[60:64], "big")  # user_version (sqlite.org/fileformat.html)


def in_state(path: Path) -> int:
    """Nothing is unpickled, so no training library is needed."""
    arguments = [argument for _, argument, _ in pickletools.genops(path.read_bytes()) if argument is not None]
    number: int = next(its for name, its in itertools.pairwise(arguments) if name == "schema" and type(its) is int)
    return number


# Where the number is in the code, as MODULE:NAME, and the files of a release that have it.
FORMATS: dict[str, tuple[str, Callable[[Path], int]]] = {
    "checkpoints/manifest.py:SCHEMA": ("work/sections/**/*.manifest.json", in_json),
    "checkpoints/metadata.py:SCHEMA": ("work/sections/**/training_metadata.json", in_json),
    "checkpoints/archive.py:SCHEMA": ("work/local_kaggle/datasets/**/training_tree.json", in_json),
    "trainer/sb3/resume_point.py:STATE_SCHEMA": ("work/sections/**/*.state", in_state),
    "trees/export/listing.py:SCHEMA": ("export/export.json", in_json),
    "runs/journal_file.py:VERSION": ("work/journal.sqlite", in_sqlite),
    "sections/trial.py:STUDY_SCHEMA": ("work/sweeps/*/study.json", in_json),
    "protocol/launch_order.py:SCHEMA": ("said/launch_order.json", in_json),
    "protocol/session_start.py:SCHEMA": ("work/**/session_start.json", in_json),
    "protocol/session_result.py:SCHEMA": ("work/**/session_result.json", in_json),
    "local_kaggle/database.py:SCHEMA": ("work/local_kaggle/world.sqlite3", in_sqlite),
    "integrations/model_card.py:SCHEMA": ("said/training.json", in_json),
    "notify/delivery.py:HOOK_SCHEMA": ("said/hook.json", in_json),
    "status/report.py:REPORT_SCHEMA": ("said/printed/status.json", in_json),
    "sweeps/report.py:SWEEP_SCHEMA": ("said/printed/sweep.*.json", in_json),
}
# Repeats a number of another module, and is held to it by a test of its own.
REPEATED = {"trainer/entry.py:RESULT_SCHEMA": "tests/unit/protocol/test_entry_literals.py"}


def numbers_in(path: Path) -> Iterator[tuple[str, int]]:
    """Constants of a module, or of a class in it, that are the number of a format."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)) if NUMBER.search(text) else ():
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            yield from number_of(node.target, node.value)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                yield from number_of(target, node.value)


def number_of(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, int]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its in zip(target.elts, value.elts, strict=False):
            yield from number_of(one, its)
    elif isinstance(target, ast.Name) and NUMBER.fullmatch(target.id) and isinstance(value, ast.Constant):
        yield from [(target.id, value.value)] if type(value.value) is int else []


@functools.cache
def current() -> dict[str, int]:
    return {
        f"{path.relative_to(PACKAGE).as_posix()}:{name}": number
        for path in sorted(PACKAGE.rglob("*.py"))
        for name, number in numbers_in(path)
    }


def written(release: str, where: str) -> set[int]:
    """The numbers that the files of a release have."""
    pattern, number = FORMATS[where]
    return {number(path) for path in (FIXTURES / release).glob(pattern)}


def test_every_number_in_the_code_is_of_a_known_format() -> None:
    assert set(current()) - set(REPEATED) == set(FORMATS), f"say in FORMATS which files have it{HOW}"


@pytest.mark.parametrize("where", FORMATS)
def test_the_current_number_is_that_of_a_release(where: str) -> None:
    number = current()[where]
    known = {release: written(release, where) for release in RELEASES}
    assert any(number in numbers for numbers in known.values()), (
        f"{where} is {number} now, and no release has written it: {known}{HOW}"
    )


@pytest.mark.parametrize("release", RELEASES)
def test_nothing_of_an_account_or_of_a_machine_is_kept(release: str) -> None:
    for path in (FIXTURES / release).rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not re.search(rb"KGAT_[0-9a-f]{8}|/home/\w|/tmp/\w|/root/|[A-Z]:\\\\Users", data), path
            assert path.name != "account.json"
