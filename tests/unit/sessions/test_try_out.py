"""A place to try what travels leaves nothing on this machine, also when its process was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kaggle_manager.sections.scaffold import new_section
from kaggle_manager.sessions import try_out

KILLED = """
import os, signal, sys
from pathlib import Path
from kaggle_manager.sections.model import load_section
from kaggle_manager.sessions.try_out import unpacked
with unpacked(Path(sys.argv[1]), load_section(Path(sys.argv[1], "sections/mine/section.toml"))) as place:
    print(place.code.parent, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_what_a_killed_one_left_is_removed_by_the_next_and_one_at_work_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = new_section("mine", tmp_path / "project").section
    (there := tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(there))
    monkeypatch.setattr(tempfile, "tempdir", str(there))
    words = [sys.executable, "-c", KILLED, str(tmp_path / "project")]
    left = Path(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False).stdout.strip())
    assert (left / "code").is_dir()
    with try_out.unpacked(tmp_path / "project", section) as at_work:
        assert left.is_dir(), "it may be one that is made at this moment"
        for folder in there.iterdir():
            os.utime(folder / "held.lock", (0, 0))
        with try_out.unpacked(tmp_path / "project", section):
            assert not left.exists()
            assert at_work.code.is_dir()
    assert not [*there.iterdir()]
