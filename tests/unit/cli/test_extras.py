"""A library that is missing is told with the extra that brings it, and no name is guessed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from kaggle_manager.cli.extras import EXTRAS, how_to_install

ROOT = Path(__file__).resolve().parents[3]


def test_the_extras_are_those_of_pyproject() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra, libraries in EXTRAS.items():
        assert set(libraries) == {re.split("[>=<[]", requirement)[0] for requirement in declared[extra]}


def test_a_library_is_installed_by_its_extra_else_as_the_section_pins_it() -> None:
    assert how_to_install(["stable_baselines3.dqn"]) == "pip install 'kaggle-manager[train]'"
    assert how_to_install(["matplotlib", "scipy"]) == "pip install 'kaggle-manager[report]'"
    missing, pins = ["torch", "libsumo", "my_env"], ["libsumo==1.28.0", "my-env[all]==2.1"]
    assert how_to_install(missing, pins) == "pip install 'kaggle-manager[train,traffic]' 'my-env[all]==2.1'"


def test_a_module_that_nothing_names_is_not_taken_for_a_package() -> None:
    assert how_to_install(["yaml"]) == "install the package that brings yaml"
