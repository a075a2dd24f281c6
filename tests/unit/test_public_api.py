"""`import kaggle_manager` gives every public name, when it is used and not before, and wherever it can be used."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import kaggle_manager
from kaggle_manager import errors
from kaggle_manager.sessions.bundle import INSTALLED, RUNTIME

SOURCE = Path(kaggle_manager.__file__)
HEAVY = {"torch", "stable_baselines3", "gymnasium", "numpy", "libsumo"}


def typed_imports() -> dict[str, str]:
    """Public name -> module, as a type checker reads them."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return {
        alias.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def in_new_process(program: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", kaggle_manager.__all__)
def test_a_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(kaggle_manager, name)
    assert name in dir(kaggle_manager)
    assert name == "__version__" or thing.__doc__


def test_a_type_checker_sees_the_same_names_from_the_same_modules() -> None:
    typed = typed_imports()
    assert set(typed) == set(kaggle_manager.__all__) - {"__version__"}
    for name, module in typed.items():
        assert getattr(import_module(module), name) is getattr(kaggle_manager, name)
    assert (SOURCE.parent / "py.typed").is_file()


def test_every_error_is_public() -> None:
    defined = {name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, Exception)}
    assert defined <= set(kaggle_manager.__all__)


def test_importing_the_package_imports_nothing_but_the_standard_library() -> None:
    program = "import sys; before = {*sys.modules}; import kaggle_manager; print(*{*sys.modules} - before)"
    new = in_new_process(program).split()
    assert "kaggle_manager" in new
    assert {name for name in new if name.partition(".")[0] not in sys.stdlib_module_names} == {"kaggle_manager"}


def test_no_training_library_is_imported_for_any_public_name() -> None:
    new = in_new_process("import sys; from kaggle_manager import *; print(ValidationKaggleManager, *sys.modules)")
    assert "kaggle_manager.orchestrator.manager" in new.split()
    assert HEAVY.isdisjoint(new.split())


def test_an_unknown_name_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'KaggleManager'"):
        _ = kaggle_manager.KaggleManager
    assert not hasattr(kaggle_manager, "_nothing")


def test_in_a_session_a_name_that_stays_behind_is_an_import_error_that_says_so(tmp_path: Path) -> None:
    for name in RUNTIME:
        copy = shutil.copytree if (INSTALLED / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy(INSTALLED / name, tmp_path / name)
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from kaggle_manager import ConfigError, find_latest_checkpoint
print(find_latest_checkpoint({str(tmp_path / "empty")!r}, "scenario"), ConfigError.exit_code)
try:
    from kaggle_manager import ValidationKaggleManager
except ImportError as error:
    print(error)
"""
    found, refused = in_new_process(program, "-I", "-S").splitlines()
    assert found == "None 2"
    assert refused.startswith("kaggle_manager.ValidationKaggleManager is not available inside a session")


def test_a_package_that_is_not_installed_is_named_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError("No module named 'rich'", name="rich")

    monkeypatch.setattr(kaggle_manager, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match="No module named 'rich'"):
        _ = kaggle_manager.RunConfig
