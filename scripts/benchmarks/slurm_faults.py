"""A run over jobs of a real Slurm through one fault at a time: the target is reached with the same bits, one job each.

    python scripts/benchmarks/slurm_faults.py                    every fault, some 15 minutes
    python scripts/benchmarks/slurm_faults.py --outage-s 15 --only controller

A Slurm of Debian's packages is started on loopback (tests/support/loopback_slurm.py), which forgets a job two seconds
after its end. The trainer is a few lines whose every step takes seconds; the manager is a process of its own, with
the patience that a user's has. A fault begins while the second job trains.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]

from loopback_slurm import LoopbackSlurm, why_not  # noqa: E402
from small_project import SCENARIO, SECTION, TRAINER, installed, make_project  # noqa: E402

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree  # noqa: E402

TARGET, STEP_S, LATE_S, HANGS_S = 6, 3.0, 5.0, 3600.0
RUN = """
import sys
from pathlib import Path
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator.manager import ValidationKaggleManager
ValidationKaggleManager(
    platform="slurm", workdir=Path(sys.argv[2]), project_root=Path(sys.argv[1]), notifier=Notifier(),
    check_before_push=lambda config, reporter, stated: None,
).run_validation_section(sys.argv[3], timesteps=int(sys.argv[4]))
"""
# Every command of Slurm is late by what `late` says; one `sbatch` whose answer is lost is told by `mute`.
COMMAND = """#!/bin/sh
sleep "$(cat '{folder}/late' 2>/dev/null || echo 0)"
if [ '{name}' = sbatch ] && rm '{folder}/mute' 2>/dev/null; then
    '{real}' "$@" >/dev/null 2>&1
    echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1
fi
exec '{real}' "$@"
"""


@dataclass
class Stage:
    """One run on its Slurm, and what a fault can reach of it."""

    slurm: LoopbackSlurm
    folder: Path
    outage_s: float
    manager: subprocess.Popen[bytes] | None = None

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    def begin(self) -> None:
        """Start a manager; the one before it has ended."""
        path = f"{self.folder / 'bin'}:{self.slurm.environment['PATH']}"
        cluster = {"KM_SLURM_FOLDER": str(self.disk / "sessions"), "PATH": path}
        environment = {**self.slurm.environment, **cluster, "PYTHONPATH": str(installed(self.folder / "project"))}
        words = [sys.executable, "-c", RUN, str(self.folder / "project"), str(self.folder / "work"), SECTION]
        with (self.folder / "said.txt").open("ab") as out:
            self.manager = subprocess.Popen(
                [*words, str(TARGET)], env=environment, cwd=self.folder / "project", stdout=out, stderr=out
            )

    def job(self) -> str:
        """The job of the second session, once it has made a step."""
        deadline = time.monotonic() + HANGS_S
        while not [*self.disk.glob("sessions/runs/*/2/output/training_tree/checkpoints/*.manifest.json")]:
            if time.monotonic() > deadline or (self.manager is not None and self.manager.poll() is not None):
                raise RuntimeError((self.folder / "said.txt").read_text())
            time.sleep(0.05)
        (started,) = self.disk.glob("sessions/runs/*/2/started")
        return started.read_text().strip()


def _controller_down(stage: Stage) -> None:
    stage.slurm.controller_down()
    time.sleep(stage.outage_s)
    stage.slurm.controller_up()


def _controller_hangs(stage: Stage) -> None:
    stage.slurm.controller_hangs()
    time.sleep(stage.outage_s)
    stage.slurm.controller_answers()


def _late(stage: Stage) -> None:
    (stage.folder / "late").write_text(str(LATE_S))


def _unanswered(stage: Stage) -> None:
    (stage.folder / "mute").touch()


def _killed(stage: Stage) -> None:
    stage.slurm.kill(stage.job())


def _cancelled(stage: Stage) -> None:
    stage.slurm.ask("scancel", stage.job())


def _node_restarts(stage: Stage) -> None:
    stage.slurm.node_down()
    time.sleep(stage.outage_s / 4)
    stage.slurm.node_up()


def _node_fails(stage: Stage) -> None:
    stage.slurm.ask("scontrol", "update", f"nodename={stage.slurm.host}", "state=down", "reason=fault")


def _manager_away(stage: Stage) -> None:
    """The job ends and is forgotten before anyone asks for it again."""
    assert stage.manager is not None
    stage.manager.send_signal(signal.SIGKILL)
    stage.manager.wait()
    time.sleep(stage.outage_s)
    stage.begin()


def _disk_full(stage: Stage) -> None:
    filling = stage.disk / "filling"
    with contextlib.suppress(OSError), filling.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    time.sleep(stage.outage_s)
    filling.unlink()
    assert stage.manager is not None
    if stage.manager.poll() is not None:  # it has asked for room, and to be run again
        stage.begin()


FAULTS: dict[str, Callable[[Stage], None]] = {
    "nothing": lambda stage: None,
    "controller down": _controller_down,
    "controller stands still": _controller_hangs,
    f"every command is {LATE_S:.0f} s late": _late,
    "sbatch answers nothing, and has started": _unanswered,
    "job killed with all it has": _killed,
    "job cancelled by somebody": _cancelled,
    "slurmd restarted": _node_restarts,
    "node fails": _node_fails,
    "manager killed, its job ends and is forgotten": _manager_away,
    "disk full": _disk_full,
}


@contextlib.contextmanager
def staged(outage_s: float) -> Iterator[Stage]:
    slurm = LoopbackSlurm(min_job_age_s=2)
    stage = Stage(slurm, Path(tempfile.mkdtemp(prefix="km_slurm_faults_")), outage_s)
    slow = re.sub(
        r"^(\s+)store\.save_latest\(.*$",
        rf"\g<0>\n\1time.sleep({STEP_S})",
        (installed(make_project(stage.folder / "project")) / TRAINER).read_text(),
        flags=re.MULTILINE,
    )
    (installed(stage.folder / "project") / TRAINER).write_text(slow)
    section = stage.folder / "project/sections" / SECTION / "section.toml"
    section.write_text(section.read_text().replace('accelerator = "NvidiaTeslaT4"', ""))
    (stage.folder / "bin").mkdir()
    for name in ("sbatch", "squeue", "scontrol", "scancel"):
        command = stage.folder / "bin" / name
        command.write_text(COMMAND.format(name=name, folder=stage.folder, real=shutil.which(name)))
        command.chmod(0o755)
    stage.disk.mkdir()
    disk = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(stage.disk)], check=False)
    try:
        slurm.start()
        yield stage
    finally:
        if stage.manager is not None and stage.manager.poll() is None:
            stage.manager.kill()
            stage.manager.wait()
        slurm.stop()
        if disk.returncode == 0:
            subprocess.run(["umount", str(stage.disk)], check=False)
        shutil.rmtree(stage.folder, ignore_errors=True)


def uninterrupted() -> bytes:
    model = b""
    for step in range(1, TARGET + 1):
        model = hashlib.sha256(model + b"%d" % step).digest()
    return model


def played(name: str, outage_s: float) -> str:
    """One line of the table.

    Raises:
        SystemExit: the run did not keep what it promises.
    """
    with staged(outage_s) as stage:
        if name == "disk full" and not os.path.ismount(stage.disk):
            return f"| {name} | skipped: this machine mounts no small disk | | |"
        begun = time.monotonic()
        stage.begin()
        stage.job()
        FAULTS[name](stage)
        assert stage.manager is not None
        code = stage.manager.wait(HANGS_S)
        took = time.monotonic() - begun
        tree = TrainingTree(stage.folder / "work/sections" / SECTION / "data/models", SCENARIO)
        final = CheckpointStore(tree).final()
        if code or final is None or final.read("model") != uninterrupted():
            sys.exit(f"{name}: exit code {code}\n{(stage.folder / 'said.txt').read_text()}")
        worked = len([*stage.disk.glob("sessions/runs/*/*/started")])
        return f"| {name} | equal | {worked} | {took:.0f} s |"


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outage-s", type=float, default=60.0, help="how long what comes back is away")
    parser.add_argument("--only", default="", help="faults with these words alone")
    options = parser.parse_args()
    if why := why_not():
        sys.exit(why)
    print("| fault | final bits | jobs | until the target |\n|---|---|---|---|")
    for name in FAULTS:
        if options.only in name:
            print(played(name, options.outage_s), flush=True)


if __name__ == "__main__":
    main()
