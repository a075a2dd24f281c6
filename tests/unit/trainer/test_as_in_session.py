"""What is tried on this machine has what a session would have; what it lacks is named, with what to write for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kaggle_manager.trainer.runtime.as_in_session import Trial

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def tried(tmp_path: Path) -> Trial:
    """A project of which only the section's code travels."""
    project, code = tmp_path / "project", tmp_path / "unpacked/code"
    for file in ("sections/mine/environment.py", "sections/mine/demand.json", "sections/mine/nets/a.net", "helpers.py"):
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        (project / file).write_text("")
    (project / "tools").mkdir()
    (code / "sections/mine").mkdir(parents=True)
    (code / "sections/mine/environment.py").write_text("")
    return Trial(code, project, "sections/mine", {"mujoco": "mujoco==3.3.0"})


def raised(source: str, tried: Trial) -> BaseException:
    """What the environment raises, in whose code `source` stands."""
    file = tried.code / "sections/mine/environment.py"
    try:
        exec(compile(source, str(file), "exec"), {"__file__": str(file), "__name__": "environment"})
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("import pathlib; (pathlib.Path(__file__).parent / 'demand.json').read_text()", '"sections/mine/demand.json"'),
        ("import os; os.listdir(os.path.join(os.path.dirname(__file__), 'nets'))", '"sections/mine/nets"'),
        ("open('sections/mine/demand.json')", '"sections/mine/demand.json"'),
        ("import shutil; shutil.copy(__file__.replace('environment.py', 'demand.json'), 'x')", "demand.json"),
        # A library says it in its own way, or the user's code does.
        ("raise RuntimeError('cannot read ' + __file__.replace('environment.py', 'nets/a.net'))", "nets/a.net"),
        ("try:\n  open('helpers.py')\nexcept OSError:\n  raise RuntimeError('no demand')", '"helpers.py"'),
        ("raise ModuleNotFoundError('No module', name='helpers')", '"helpers.py"'),
        ("raise ModuleNotFoundError('No module', name='tools.maths')", '"tools"'),
        ("raise ModuleNotFoundError('No module', name='mujoco')", 'add "mujoco==3.3.0" to `packages`'),
    ],
)
def test_what_is_missing_is_named_with_what_to_write_into_section_toml(source: str, advice: str, tried: Trial) -> None:
    said = tried.advice(raised(source, tried))
    assert advice in said
    assert "section.toml" in said
    assert ("`include`" in said) == ("mujoco" not in said)


def test_a_package_whose_absence_a_library_keeps_for_later_is_named_too(tried: Trial) -> None:
    tried.refused.append("mujoco")
    error = raised("raise RuntimeError('MuJoCo is not installed, run pip install')", tried)
    assert 'add "mujoco==3.3.0"' in tried.advice(error)


@pytest.mark.parametrize("source", ["1 / 0", "open('/nowhere/at/all')", "import no_such_module_anywhere"])
def test_an_error_of_another_kind_gets_no_advice(source: str, tried: Trial) -> None:
    tried.refused.append("mujoco")
    assert tried.advice(raised(source, tried)) == ""


def test_the_last_line_of_the_users_code_is_named_and_not_that_of_a_library(tried: Trial) -> None:
    error = raised("import json\n\ndef reset():\n    return json.loads('{')\n\nreset()\n", tried)
    assert tried.where(error) == "sections/mine/environment.py, line 4, in reset"


def test_files_beside_the_section_that_do_not_travel_are_told(tried: Trial) -> None:
    assert "sections/mine/demand.json, sections/mine/nets/a.net" in tried.beside()


def run(tmp_path: Path, source: str, **trial: object) -> subprocess.CompletedProcess[str]:
    code = tmp_path / "code"
    code.mkdir()
    (code / "tried.py").write_text(source)
    said = json.dumps({"code": str(code), "project": str(tmp_path), **trial})
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "KM_TRIAL": said}
    command = [sys.executable, "-m", "kaggle_manager.trainer.runtime.as_in_session", "tried", "--an", "option"]
    return subprocess.run(command, cwd=code, env=environ, capture_output=True, text=True, check=False)


def test_a_hidden_package_is_missing_for_whoever_asks_and_an_optional_one_may_be(tmp_path: Path) -> None:
    source = """
import importlib.util, sys
assert __name__ == "__main__" and sys.argv[1:] == ["--an", "option"]
assert importlib.util.find_spec("xml") is None
assert importlib.util.find_spec("json") is not None
try:
    import xml.dom
except ImportError as error:
    assert error.name == "xml"
from kaggle_manager.trainer.runtime.as_in_session import trial
assert "xml" in trial.refused
print(trial.advice(ModuleNotFoundError("No module named 'xml'", name="xml")))
"""
    done = run(tmp_path, source, hidden={"xml": "an-xml==1.0"})
    assert done.returncode == 0, done.stderr
    assert 'add "an-xml==1.0" to `packages`' in done.stdout


def test_what_is_read_where_it_lies_in_the_project_is_noticed(tmp_path: Path) -> None:
    for name in ("demand.csv", ".cache"):
        (tmp_path / name).write_text("x")
    source = f"""
open({str(tmp_path / "demand.csv")!r}).close()
open({str(tmp_path / ".cache")!r}).close()
open(__file__).close()
from kaggle_manager.trainer.runtime.as_in_session import trial
print(trial.left_behind())
"""
    done = run(tmp_path, source)
    assert done.returncode == 0, done.stderr
    assert "it reads demand.csv in" in done.stdout
    assert 'add "demand.csv" to `include`' in done.stdout
