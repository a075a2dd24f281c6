"""What a preflight measures of the quick variant is called that."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.sections.scaffold import new_section
from kaggle_manager.trainer.runtime.checks import CheckResult
from kaggle_manager.trainer.sb3 import preflight


def test_figures_of_the_quick_variant_are_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str) -> Any:
        return lambda *_, **__: CheckResult(name, True, "figures")

    names = ("an episode ends", "files")
    of_environment = [CheckResult(name, True, "x") for name in names]
    section = new_section("mine", tmp_path).section  # its quick episodes are shorter
    monkeypatch.setattr(preflight, "check_environment", lambda *_: iter(of_environment))
    for name in ("check_sizes", "check_settings", "check_evaluations"):
        monkeypatch.setattr(preflight, name, found(name))
    monkeypatch.setattr(preflight, "check_training", lambda *_, **__: [CheckResult("resumes", True, "x")])
    monkeypatch.setattr(preflight, "own_code", lambda _: [])
    monkeypatch.setattr(preflight, "_model_of", lambda *_: contextlib.nullcontext((object(), 0)))

    def of_quick(*, quick: bool) -> list[str]:
        results = preflight.preflight(tmp_path, section, quick=quick)
        return [it.name.removeprefix("mine: ") for it in results if it.detail.endswith("(with --quick)")]

    assert of_quick(quick=True) == ["an episode ends", "check_sizes"]
    assert of_quick(quick=False) == ["an episode ends", "resumes"], "sizes are those of the whole training then"
