"""The preflight of a script: run, stopped, killed, resumed, and compared with a run that was never cut."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.config import build_config
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.sections.model import load_section
from kaggle_manager.sessions.preflight import check_section, known_failures, missing_packages, run_preflight
from kaggle_manager.trainer.script.preflight import preflight

pytestmark = pytest.mark.slow

HEAD = """
name = "toy"
title = "Scripts"
trains = true
default_scenario = "exact"
"""

SCENARIO = """
[scenarios.{name}]
script = "train.py"
arguments = ["{how}"]
target = 400
models = "data/{name}"

[scenarios.{name}.quick]
target = 40
models = "data/{name}_quick"
"""

TRAIN = """
import hashlib, os, random, signal, sys, time
from pathlib import Path

how, step, stopped = sys.argv[1], int(os.environ["KM_SESSION_STEP"]), []
saves, target = Path(os.environ["KM_SESSION_SAVES"]), int(os.environ["KM_SESSION_TARGET"])
state = os.environ["KM_SESSION_SEED"].encode() if how != "unseeded" else os.urandom(8)
if step and how == "dies resuming":
    raise ValueError("no weights")
if step and how in ("from zero", "saves last"):
    step = 0
elif step and how != "unread":
    kept = (Path(os.environ["KM_SESSION_RESUME"]) / "state.bin").read_bytes()
    state = state if how == "forgets" else kept
if how != "unasked":
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
while step < target and not stopped:
    time.sleep(0.05 if how == "saves last" else 0.01)
    step, state = step + 1, hashlib.sha256(state).digest()
    if step == 30 and how == "early":
        break
    if how == "other names" and step == 5:
        (saves / "ckpt-5").mkdir()
    elif how != "other names" and (step == target or stopped or (step % 5 == 0 and how != "saves last")):
        (saves / f"{step}.tmp").mkdir()
        (saves / f"{step}.tmp/state.bin").write_bytes(state)
        if how == "linked":
            (saves / f"{step}.tmp/inside").symlink_to(saves)
        elif how == "dangling":
            (saves / f"{step}.tmp/last").symlink_to(saves / f"{step}.tmp/state.bin")
        elif how == "not whole":
            (saves / f"{step}.tmp/logs").mkdir()
            (saves / f"{step}.tmp/state.bin").chmod(0o755)
        elif how == "diverges":
            (saves / "metrics.jsonl").write_text('{"step": %d, "name": "loss", "value": NaN}\\n' % step)
        (saves / f"{step}.tmp").rename(saves / str(step))
"""

NAMES = {
    "exact": ("a resume loses nothing", True, "bit for bit"),
    "forgets": ("a resume loses nothing", True, "WARNING: it lost something: at step"),
    "from_zero": ("resumes", False, "it started again from zero although it was given the checkpoint of step"),
    "unread": ("resumes", False, "of which it opened no file: load KM_SESSION_RESUME"),
    "saves_last": ("resumes", False, "it started again from zero although it was given the checkpoint of step"),
    "other_names": ("trains and saves", False, "had committed no checkpoint; in its saves folder there is ckpt-5"),
    "unseeded": ("a resume loses nothing", True, "two runs that were never cut differ as well"),
    "unasked": ("stops when asked", True, "WARNING: SIGTERM ended it without a last checkpoint"),
    "dies_resuming": ("resumes", False, "it ended with exit code 1: ValueError: no weights"),
    "early": ("trains and saves", False, "ended by itself at 25 of 40 steps"),
    # What a session refuses or leaves out, in its words.
    "linked": ("trains and saves", False, "step 5 has a link to a folder: 'inside' -> "),
    "dangling": ("trains and saves", False, "step 5 has a link to what is not there: 'last' -> "),
    "diverges": ("trains and saves", False, "diverged at step 5: loss is nan"),
    "not_whole": ("what a session keeps", True, "step 5: logs (an empty folder), state.bin (that it can be executed)"),
}


def project(folder: Path, script: str = TRAIN) -> Path:
    (folder / "sections/toy").mkdir(parents=True)
    text = HEAD + "".join(SCENARIO.format(name=name, how=name.replace("_", " ")) for name in NAMES)
    (folder / "sections/toy/section.toml").write_text(text)
    (folder / "train.py").write_text(script)
    return folder


def test_it_says_what_a_resume_loses_and_what_a_script_owes(tmp_path: Path) -> None:
    section = load_section(project(tmp_path) / "sections/toy/section.toml")
    result = check_section(tmp_path, section)
    by_name: dict[str, dict[str, Any]] = {check["name"]: check for check in result["checks"]}
    for name, (what, ok, said) in NAMES.items():
        check = by_name[f"{name}: {what}"]
        assert check["ok"] is ok, check
        assert said in check["detail"]
    assert result["ok"] is False


NEVER = {
    "told": "open(os.environ['KM_SESSION_SAVES'] + '/metrics.jsonl', 'a').write("
    '\'{"step": %d, "name": "loss", "value": 1}\\n\' % step)',
    "untold": "",
}


@pytest.mark.parametrize("how", NEVER)
def test_a_script_that_trains_on_and_never_saves_does_not_pass(tmp_path: Path, how: str) -> None:
    script = f"import os, time\nfor step in range(5000):\n    {NEVER[how] or 'pass'}\n    time.sleep(0.1)\n"
    section = load_section(project(tmp_path, script) / "sections/toy/section.toml")
    (check,) = preflight(tmp_path, section, ["exact"], moment_s=1)
    assert not check.ok
    assert "after SIGTERM, it committed no checkpoint" in check.detail
    assert ("it had reached step" if how == "told" else "no step was reached") in check.detail
    assert ("--thorough" in check.detail) is (how == "untold")


def test_a_script_that_imports_for_longer_than_its_moment_is_given_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaggle_manager.trainer.script.tried._PATIENCE", 50.0)  # this machine may be at work
    monkeypatch.setattr("kaggle_manager.trainer.script.tried._COMPUTES", 0.001)
    slow = "import time\nends = time.monotonic() + 3.5\nwhile time.monotonic() < ends:\n    pass\n" + TRAIN
    section = load_section(project(tmp_path, slow) / "sections/toy/section.toml")
    first, *_ = preflight(tmp_path, section, ["exact"], moment_s=3)
    assert first.ok
    assert "checkpoint" in first.detail
    assert "WARNING" not in first.detail


def test_a_script_that_ignores_sigterm_and_reaches_its_target_is_not_said_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaggle_manager.trainer.script.tried.GRACE_S", 3.0)
    ignores = TRAIN.replace("lambda *_: stopped.append(1)", "signal.SIG_IGN").replace(
        "(step % 5 == 0 and", "(False and"
    )
    section = load_section(project(tmp_path, ignores) / "sections/toy/section.toml")
    by_name = {check.name: check.detail for check in preflight(tmp_path, section, ["exact"], moment_s=20)}
    assert "it had not ended 3 s after SIGTERM" in by_name["exact: stops when asked"]


def test_a_quick_run_says_that_it_leaves_the_trial_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path))
    run_preflight(build_config("toy", quick=True, environ={}), Reporter(told := io.StringIO()))
    assert "a quick run leaves the trial out" in told.getvalue()
    assert "none failed" not in told.getvalue(), "nothing was tried"


@pytest.mark.parametrize("how", ['"data/words.txt"', 'Path(__file__).parent / "data/words.txt"', '"elsewhere.txt"'])
def test_a_file_of_the_project_that_does_not_travel_is_to_be_included(tmp_path: Path, how: str) -> None:
    script = f"from pathlib import Path\nopen({how})\n"
    section = load_section(project(tmp_path, script) / "sections/toy/section.toml")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/words.txt").touch()
    told: list[dict[str, Any]] = []
    (check, *_) = check_section(tmp_path, section, ["exact"], on_result=told.append)["checks"]
    assert "FileNotFoundError" in check["detail"]
    words = '; data/words.txt of the project does not travel: add "data/words.txt" to `include` in section.toml'
    assert check["detail"].endswith(words) is ("words" in how), check["detail"]
    assert told[0] == check


def test_a_script_that_is_not_there_or_imports_what_is_not_here_is_named_at_once(tmp_path: Path) -> None:
    section = load_section(project(tmp_path, "import no_such_module_at_all\n") / "sections/toy/section.toml")
    assert missing_packages(section, tmp_path) == ["no_such_module_at_all"]
    (tmp_path / "train.py").unlink()
    assert "there is no file train.py" in known_failures(tmp_path, section, ["exact"])[0]["detail"]
