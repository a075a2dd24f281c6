"""The first command installs what its line needs and says what it does; `pip` itself is not run here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bootstrap
import pytest

WAITS = """
import pathlib, sys, time
print("Collecting torch", flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
"""


def test_only_contributors_install_what_only_they_need() -> None:
    users = ["scripts/run_kaggle_validation_section_7_6.py --quick", "-m kaggle_manager.cli status", ""]
    assert {bootstrap.extras_for(line.split()) for line in users} == {("train", "traffic", "report")}
    for line in ("-m pytest -m fast", "-m ruff check .", "-m mypy", "scripts/benchmarks/goodput.py"):
        assert "dev" in bootstrap.extras_for(line.split())


def test_what_is_installed_is_known_by_what_it_was_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = tmp_path / "stamp"
    monkeypatch.setattr(bootstrap, "STAMP", stamp)
    monkeypatch.setattr(bootstrap, "PYTHON", Path(sys.executable))
    assert bootstrap.installed_extras() == ()
    stamp.write_text(f"{bootstrap.fingerprint()} train dev")
    assert bootstrap.installed_extras() == ("train", "dev")
    stamp.write_text("of-another-pyproject train dev")
    assert bootstrap.installed_extras() == ()


def test_a_command_that_lasts_says_again_and_again_what_it_is_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if len(said) >= 2 and "Collecting torch" in " ".join(said):
            (tmp_path / "go").touch()

    monkeypatch.setattr(bootstrap, "say", say)
    monkeypatch.setattr(bootstrap, "SAY_EVERY_S", 0.01)
    bootstrap.run([sys.executable, "-c", WAITS, str(tmp_path / "go")], "installing")


@pytest.mark.skipif(os.name == "nt", reason="its environments have another layout")
def test_while_pip_is_silent_the_packages_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages, said = tmp_path / "venv/lib/python3.11/site-packages", list[str]()

    def say(text: str) -> None:
        said.append(text)
        packages.joinpath(f"one_more-{len(said)}.dist-info").mkdir(parents=True)
        is_counted = f"installing: {len(said) - 1} packages are in venv" in text
        has_begun = "Collecting torch" in " ".join(said)  # which takes a while on a busy machine
        if (is_counted and has_begun) or len(said) == 3000:
            (tmp_path / "go").touch()

    monkeypatch.setattr(bootstrap, "say", say)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / "venv")
    monkeypatch.setattr(bootstrap, "SAY_EVERY_S", 0.01)
    bootstrap.run([sys.executable, "-c", WAITS, str(tmp_path / "go")], "installing")
    assert "packages" not in said[0]
    assert len(said) < 3000, "they were not counted"


def test_what_a_command_printed_is_shown_when_it_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="ended with code 3"):
        bootstrap.run([sys.executable, "-c", "print('No matching distribution'); raise SystemExit(3)"], "installing")
    assert "No matching distribution" in capsys.readouterr().err
