"""What is tried on this machine has what a session would have; what it lacks is named, with what to write for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kaggle_manager.trainer.runtime import as_in_session
from kaggle_manager.trainer.runtime.as_in_session import TryOut

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def tried(tmp_path: Path) -> TryOut:
    """A project of which only the section's code travels."""
    project, code = tmp_path / "project", tmp_path / "unpacked/code"
    for file in ("sections/mine/environment.py", "sections/mine/demand.json", "sections/mine/nets/a.net", "helpers.py"):
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        (project / file).write_text("")
    (project / "tools").mkdir()
    (code / "sections/mine").mkdir(parents=True)
    (code / "sections/mine/environment.py").write_text("")
    return TryOut(code, project, "sections/mine", {"mujoco": "mujoco==3.3.0"})


def raised(source: str, tried: TryOut) -> BaseException:
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
def test_what_is_missing_is_named_with_what_to_write_into_section_toml(source: str, advice: str, tried: TryOut) -> None:
    said = tried.advice(raised(source, tried))
    assert advice in said
    assert "section.toml" in said
    assert ("`include`" in said) == ("mujoco" not in said)


@pytest.mark.parametrize(
    ("variable", "source", "advice"),
    [
        (None, "import os; os.environ['KM_INPUTS']", 'such as inputs = ["owner/dataset"]'),
        (None, "import os, json; json.loads(os.getenv('KM_INPUTS'))", 'such as inputs = ["owner/dataset"]'),
        ("{}", "import os, json; json.loads(os.environ['KM_INPUTS'])['a/b']", 'add "a/b" to `inputs`'),
        ("{}", "{}['a/b']", ""),
        (None, "{}['key']", ""),
    ],
)
def test_data_that_no_section_names_is_asked_for_by_inputs(
    variable: str | None, source: str, advice: str, tried: TryOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KM_INPUTS", raising=False)
    if variable is not None:
        monkeypatch.setenv("KM_INPUTS", variable)
    file = tried.code / "sections/mine/environment.py"
    file.write_text(source)  # an error names its line by what stands there
    said = tried.advice(raised(source, tried))
    assert (advice in said) if advice else said == ""


def test_a_package_whose_absence_a_library_keeps_for_later_is_named_too(tried: TryOut) -> None:
    tried.refused.append("mujoco")
    error = raised("raise RuntimeError('MuJoCo is not installed, run pip install')", tried)
    assert 'add "mujoco==3.3.0"' in tried.advice(error)


@pytest.mark.parametrize("source", ["1 / 0", "open('/nowhere/at/all')", "import no_such_module_anywhere"])
def test_an_error_of_another_kind_gets_no_advice(source: str, tried: TryOut) -> None:
    tried.refused.append("mujoco")
    assert tried.advice(raised(source, tried)) == ""


def test_the_last_line_of_the_users_code_is_named_and_not_that_of_a_library(tried: TryOut) -> None:
    error = raised("import json\n\ndef reset():\n    return json.loads('{')\n\nreset()\n", tried)
    assert tried.where(error) == "sections/mine/environment.py, line 4, in reset"


def test_files_beside_the_section_that_do_not_travel_are_told(tried: TryOut) -> None:
    assert "sections/mine/demand.json, sections/mine/nets/a.net" in tried.beside()


def test_of_a_package_a_whole_word_tells(tried: TryOut) -> None:
    tried.hidden["re_map"] = "re-map==1.0"
    tried.refused.append("re_map")
    assert tried.advice(RuntimeError("core_mapping and re_maps are not there")) == ""
    assert 'add "re-map==1.0"' in tried.advice(RuntimeError("RE_MAP: not there"))


def run(tmp_path: Path, source: str, **try_out: object) -> subprocess.CompletedProcess[str]:
    """Run `source` where the modules in `site-packages` are those of this machine's packages."""
    code = tmp_path / "code"
    code.mkdir(exist_ok=True)
    (code / "tried.py").write_text(source)
    said = json.dumps({"code": str(code), "project": str(tmp_path), **try_out})
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path / "site-packages")]),
        "KM_TRY_OUT": said,
    }
    command = [sys.executable, "-m", "kaggle_manager.trainer.runtime.as_in_session", "tried", "--an", "option"]
    return subprocess.run(command, cwd=code, env=environ, capture_output=True, text=True, check=False)


def put(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")


def test_a_hidden_package_is_missing_for_whoever_asks_and_an_optional_one_may_be(tmp_path: Path) -> None:
    put(tmp_path / "site-packages/arm/dom.py", tmp_path / "site-packages/leg/__init__.py")
    source = """
import importlib.util, sys
assert __name__ == "__main__" and sys.argv[1:] == ["--an", "option"]
assert importlib.util.find_spec("arm") is None
assert importlib.util.find_spec("leg") is not None
try:
    import arm.dom
except ImportError as error:
    assert error.name == "arm"
from kaggle_manager.trainer.runtime.as_in_session import try_out
assert "arm" in try_out.refused
print(try_out.advice(ModuleNotFoundError("No module named 'arm'", name="arm")))
"""
    done = run(tmp_path, source, hidden={"arm": "an-arm==1.0"})
    assert done.returncode == 0, done.stderr
    assert 'add "an-arm==1.0" to `packages`' in done.stdout


def test_a_module_that_cannot_be_run_without_a_hidden_package_says_what_to_add(tmp_path: Path) -> None:
    put(tmp_path / "site-packages/arm/__init__.py")
    done = run(tmp_path, "import arm", hidden={"arm": "an-arm==1.0"})
    [line] = done.stderr.splitlines()
    assert line.startswith("ModuleNotFoundError: No module named 'arm'; a session has no arm")
    assert 'add "an-arm==1.0" to `packages`' in line
    assert done.returncode == 1
    assert "Traceback" in run(tmp_path, "import no_such_module").stderr


def test_of_a_folder_that_packages_share_a_part_is_hidden(tmp_path: Path) -> None:
    packages = tmp_path / "site-packages"
    put(packages / "shared/there/__init__.py", packages / "shared/lacking/__init__.py")
    source = """
import shared.there
try:
    import shared.lacking.deep
except ImportError as error:
    assert error.name == "shared.lacking"
    from kaggle_manager.trainer.runtime.as_in_session import try_out
    print(try_out.advice(error))
"""
    done = run(tmp_path, source, hidden={"shared.lacking": "lacking==1.0"})
    assert done.returncode == 0, done.stderr
    assert 'add "lacking==1.0" to `packages`' in done.stdout


@pytest.mark.parametrize("how", ["insert(0, ", "append("])
def test_a_module_that_travels_is_never_hidden_wherever_the_code_finds_it(tmp_path: Path, how: str) -> None:
    put(tmp_path / "site-packages/tools/__init__.py", tmp_path / "site-packages/parts/__init__.py")
    put(tmp_path / "code/src/tools.py", tmp_path / "code/src/parts/one.py")
    source = f"""
import sys, pathlib
try:
    import tools
except ImportError:
    sys.path.{how}str(pathlib.Path(__file__).parent / "src"))
import tools, parts.one
from kaggle_manager.trainer.runtime.as_in_session import try_out
assert tools.__file__.startswith(str(try_out.code)), tools.__file__
"""
    done = run(tmp_path, source, hidden={"tools": "toolbox==1.0", "parts": ""})
    assert done.returncode == 0, done.stderr
    for file in ("tools.py", "parts/one.py"):
        (tmp_path / "code/src" / file).unlink()
    assert "No module named 'tools'" in run(tmp_path, source, hidden={"tools": "toolbox==1.0"}).stderr


def test_what_is_installed_from_a_folder_is_to_travel(tmp_path: Path) -> None:
    put(tmp_path / "site-packages/mine/__init__.py")
    source = """
try:
    import mine
except ImportError as error:
    from kaggle_manager.trainer.runtime.as_in_session import try_out
    print(try_out.advice(error))
"""
    said = run(tmp_path, source, hidden={"mine": ""}).stdout
    assert "installed here from a folder" in said
    assert "`include`" in said
    assert "`packages`" not in said


def test_a_module_that_does_not_travel_is_missing_as_in_a_session_and_an_optional_one_may_be(tmp_path: Path) -> None:
    put(
        tmp_path / "helpers.py",
        tmp_path / "lib/deep/one.py",
        tmp_path / "later/json_of_mine.py",
        tmp_path / "code/two.py",
    )
    put(tmp_path / "robot/src/pinned_one.py")
    (tmp_path / "code/parts").mkdir()
    places = [str(tmp_path / place) for place in ("", "lib", "robot/src")]
    put(tmp_path / "parts/three.py", tmp_path / "code/parts/four.py")
    source = f"""
import importlib.util, json, sys
sys.path[:0] = {places!r}  # as where the project is installed from its folder
from kaggle_manager.trainer.runtime.as_in_session import try_out
assert importlib.util.find_spec("deep") is None
for name in ("helpers", "deep.one", "parts.three"):
    try:
        __import__(name)
    except ImportError as error:
        print(name, try_out.advice(error))
    else:
        raise AssertionError(name)
import two, parts.four, pinned_one
spec = importlib.util.spec_from_file_location("json_of_mine", {str(tmp_path / "later/json_of_mine.py")!r})
sys.modules["json_of_mine"] = module = importlib.util.module_from_spec(spec)
print(try_out.imported_elsewhere())
"""
    done = run(tmp_path, source, section="sections/mine", pinned=[str(tmp_path / "robot")])
    assert done.returncode == 0, done.stderr
    helpers, deep, parts, later = done.stdout.splitlines()
    assert 'add "helpers.py" to `include`' in helpers
    assert 'add "lib/deep" to `include`' in deep
    assert 'add "parts/three.py" to `include`' in parts
    assert 'add "later/json_of_mine.py" to `include`' in later


@pytest.mark.parametrize(
    "look",
    [
        "(here / 'demand.csv').exists()",
        "os.path.isfile(here / 'demand.csv')",
        "list((here / 'demand.csv').glob('*'))",
        "tried(open, here / 'demand.csv')",
        "tried(os.listdir, str(here / 'demand.csv'))",
    ],
)
def test_what_code_looks_for_and_does_without_is_noticed_where_the_project_has_it(look: str, tmp_path: Path) -> None:
    put(tmp_path / "src/demand.csv", tmp_path / "src/.cache", tmp_path / "src/kept.csv")
    environment = tmp_path / "code/src/environment.py"
    put(environment, tmp_path / "code/src/kept.csv")
    environment.write_text(f"""
import os, pathlib
here = pathlib.Path(__file__).parent
def tried(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        pass
if LOOK:
    {look}
for name in (".cache", "nowhere.csv", "kept.csv"):
    (here / name).exists()
    tried(open, here / name)
""")
    source = """
import os, pathlib
from kaggle_manager.trainer.runtime.as_in_session import try_out
code = pathlib.Path("src/environment.py").resolve()
for looks in (False, True):
    exec(compile(code.read_text(), str(code), "exec"), {"__file__": str(code), "LOOK": looks})
    print(try_out.left_behind())
"""
    done = run(tmp_path, source, section="src")
    assert done.returncode == 0, done.stderr
    before, after = done.stdout.split("\n")[:2]
    assert before == ""
    assert (
        after == 'it looks for src/demand.csv, which does not travel: add "src/demand.csv" to `include` in section.toml'
    )


def test_what_is_read_where_it_lies_in_the_project_is_noticed(tmp_path: Path) -> None:
    for name in ("demand.csv", ".cache", "log.txt"):
        (tmp_path / name).write_text("x")
    source = f"""
open({str(tmp_path / "demand.csv")!r}).close()
open({str(tmp_path / ".cache")!r}).close()
open(__file__).close()
for mode in ("w", "a", "x", "w+b"):
    open({str(tmp_path / "log")!r} + mode, mode).close()
open({str(tmp_path / "log.txt")!r}, "a").close()
from kaggle_manager.trainer.runtime.as_in_session import try_out
print(try_out.left_behind())
"""
    done = run(tmp_path, source)
    assert done.returncode == 0, done.stderr
    assert "it reads demand.csv in" in done.stdout
    assert 'add "demand.csv" to `include`' in done.stdout


def test_a_module_that_was_found_in_the_project_and_does_not_travel_is_named(
    tried: TryOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = {"json": sys.modules["json"], "helpers": SimpleNamespace(__name__="helpers", __file__="")}
    seen = SimpleNamespace(prefix=sys.prefix, base_prefix=sys.base_prefix, path=sys.path, modules=modules)
    monkeypatch.setattr(as_in_session, "sys", seen)
    assert tried.imported_elsewhere() == ""
    modules["helpers"].__file__ = str(tried.project / "helpers.py")
    assert 'add "helpers.py" to `include`' in tried.imported_elsewhere()
