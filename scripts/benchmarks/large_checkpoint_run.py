"""A script's large checkpoint through `km run`: two sessions of a local Kaggle, the real manager, the real transfers.

A checkpoint is five files of the same size, of which one changes from step to step. The first session saves step 1 and
is asked to stop; the second resumes and saves the target, step 2. What is measured is the peak memory (VmHWM) of the
manager and of what runs beside the script in a session, and how much the manager brought here of each session.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.local_kaggle.launcher import ensure_running, stop

ROOT = Path(__file__).resolve().parents[2]
NAME, FILES = "large", 5
LOOK_S, SIZE_EVERY_S = 0.2, 5.0

TOML = f"""
name = "{NAME}"
title = "Large checkpoints"
trains = true
default_scenario = "{NAME}"

[scenarios.{NAME}]
script = "train.py"
arguments = ["SIZE"]
target = 2
models = "data/models"

[scenarios.{NAME}.quick]
arguments = ["1"]
models = "data/models_quick"
"""

TRAIN = f"""
import os, random, signal, sys, time
from pathlib import Path

saves, resume, blocks = Path(os.environ["KM_SESSION_SAVES"]), os.environ.get("KM_SESSION_RESUME"), int(sys.argv[1])
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))

def contents(number, step):
    block = random.Random(f"{{step if number == 0 else 0}}/{{number}}").randbytes(1 << 20)
    return (b"%12d" % at + block[12:] for at in range(blocks))

if resume:
    for number in range({FILES}):
        with (Path(resume) / f"part{{number}}.bin").open("rb") as file:
            assert all(file.read(1 << 20) == each for each in contents(number, int(os.environ["KM_SESSION_STEP"])))
for step in range(int(os.environ["KM_SESSION_STEP"]) + 1, int(os.environ["KM_SESSION_TARGET"]) + 1):
    folder = saves / f"{{step}}.tmp"
    folder.mkdir()
    for number in range({FILES}):
        with (folder / f"part{{number}}.bin").open("wb") as file:
            file.writelines(contents(number, step))
    folder.rename(saves / str(step))
    if resume is None and blocks > 1:  # not in the preflight
        os.kill(os.getppid(), signal.SIGTERM)
        while not asked:
            time.sleep(0.05)
    if asked:
        break
"""


@dataclass
class Watch:
    """Looks at the processes and the disk of a run until it is told to end.

    Attributes:
        manager: peak resident memory of the process that was started, in bytes.
        session: of what runs in a session and is not the script: `entry.py` and the trainer's process, added up.
        script: of the script.
        disk: most that the folder took, in bytes; a file of two names counts once.
    """

    folder: Path
    pid: int
    manager: int = 0
    script: int = 0
    disk: int = 0
    _peaks: dict[int, int] = field(default_factory=dict)
    _sessions: list[set[int]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def session(self) -> int:
        return max((sum(self._peaks[pid] for pid in pids) for pids in self._sessions), default=0)

    def look_until_told(self) -> None:
        next_size = 0.0
        while not self._over.wait(LOOK_S):
            self._look()
            if time.monotonic() >= next_size:
                self.disk = max(self.disk, taken(self.folder))
                next_size = time.monotonic() + SIZE_EVERY_S

    def end(self) -> None:
        self._over.set()

    def _look(self) -> None:
        self.manager = max(self.manager, peak_of(self.pid))
        for pid, parent, command in processes_of(self.folder):
            if b"kaggle_manager.trainer.main" in command:
                pair = {pid, parent}
                if pair not in self._sessions:
                    self._sessions.append(pair)
                for each in pair:
                    self._peaks[each] = max(self._peaks.get(each, 0), peak_of(each))
            elif b"train.py" in command:
                self.script = max(self.script, peak_of(pid))


@dataclass(frozen=True)
class Passed:
    """What a run took.

    Attributes:
        brought: what the manager said of each session's outputs.
        seconds: of the whole run.
    """

    manager: int
    session: int
    script: int
    disk: int
    brought: list[str]
    seconds: float
    load: float


def measure(folder: Path, size: int) -> Passed:
    """Run it in an empty folder.

    Raises:
        RuntimeError: it did not end as it should.
    """
    section = folder / "sections" / NAME
    kaggle = folder / ".kaggle_manager/local_kaggle"
    section.mkdir(parents=True)
    kaggle.mkdir(parents=True)
    (folder / "tmp").mkdir()
    (section / "section.toml").write_text(TOML.replace("SIZE", str((size // FILES) >> 20)), encoding="utf-8")
    (folder / "train.py").write_text(TRAIN, encoding="utf-8")
    (kaggle / "limits.json").write_text('{"ingestion_s": 0.0}', encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KAGGLE_")}
    environ |= {"PYTHONPATH": str(ROOT), "KM_PLATFORM": "local", "TMPDIR": str(folder / "tmp")}
    load, began = os.getloadavg()[0], time.monotonic()
    try:
        ensure_running(kaggle, idle_exit_s=24 * 3600)
        with (folder / "manager.log").open("wb") as log:
            command = [sys.executable, "-m", "kaggle_manager.cli", "run", NAME]
            process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
            watch = Watch(folder, process.pid)
            looking = threading.Thread(target=watch.look_until_told)
            looking.start()
            try:
                code = process.wait()
            finally:
                watch.end()
                looking.join()
    finally:
        stop(kaggle)
    seconds = time.monotonic() - began
    said = (folder / "manager.log").read_text(encoding="utf-8", errors="replace")
    final = CheckpointStore(TrainingTree(section / "data/models", NAME)).final()
    brought = re.findall(r"(\d+ files? downloaded \(.*\)), in ", said)
    if code or final is None or final.step != 2 or len(brought) != 2:
        raise RuntimeError(f"the run ended with {code}:\n{said[-4000:]}")
    return Passed(watch.manager, watch.session, watch.script, watch.disk, brought, seconds, load)


def table(passed: Passed, size: int, command: str, commit: str) -> list[str]:
    """Markdown."""
    rows = [
        ("peak memory of the manager", f"{passed.manager / 1e6:.0f} MB"),
        ("of the session beside the script, two processes", f"{passed.session / 1e6:.0f} MB"),
        ("of the script, which writes a MB at a time", f"{passed.script / 1e6:.0f} MB"),
        ("downloaded of the first session", passed.brought[0]),
        ("of the second, in which one file of five changed", passed.brought[1]),
        ("the disk at most, with that of the local Kaggle", f"{passed.disk / 1e9:.1f} GB"),
        ("in all, with both sessions", f"{passed.seconds / 60:.0f} minutes"),
    ]
    head = (
        f"A checkpoint of {size / 1e9:.1f} GB in {FILES} files by `km run`, on a local Kaggle, over two sessions; "
        f"{os.cpu_count()} cores with {passed.load:.0f} other processes at work (`{command}`, {commit}):"
    )
    return [
        *textwrap.wrap(head, 120, break_on_hyphens=False),
        "",
        "| measured | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
    ]


def processes_of(folder: Path) -> Iterator[tuple[int, int, bytes]]:
    """Pid, parent and command line of what runs there, or was started by something that does."""
    found: dict[int, tuple[int, bytes]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            found[int(stat.parent.name)] = parent, (stat.parent / "cmdline").read_bytes()
    for pid, (parent, command) in found.items():
        above = pid
        while above in found and os.fsencode(folder) not in found[above][1]:
            above = found[above][0]
        if above in found:
            yield pid, parent, command


def peak_of(pid: int) -> int:
    """The most memory that a process has had resident, in bytes; 0 for one that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def taken(folder: Path) -> int:
    """Bytes that the files of a folder take on the disk."""
    sizes = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                facts = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - many files, often
                sizes[facts.st_ino] = facts.st_blocks * 512
    return sum(sizes.values())
