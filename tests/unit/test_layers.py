"""Who may import whom, as drawn in docs/architecture.md."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("kaggle_manager", "kernels", "validation_ch7")
HEAVY = ("torch", "stable_baselines3", "gymnasium", "libsumo", "numpy")


def imports_of(path: Path) -> set[str]:
    """Every module named in an import statement of a file, wherever it stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def offenders(folder: str, forbidden: tuple[str, ...], *, apart_from: tuple[str, ...] = ()) -> list[str]:
    place = ROOT / folder
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    return [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        if file.name not in apart_from
        for name in sorted(imports_of(file))
        if any(name == stem or name.startswith(f"{stem}.") for stem in forbidden)
    ]


def test_checkpoints_know_only_the_standard_library_and_themselves() -> None:
    allowed = set(sys.stdlib_module_names) | {"__future__"}
    for file in [ROOT / "kaggle_manager/errors.py", *sorted((ROOT / "kaggle_manager/checkpoints").rglob("*.py"))]:
        for name in imports_of(file):
            top = name.partition(".")[0]
            inside = (
                name.startswith(("kaggle_manager.errors", "kaggle_manager.checkpoints")) or name == "kaggle_manager"
            )
            numpy_allowed = top == "numpy" and file.name in ("replay_capture.py", "replay_codec.py")
            assert top in allowed or inside or numpy_allowed, f"{file.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("folder", ["kaggle_manager/kaggle_api", "kaggle_manager/local_kaggle", "kaggle_manager/cli"])
def test_the_orchestrator_needs_no_training_library(folder: str) -> None:
    assert offenders(folder, (*HEAVY, "kernels", "validation_ch7")) == []


def test_no_module_of_the_manager_needs_a_training_library_outside_the_replay_log() -> None:
    assert offenders("kaggle_manager", HEAVY, apart_from=("replay_capture.py", "replay_codec.py")) == []


def test_what_runs_in_a_kernel_knows_nothing_of_the_orchestrator() -> None:
    orchestrator = tuple(
        f"kaggle_manager.{name}"
        for name in ("kaggle_api", "local_kaggle", "manager", "journal", "lifecycle", "config", "connection", "cli")
    )
    assert offenders("kernels", orchestrator) == []
    assert offenders("validation_ch7", orchestrator) == []


def test_the_decision_has_no_input_or_output() -> None:
    allowed = {"__future__", "collections", "dataclasses", "enum", "itertools", "statistics"}
    for name in ("lifecycle", "failures", "budget", "waits"):
        found = imports_of(ROOT / f"kaggle_manager/{name}.py")
        outside = {each for each in found if not each.startswith("kaggle_manager.failures")}
        assert {each.partition(".")[0] for each in outside} <= allowed | {"typing"}, name


def test_the_local_kaggle_knows_nothing_of_the_manager() -> None:
    allowed = ("kaggle_manager.errors", "kaggle_manager.local_kaggle")
    for file in sorted((ROOT / "kaggle_manager/local_kaggle").rglob("*.py")):
        for name in imports_of(file):
            if name.startswith(OURS) and name != "kaggle_manager":
                assert name.startswith(allowed), f"{file.relative_to(ROOT)} imports {name}"


def test_the_adapter_knows_only_errors_and_itself() -> None:
    allowed = ("kaggle_manager.errors", "kaggle_manager.kaggle_api")
    for file in sorted((ROOT / "kaggle_manager/kaggle_api").rglob("*.py")):
        for name in imports_of(file):
            if name.startswith(OURS) and name != "kaggle_manager":
                assert name.startswith(allowed), f"{file.relative_to(ROOT)} imports {name}"


def test_only_the_connection_and_the_faces_know_the_local_kaggle() -> None:
    faces = ("cli.py", "connection.py")
    outside = [f for f in sorted((ROOT / "kaggle_manager").glob("*.py")) if f.name not in faces]
    assert [f.name for f in outside if any("local_kaggle" in name for name in imports_of(f))] == []


def test_nobody_imports_the_faces_but_the_command_line() -> None:
    faces = ("kaggle_manager.cli", "kaggle_manager.dashboard")
    for file in sorted((ROOT / "kaggle_manager").rglob("*.py")):
        face = next((f for f in faces if file.is_relative_to(ROOT / f.replace(".", "/"))), None)
        for name in imports_of(file):
            own = face is not None and name.startswith(face)
            if name.startswith(faces) and not own:
                assert face == "kaggle_manager.cli", f"{file.relative_to(ROOT)} imports {name}"
