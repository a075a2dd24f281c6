"""What a session did not have is said with the line that brings it there: `include`, `packages` or `inputs`."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.errors import ScriptFailed
from kaggle_manager.protocol.session_result import Missing, SessionResult
from kaggle_manager.runs.retry_policy import FailureKind
from kaggle_manager.sections.scaffold import new_section
from kaggle_manager.sessions.missing import advice
from kaggle_manager.sessions.outcome import judge
from kaggle_manager.trainer.runtime.missing import missing_in


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    new_section("mine", tmp_path)
    for name in ("helpers.py", "library/deep.py", "sections/mine/demand.json", "sections/mine/near.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return build_config("mine", project_root=tmp_path, environ={})


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (Missing(module="helpers"), 'add "helpers.py" to `include`'),
        (Missing(module="library.deep"), 'add "library/deep.py" to `include`'),
        (Missing(module="near"), "import it as sections.mine.near"),
        (Missing(module="hypothesis.strategies"), 'add "hypothesis=='),
        (Missing(module="of_nobody"), "pin the package that brings it in `packages`"),
        (Missing(file="sections/mine/demand.json"), 'add "sections/mine/demand.json" to `include`'),
        (Missing(file="/kaggle/input/roads/net.xml"), "`inputs`"),
        (Missing(file=__file__), "is a file of this machine"),
        (Missing(file="sh"), "no program 'sh'"),
    ],
    ids=str,
)
def test_what_is_missing_is_found_in_the_project_or_among_the_packages(
    missing: Missing, said: str, config: RunConfig
) -> None:
    assert said in advice(missing, config)


@pytest.mark.parametrize(
    "name", ["out/log.csv", "/tmp/of_one_moment/x", "../outside", "a" * 300, "a\0", "sections/mine/environment.py"]
)
def test_nothing_is_advised_where_the_next_session_may_find_it(name: str, config: RunConfig, tmp_path: Path) -> None:
    (tmp_path.parent / "outside").touch()
    assert advice(Missing(file=name), config) == ""


def failing(code: Path, body: str) -> BaseException:
    """The error of a module of the user's in `code`."""
    file = code / "sections/mine/environment.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body)
    try:
        exec(compile(body, str(file), "exec"), {})
    except Exception as error:
        return error
    raise AssertionError("it was to fail")


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ("import of_nobody.deep", Missing(module="of_nobody")),
        ("try:\n import of_nobody\nexcept ImportError as error:\n raise ValueError('no') from error", None),
        ("raise RuntimeError(\"No module named 'mujoco'. Install it\")", Missing(module="mujoco")),
        ("open('demand.json')", Missing(file="demand.json")),
        ("open('CODE/sections/mine/demand.json')", Missing(file="sections/mine/demand.json")),
        ("open('/nowhere/at/all')", Missing(file="/nowhere/at/all")),
        ("import subprocess; subprocess.run(['km-no-program'])", Missing(file="km-no-program")),
        ("1 / 0", None),
        ("import kaggle_manager.of_nobody", None),
    ],
)
def test_a_session_names_what_its_code_asked_for(body: str, missing: Missing | None, tmp_path: Path) -> None:
    if "from error" in body:
        missing = Missing(module="of_nobody")
    assert missing_in(failing(tmp_path, body.replace("CODE", str(tmp_path))), tmp_path) == missing


@pytest.mark.parametrize("name", ["data/words.txt", "CODE/data/words.txt"])
def test_a_script_s_missing_file_is_known_by_the_last_line_of_its_traceback(name: str, tmp_path: Path) -> None:
    last = f"FileNotFoundError: [Errno 2] No such file or directory: '{name}' (train.py, line 3)"
    words = f"The script ended with exit code 1: {last}".replace("CODE", str(tmp_path))
    error = ScriptFailed(words, safe="all", next_step="read the log")
    assert missing_in(error, tmp_path) == Missing(file="data/words.txt")


def test_a_file_that_this_program_does_not_find_is_not_the_users(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        (tmp_path / "x").read_bytes()
    assert missing_in(raised.value, tmp_path / "code") is None


def test_what_nothing_but_the_project_can_change_is_not_tried_again() -> None:
    error = {"type": "FileNotFoundError", "message": "[Errno 2] No such file: 'a'", "missing": {"file": "a"}}
    result = SessionResult.from_json(
        {"schema": SessionResult.SCHEMA, "outcome": "crashed", "exit_code": 1, "run_id": "r", "generation": 1}
        | {"bundle_sha256": "b", "error": error}
    )
    known = {"result": result, "platform_says": "", "log": "", "step_before": 0, "step_after": 0}
    plain, told = (judge(**known, target_reached=False, remedy=remedy) for remedy in ("", 'add "a" to `include`'))  # type: ignore[arg-type]
    assert (plain.failure_kind, told.failure_kind) == (FailureKind.CODE, FailureKind.ORDER)
    assert 'add "a" to `include`' in told.why
    assert plain.failure == told.failure
