"""The files for contributors and for machines are true: what they name exists, and versions are the same everywhere."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml
from documents import ROOT, spans

from kaggle_manager import __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What a run makes; it is not in the repository.
MADE = {"section.toml", "notify.toml"}


def parsed(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_every_file_and_name_that_a_page_gives_exists(page: str) -> None:
    found = spans(ROOT / page)
    files = [span for span in found if re.fullmatch(r"[\w./-]*(/|\.(py|md|toml|txt))", span) and span not in MADE]
    assert [file for file in files if not (ROOT / file).exists()] == []
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "kaggle_manager").rglob("*.py"))
    names = [span for span in found if re.fullmatch(r"[A-Z]\w+", span) and not (ROOT / span).exists()]
    assert [name for name in names if not re.search(rf"^(class )?{name}\b", code, re.MULTILINE)] == []


def test_the_version_is_one() -> None:
    assert PROJECT["version"] == __version__ == parsed("CITATION.cff")["version"]
    (newest, *_) = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest == __version__


def test_the_citation_has_what_its_format_asks_for_and_says_what_the_package_says() -> None:
    citation = parsed("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == PROJECT["authors"]
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert PROJECT["authors"][0]["name"] in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_ci_runs_everything_on_each_python_that_the_package_claims() -> None:
    workflow = parsed(".github/workflows/ci.yml")
    assert workflow["permissions"] == {"contents": "read"}
    matrix = workflow["jobs"]["whole"]["strategy"]["matrix"]
    claimed = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", each)]
    assert matrix["python"] == claimed
    assert f">={claimed[0]}" == PROJECT["requires-python"]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in ci_steps() if "uses" in step)


def ci_steps() -> list[dict[str, Any]]:
    return [step for job in parsed(".github/workflows/ci.yml")["jobs"].values() for step in job["steps"]]


def test_make_and_ci_check_the_same() -> None:
    made = set(re.findall(r"\$\(RUN\) (.+)", (ROOT / "Makefile").read_text(encoding="utf-8")))
    run = {step["run"].removeprefix("python scripts/bootstrap.py ") for step in ci_steps() if "run" in step}
    assert run <= made
    assert made - run == {"-m ruff check --fix .", "-m ruff format ."}


def test_a_commit_is_checked_by_the_ruff_of_this_environment() -> None:
    (repository,) = parsed(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"  # so that no second version has to be kept equal
    entries = [hook["entry"].split() for hook in repository["hooks"]]
    assert [entry[:5] for entry in entries] == [
        ["python", "scripts/bootstrap.py", "-m", "ruff", what] for what in ("check", "format")
    ]
