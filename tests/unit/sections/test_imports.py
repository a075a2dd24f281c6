"""What a module is made of is read from its text, wherever and however it imports."""

from __future__ import annotations

from pathlib import Path

from kaggle_manager.sections.imports import imported_files


def test_the_imports_of_the_projects_own_modules_are_followed(tmp_path: Path) -> None:
    for file, text in {
        "rover/__init__.py": "",
        "rover/env.py": "import math, numpy\nimport rover.physics as p\ndef f():\n    from .reward import score\n",
        "rover/physics.py": "from helpers import G\nimport rover.env",
        "rover/reward.py": "from . import terms",
        "rover/terms/__init__.py": "from ..limits import HIGH\nfrom .... import too_far",
        "rover/limits.py": "not Python (",
        "rover/train.py": "",
        "helpers.py": "from rover import *\nfrom kaggle_manager.errors import ConfigError",
        "kaggle_manager/__init__.py": "from kaggle_manager import errors",  # a checkout of this program is a project
        "kaggle_manager/errors.py": "import helpers",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    found = imported_files(tmp_path, "rover.env")
    assert found[:2] == ["rover/env.py", "rover/__init__.py"]
    assert {*found[2:]} == {
        "rover/physics.py",
        "rover/reward.py",
        "rover/terms/__init__.py",
        "rover/limits.py",
        "helpers.py",
    }
    assert imported_files(tmp_path, "gymnasium") == []
