"""A script whose checkpoint is 5 GB: what the session beside it takes of memory, time and disk.

    python scripts/benchmarks/large_checkpoint.py [--gigabytes 5] [--folder DIR] [--write]
    python scripts/benchmarks/large_checkpoint.py --through-run ...       two sessions by `km run`, on a local Kaggle

Three fifths of a checkpoint are new in each save, two fifths and 200 small files are always the same. Two saves, then
the newest checkpoint is given back as a resume would find it. Needs four times that of disk, and some minutes; through
a run see `large_checkpoint_run`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import large_checkpoint_run as through_run
from kept_section import commit, replace_section

from kaggle_manager.protocol.launch_order import LaunchOrder

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/scripts.md"

TOML = """
name = "large"
title = "Large checkpoints"
trains = true
default_scenario = "large"

[scenarios.large]
script = "train.py"
target = 2
models = "data/models"

[scenarios.large.quick]
models = "data/models_quick"
"""

TRAIN = """
import os, sys, time
from pathlib import Path

saves, size = Path(os.environ["KM_SESSION_SAVES"]), int(sys.argv[1])

def write(path, label, size):
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(size >> 20):
            file.write(b"%s %12d" % (label, number) + block[len(label) + 13:])

frozen = os.urandom(1 << 20)
for step in (1, 2):
    folder = saves / f"{step}.tmp"
    (folder / "shards").mkdir(parents=True)
    write(folder / "weights.bin", b"%d" % step, size * 3 // 5)
    with (folder / "frozen.bin").open("wb") as file:
        for number in range(size * 2 // 5 >> 20):
            file.write(b"%12d" % number + frozen[12:])
    for number in range(200):
        (folder / f"shards/{number}.json").write_text("x" * 1000)
    folder.rename(saves / str(step))
    while (saves / str(step)).exists():
        time.sleep(0.05)
"""

SESSION = """
import json, resource, sys, time
from pathlib import Path
from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.trainer import main
from kaggle_manager.trainer.script import commits, saves

code, working, order = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
seconds, commit = [], commits.Commits.commit

def timed(self, *arguments):
    began = time.monotonic()
    checkpoint = commit(self, *arguments)
    seconds.append(time.monotonic() - began)
    return checkpoint

commits.Commits.commit = timed
main.CODE = code
exit_code = main.run(order)
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
newest = CheckpointStore(TrainingTree(working / "training_tree", "large")).find_latest_checkpoint()
began = time.monotonic()
saves.unpack(newest, working.parent / "resume")
facts = {"exit_code": exit_code, "memory": memory, "seconds": seconds, "resume_s": time.monotonic() - began}
facts["memory_after"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
(working.parent / "facts.json").write_text(json.dumps(facts))
"""


def measure(folder: Path, size: int) -> dict[str, Any]:
    """Run one session of two saves of `size` bytes each; what it took."""
    code, working = folder / "code", folder / "working"
    (code / "sections/large").mkdir(parents=True)
    toml = TOML.replace('"train.py"', f'"train.py"\narguments = ["{size}"]')
    (code / "sections/large/section.toml").write_text(toml)
    (code / "train.py").write_text(TRAIN)
    (folder / "tmp").mkdir()
    order = {
        "schema": LaunchOrder.SCHEMA,
        "run_id": "run",
        "generation": 1,
        "section": "large",
        "section_folder": "sections/large",
        "scenario": "large",
        "target": 2,
        "bundle_sha256": "b" * 64,
        "identity": {},
    }
    environ = os.environ | {
        "PYTHONPATH": str(ROOT),
        "KM_WORKING_DIR": str(working),
        "KM_INPUT_DIR": str(folder / "input"),
        "TMPDIR": str(folder / "tmp"),
    }
    command = [sys.executable, "-c", SESSION, str(code), str(working), json.dumps(order)]
    load = os.getloadavg()[0]
    subprocess.run(command, env=environ, check=True)
    files = [path for path in (working / "training_tree").rglob("*") if path.is_file()]
    taken = {path.stat().st_ino: path.stat().st_size for path in files}
    facts: dict[str, Any] = json.loads((folder / "facts.json").read_text())
    return facts | {
        "load": load,
        "listed": sum(path.stat().st_size for path in files),
        "taken": sum(taken.values()),
        "files": len(files),
    }


def table(facts: dict[str, Any], size: int) -> list[str]:
    """Markdown."""
    first, second = facts["seconds"]
    rows = [
        (
            "memory of the session beside the script's own",
            f"{max(facts['memory'], facts['memory_after']) / 1e6:.0f} MB",
        ),
        ("the first save, committed and verified, beside the training", f"{first:.0f} s"),
        ("the second one, two fifths of it unchanged", f"{second:.0f} s"),
        ("given back for a resume", f"{facts['resume_s']:.0f} s"),
        ("on the disk: two checkpoints and the final one", f"{facts['taken'] / 1e9:.1f} GB"),
        (
            "of the 20 GB that a session may leave, every file counted",
            f"{facts['listed'] / 1e9:.1f} GB in {facts['files']} files",
        ),
    ]
    at_work = f"on {os.cpu_count()} cores with {facts['load']:.0f} other processes at work"
    head = f"A checkpoint of {size / 1e9:.1f} GB in 202 files, {at_work} (`scripts/benchmarks/large_checkpoint.py`):"
    return [head, "", "| measured | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--folder", type=Path, help="where there is room; default: the temporary folder")
    parser.add_argument("--through-run", action="store_true", help="over two sessions of a local Kaggle, by `km run`")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/scripts.md")
    options = parser.parse_args()
    size = int(options.gigabytes * 1e9)
    folder = Path(tempfile.mkdtemp(prefix="km_large_", dir=options.folder))
    try:
        if options.through_run:
            command = f"scripts/benchmarks/large_checkpoint.py --through-run --gigabytes {options.gigabytes:g}"
            lines = through_run.table(through_run.measure(folder, size), size, command, commit())
        else:
            lines = table(measure(folder, size), size)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(lines))
    if options.write:
        section = "large checkpoint by km run" if options.through_run else "large checkpoint"
        replace_section(section, "", lines, DOCUMENT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
