"""Whatever a script does, its session ends in words, and the newest committed checkpoint is kept. Real processes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.protocol.launch_order import LaunchOrder

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="sessions run on Linux")]

ROOT = Path(__file__).resolve().parents[2]

TOML = """
name = "toy"
title = "A script"
trains = true
default_scenario = "toy"

[scenarios.toy]
script = "train.py"
target = 40
models = "data/models"
best = { metric = "loss" }

[scenarios.toy.quick]
models = "data/models_quick"
"""

BEGIN = """
import json, os, resource, signal, subprocess, sys, time
from pathlib import Path

saves = Path(os.environ["KM_SESSION_SAVES"])

def save(step, **files):
    folder = saves / f"{step}.tmp"
    folder.mkdir()
    for name, data in {"state": b"%d" % step, **files}.items():
        (folder / name).write_bytes(data)
    folder.rename(saves / str(step))

def tell(step, value):
    (saves / "metrics.jsonl").write_text('{"step": %d, "name": "loss", "value": %s}\\n' % (step, value))

def taken(step):
    while (saves / str(step)).exists():
        time.sleep(0.01)
    time.sleep(0.3)

def until_asked(handle=True):
    asked = []
    signal.signal(signal.SIGTERM, (lambda *_: asked.append(1)) if handle else signal.SIG_IGN)
    while not asked:
        time.sleep(0.01)
"""

# A session in a process of its own, whose memory is measured; `LIMIT` is what of a file its own process may write.
SESSION = """
import json, resource, sys
from pathlib import Path
from kaggle_manager.trainer import main
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
main.CODE = Path(sys.argv[1])
code = main.run(json.loads(sys.argv[2]))
# Not `ru_maxrss`, which begins with that of the process that started this one.
status = Path("/proc/self/status")
if status.exists():
    print("MEMORY", next(line.split()[1] for line in status.open() if line.startswith("VmHWM")))
sys.exit(code)
"""


@dataclass
class Ended:
    """One session: its result, what it printed, and the steps of the checkpoints it left."""

    code: int
    result: dict[str, Any]
    said: str
    steps: list[int]

    @property
    def error(self) -> str:
        return str((self.result.get("error") or {}).get("type", ""))

    @property
    def reason(self) -> str:
        return str(self.result["reason"])


def session(
    folder: Path,
    script: str,
    *,
    seconds: float = 60.0,
    limit: int | None = None,
    file: str = "train.py",
    command: str = '"train.py"',
    **more: Any,
) -> Ended:
    code, working = folder / "code", folder / "working"
    (code / "sections/toy").mkdir(parents=True)
    (code / "sections/toy/section.toml").write_text(TOML.replace('"train.py"', command))
    (code / file).parent.mkdir(exist_ok=True)
    (code / file).write_text(script if file.endswith(".ipynb") else BEGIN + script)
    order = {
        "schema": LaunchOrder.SCHEMA,
        "run_id": "run",
        "generation": 1,
        "section": "toy",
        "section_folder": "sections/toy",
        "scenario": "toy",
        "target": 40,
        "deadline_s": seconds,
        "bundle_sha256": "b" * 64,
        "identity": {"script": ["train.py"], "script_fingerprint": "x"},
        **more,
    }
    (left := folder / "tmp/km_script_of_a_killed_session").mkdir(parents=True)
    (left / "held.lock").write_bytes(platform.node().encode())
    os.utime(left / "held.lock", (0, 0))
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "KM_WORKING_DIR": str(working),
        "KM_INPUT_DIR": str(folder / "input"),
        "TMPDIR": str(folder / "tmp"),
    }
    arguments = [str(code), json.dumps(order), *([str(limit)] if limit else [])]
    done = subprocess.run(
        [sys.executable, "-c", SESSION, *arguments], env=environ, capture_output=True, check=False, timeout=120
    )
    said = (done.stdout[-50_000:] + done.stderr[-50_000:]).decode(errors="replace")
    assert not any((folder / "tmp").iterdir()), "nothing stays there, also of earlier sessions"
    result = json.loads((working / "session_result.json").read_text())
    found = CheckpointStore(TrainingTree(working / "training_tree", "toy")).valid_checkpoints()
    return Ended(done.returncode, result, said, [each.step for each in found])


@pytest.mark.parametrize(
    ("script", "error", "said", "steps"),
    [
        ("save(10)", "EndedEarly", "ended by itself at 10 of 40 steps", [10]),
        ("sys.exit()", "NothingSaved", "ended with 0 and has committed no checkpoint", []),
        ("save(10); taken(10); save(5); until_asked()", "SavedBackwards", "saved step 5 after step 10", [10]),
        (
            "save(10, extra=b'1'); taken(10)\n(saves / '10').mkdir()\n(saves / '10/state').touch(); until_asked()",
            "CheckpointChanged",
            "wrote into its checkpoint of step 10 after it had been committed",
            [10],
        ),
        (
            "save(10); taken(10); (saves / '20').mkdir(); until_asked()",
            "NothingSaved",
            "step 20 is an empty folder",
            [10],
        ),
        (
            "save(10); taken(10); tell(20, 'NaN'); save(20); until_asked()",
            "Diverged",
            "diverged at step 20: loss is nan",
            [10],
        ),
        ("save(0); taken(0)", "NothingSaved", "committed no checkpoint after step 0, with which it began", [0]),
        ("save(10); tell(11, 'Infinity'); os._exit(1)", "Diverged", "diverged at step 11: loss is inf", [10]),
        ("save(10); taken(10); import no_such_module", "ScriptFailed", "'no_such_module' (train.py, line 27)", [10]),
        ("save(10); taken(10); os.kill(os.getpid(), signal.SIGKILL)", "ScriptFailed", "was ended by signal 9", [10]),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)
def test_a_broken_promise_is_an_error_of_its_own_and_the_newest_checkpoint_stays(
    script: str, error: str, said: str, steps: list[int], tmp_path: Path
) -> None:
    ended = session(tmp_path, script)
    assert (ended.error, ended.steps, ended.code) == (error, steps, 1), ended.said
    assert said in ended.reason
    assert "Safe: " in ended.said


def test_a_file_that_it_does_not_find_is_named_for_the_manager_which_knows_where_it_is(tmp_path: Path) -> None:
    ended = session(tmp_path, "open('data/words.txt')")
    assert ended.result["error"]["missing"]["file"] == "data/words.txt"
    assert "add it to `include` in section.toml" in ended.said


def test_one_that_never_saves_is_told_so_with_what_lies_there(tmp_path: Path) -> None:
    ended = session(tmp_path, "(saves / '7.tmp').mkdir(); (saves / 'step_9').mkdir(); until_asked()", seconds=9)
    assert ended.error == "NothingSaved", ended.said
    assert "in its saves folder there is 7.tmp (0 bytes), step_9 (0 bytes)" in ended.reason


def test_one_that_does_not_stop_is_killed_and_what_it_saved_counts(tmp_path: Path) -> None:
    ended = session(tmp_path / "without", "until_asked(handle=False)", seconds=9)
    assert ended.error == "StopIgnored", ended.said
    ended = session(tmp_path / "with", "save(10); until_asked(handle=False)", seconds=9)
    assert (ended.result["outcome"], ended.steps) == ("interrupted", [10])
    assert "had not ended 1 s later, and was killed" in ended.said
    ended = session(tmp_path / "unheard", "save(10); time.sleep(60)", seconds=9)
    assert (ended.result["outcome"], ended.steps) == ("interrupted", [10])
    assert "where 0 is owed: what it did since 10 is done again" in ended.said


def test_one_that_is_asked_to_stop_before_it_could_save_has_broken_nothing(tmp_path: Path) -> None:
    ended = session(tmp_path, "os.kill(os.getppid(), signal.SIGTERM); until_asked()")
    assert (ended.result["outcome"], ended.reason) == ("interrupted", "asked to stop by SIGTERM"), ended.said


@pytest.mark.parametrize("ends", ["until_asked()", "sys.exit()"])
@pytest.mark.parametrize("quick", [True, False])
def test_a_session_that_is_given_steps_has_the_whole_target_and_is_cut_at_them(
    ends: str, quick: bool, tmp_path: Path
) -> None:
    script = f"print('told', os.environ['KM_SESSION_TARGET'], os.environ['KM_SESSION_STOP_AT'])\nsave(20); {ends}"
    ended = session(tmp_path, script, max_steps=20, quick=quick)
    assert "told 40 20" in ended.said
    assert (ended.code, ended.reason, ended.steps) == (0, "this session was to train 20 steps", [20]), ended.said


def test_one_that_ends_at_its_deadline_has_kept_the_contract_however_fast_its_saves_are(tmp_path: Path) -> None:
    script = "for step in range(1, 40):\n    save(step); taken(step)\n"
    script += "    if time.time() >= float(os.environ['KM_SESSION_DEADLINE']): sys.exit()\n"
    ended = session(tmp_path, script, seconds=12)
    assert (ended.result["outcome"], ended.reason) == ("interrupted", "the script ended at its deadline"), ended.said


def test_one_that_has_saved_its_target_and_hangs_does_not_keep_the_session(tmp_path: Path) -> None:
    ended = session(tmp_path, "save(40); time.sleep(1000)", seconds=100)
    assert (ended.result["outcome"], ended.steps) == ("completed", [40]), ended.said
    assert ended.result["timings"]["total"] < 60


def test_what_was_saved_before_a_divergence_is_kept_also_when_it_still_waits(tmp_path: Path) -> None:
    ended = session(tmp_path, "save(10); taken(10); save(20); tell(21, 'NaN'); until_asked()")
    assert (ended.error, ended.steps) == ("Diverged", [20, 10]), ended.said


def test_what_it_leaves_behind_is_ended_and_named(tmp_path: Path) -> None:
    left = "subprocess.Popen(['sleep', '600'], start_new_session=True)\n(saves / '41.tmp').mkdir()\n"
    ended = session(tmp_path, f"{left}save(40)")
    assert (ended.result["outcome"], ended.steps) == ("completed", [40]), ended.said
    assert "left processes behind when it ended, which were killed: sleep" in ended.said
    assert "not used, for it is no folder named <step>: 41.tmp" in ended.said
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if str(tmp_path).encode() in _environ(pid)]


def _environ(pid: Path) -> bytes:
    try:
        return (pid / "environ").read_bytes()
    except OSError:
        return b""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_gigabyte_that_it_prints_takes_no_memory(tmp_path: Path) -> None:
    ended = session(tmp_path, "line = 'x' * 999_999\nfor _ in range(1000): print(line)\nsave(40)", seconds=120)
    assert ended.result["outcome"] == "completed", ended.said[-2000:]
    memory = int(ended.said.rpartition("MEMORY ")[2].split()[0]) * 1024
    assert memory < 200_000_000


def test_a_full_disk_is_the_scripts_error_or_one_of_the_disk(tmp_path: Path) -> None:
    large = "save(10); taken(10); save(20, large=bytes(3_000_000)); until_asked()"
    ended = session(tmp_path / "script", large, limit=1_000_000)
    assert (ended.error, ended.steps) == ("ScriptFailed", [10]), ended.said
    assert "File too large" in ended.reason
    more = (
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\nresource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
    )
    ended = session(tmp_path / "session", more + large, limit=1_000_000)
    assert (ended.error, ended.steps) == ("StorageError", [10]), ended.said


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("pack/train.py", '"-m pack.train"'),
        ("train.py", '["python", "-B", "train.py"]'),
        ("train.py", '["sh", "-c", "exec python3 train.py"]'),
        ("train.ipynb", '"train.ipynb"'),
    ],
)
def test_a_module_a_command_and_a_notebook_are_scripts_too(file: str, command: str, tmp_path: Path) -> None:
    script = "save(40)"
    if file.endswith(".ipynb"):
        cells = [{"cell_type": "code", "source": text} for text in ("%matplotlib inline\n" + BEGIN, script)]
        script = json.dumps({"cells": cells, "metadata": {}})
    ended = session(tmp_path, script, file=file, command=command)
    assert (ended.result["outcome"], ended.steps) == ("completed", [40]), ended.said


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    ended = session(tmp_path, "", command='["no_such_launcher", "train.py"]')
    assert (ended.error, ended.code) == ("ConfigError", 3)
    assert "there is no program 'no_such_launcher' in a session" in ended.reason
