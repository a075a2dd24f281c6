"""A folder to work in leaves nothing on this machine, also when its process was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kaggle_manager.system.scratch import scratch_folder

KILLED = """
import os, signal
from kaggle_manager.system.scratch import scratch_folder
with scratch_folder("km_script_") as folder:
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_what_a_killed_process_left_is_removed_and_what_is_held_or_of_another_machine_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    words = [sys.executable, "-c", KILLED]
    left, elsewhere = (
        Path(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()) for _ in range(2)
    )
    (elsewhere / "held.lock").write_bytes(b"another machine, with the same disk")
    (tmp_path / "km_of_the_user").mkdir()
    with scratch_folder("km_try_out_") as at_work:
        assert left.is_dir(), "it may be one that is made at this moment"
        for lock in tmp_path.glob("*/held.lock"):
            os.utime(lock, (0, 0))
        with scratch_folder("km_preflight_"):
            assert not left.exists()
            assert at_work.is_dir()
    assert {*tmp_path.iterdir()} == {elsewhere, tmp_path / "km_of_the_user"}
