"""What the user's code has started does not keep a session alive whose result is written: the real entry, real code."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from textwrap import dedent

import pytest
from processes import has_ended

ROOT = Path(__file__).resolve().parents[3]
HANGS_AFTER_S = 60
ORDER = {"run_id": "3fa85f64b7170f4d", "generation": 2, "bundle_sha256": "b" * 64}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sessions run on Linux")

TRAINER = f"""
import atexit, ctypes, json, multiprocessing, os, signal, subprocess, sys, threading, time
from pathlib import Path

def run(order):
    left_by_the_users_code()
    Path(os.environ["KM_WORKING_DIR"], "session_result.json").write_text(json.dumps({ORDER} | {{"exit_code": 3}}))
    return 3

def left_by_the_users_code():
"""
ENTRY = """
import json, sys
sys.path.insert(0, sys.argv[1])
import entry
entry.LAST_WORDS_S, entry.LOOK_S, entry.AFTER_RESULT_S, entry.REST_OF_LOG_S = json.loads(sys.argv[3])
sys.exit(entry.main(**json.load(open(sys.argv[2]))))
"""


def session(folder: Path, left: str, waits: tuple[float, float, float, float]) -> tuple[int, str]:
    """Exit code and log of a session whose user's code leaves something behind."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, text in {
            "kaggle_manager/__init__.py": "",
            "kaggle_manager/trainer/__init__.py": "",
            "kaggle_manager/trainer/main.py": TRAINER + "".join(f"    {line}\n" for line in dedent(left).splitlines()),
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    archive = stream.getvalue()
    given = {
        "bundle_sha256": hashlib.sha256(archive).hexdigest(),
        "order": ORDER,
        "payload": base64.b85encode(lzma.compress(archive, preset=0)).decode(),
    }
    (folder / "given.json").write_text(json.dumps(given))
    (folder / "working").mkdir()
    (folder / "temporary").mkdir()
    command = [sys.executable, "-c", ENTRY, str(ROOT / "kaggle_manager/trainer"), str(folder / "given.json")]
    done = subprocess.run(
        [*command, json.dumps(waits)],
        env={**os.environ, "KM_WORKING_DIR": str(folder / "working"), "TMPDIR": str(folder / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANGS_AFTER_S,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "left",
    [
        "threading.Thread(target=time.sleep, args=(999,)).start()",
        "atexit.register(time.sleep, 999)",
        "multiprocessing.get_context('fork').Process(target=time.sleep, args=(999,)).start()",
        "os.close(1); os.close(2); atexit.register(time.sleep, 999)",
    ],
    ids=["thread", "exit-handler", "process", "no-streams"],
)
def test_what_the_users_code_started_is_waited_for_a_moment_only(tmp_path: Path, left: str) -> None:
    code, log = session(tmp_path, left, (0.2, 999, 999, 0.1))
    assert code == 3, log
    assert "they are ended" in log or "os.close" in left


def test_the_unpacked_code_goes_with_the_session(tmp_path: Path) -> None:
    code, log = session(tmp_path, "print('code in', Path(__file__).parents[2].name)", (999, 999, 999, 999))
    assert code == 3, log
    assert "code in km_code_" in log
    assert not list((tmp_path / "temporary").iterdir()), "a machine that sessions share would fill up"


def test_what_ends_by_itself_is_waited_for(tmp_path: Path) -> None:
    left = """
        threading.Thread(target=lambda: (time.sleep(0.3), print("uploaded"))).start()
        atexit.register(print, "closed")
    """
    code, log = session(tmp_path, left, (30, 999, 999, 999))
    assert code == 3, log
    assert "uploaded" in log
    assert "closed" in log
    assert "ended" not in log


def test_a_trainer_that_cannot_even_end_itself_is_ended(tmp_path: Path) -> None:
    # `sleep` of a library that holds the interpreter: no other thread of the trainer runs any more.
    left = "atexit.register(ctypes.PyDLL(None).sleep, 999)"
    code, log = session(tmp_path, left, (0.1, 0.05, 0.3, 999))
    assert code == 3, log
    assert "does not end: it is ended" in log


def test_a_trainer_that_dies_while_it_leaves_has_done_its_work(tmp_path: Path) -> None:
    code, log = session(tmp_path, "atexit.register(os.kill, os.getpid(), signal.SIGKILL)", (30, 999, 999, 999))
    assert code == 3, log


def test_a_process_that_was_left_behind_ends_with_the_session(tmp_path: Path) -> None:
    left = """
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(999)"])
        print("child", child.pid, flush=True)
    """
    code, log = session(tmp_path, left, (30, 999, 999, 0.1))
    assert code == 3, log
    child = int(log.partition("child ")[2].split()[0])
    deadline = time.monotonic() + HANGS_AFTER_S
    while not has_ended(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert has_ended(child)
