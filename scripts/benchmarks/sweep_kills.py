"""A sweep of 16 PPO trials on CartPole over the five CPU slots of a local Kaggle, twice: left alone, and killed.

    python scripts/benchmarks/sweep_kills.py            both sweeps, half an hour on two cores beside other work
    python scripts/benchmarks/sweep_kills.py --write    and what came of it into docs/sweeps.md

Needs optuna. Each sweep is the command `sweep`, judged at two rungs and at the end, with Optuna's TPE. Of the second
one the manager dies by SIGKILL at moments that are drawn, and the same command follows; sessions die as well: their
trainer alone, or everything in them. Both must try the same values, promote the same trials, and leave each trial with
the same scores and the same bits: networks, optimizer, random generators, environments and counters of its newest
checkpoint, and of its final model.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.local_kaggle import disk
from kaggle_manager.local_kaggle.launcher import stop
from kaggle_manager.trainer.sb3 import exact_state
from kaggle_manager.trainer.sb3.pickles import opened, read_tensors
from kaggle_manager.trainer.sb3.resume_point import read_state
from kaggle_manager.trees.evaluations import read_evaluations

sys.path.insert(0, str(Path(__file__).resolve().parent))

from kept_section import commit, replace_section
from marathon import trainer_below

ROOT = Path(__file__).resolve().parents[2]
NAME, STATE = "cart", Path(".kaggle_manager")
SECTION = f"""
name = "{NAME}"
title = "A pole on a cart"
trains = true
default_scenario = "{NAME}"

[kernel]
packages = ["stable-baselines3=={version("stable-baselines3")}"]

[scenarios.{NAME}]
environment = "gymnasium:make"
environment_kwargs = {{ id = "CartPole-v1" }}
algorithm = "PPO"
hyperparameters = {{ n_steps = 256, batch_size = 64, n_epochs = 4 }}
timesteps = 12_288
save_every = 512
seed = 1
models = "data/models"
evaluation = {{ every = 1024, episodes = 4 }}
quick = {{ models = "data/models_quick", timesteps = 512 }}

[sweep]
metric = "reward"
direction = "maximize"
rungs = [2048, 6144]
trials = {{trials}}
at_once = 6

[sweep.space]
hyperparameters.learning_rate = {{ low = 1e-5, high = 1e-2, log = true }}
hyperparameters.gamma = {{ choices = [0.9, 0.98, 0.99, 0.999] }}
hyperparameters.n_steps = {{ choices = [128, 256] }}
"""
# Sessions, in the order they were started, that are killed once they have saved: the trainer alone, or everything.
KILLED = {2: "trainer", 4: "machine", 9: "trainer", 13: "machine", 17: "trainer", 21: "machine"}
LIVES_S, MANAGER_KILLS = (10.0, 45.0), 10
MOST_ERRORS = 5


@dataclass
class Sweep:
    """One of the two, in a folder of its own; `chance` draws when its manager is killed, None: nothing is."""

    folder: Path
    trials: int
    chance: random.Random | None = None
    manager_kills: int = 0
    session_kills: dict[int, str] = field(default_factory=dict)
    wall_s: float = 0.0

    @property
    def kaggle(self) -> Path:
        return self.folder / STATE / "local_kaggle"

    @property
    def sessions(self) -> list[Path]:
        """The folders of its sessions, the first one first."""
        return sorted((self.kaggle / "sessions").glob("[0-9]*"), key=lambda folder: int(folder.name))

    def run(self) -> None:
        """The same command, again and again, until every trial is over.

        Raises:
            SystemExit: it ends in an error again and again.
        """
        section = self.folder / "sections" / NAME
        section.mkdir(parents=True)
        (section / "section.toml").write_text(SECTION.replace("{trials}", str(self.trials)), encoding="utf-8")
        began, errors = time.monotonic(), 0
        try:
            while (code := self._live()) != 0:
                errors += code is not None
                if errors > MOST_ERRORS:
                    sys.exit((self.folder / "said.txt").read_text(encoding="utf-8")[-5000:])
            self.wall_s = time.monotonic() - began
        finally:
            for session in self.sessions:
                (session / "cancel").touch()
            stop(self.kaggle)

    def _live(self) -> int | None:
        """One manager; its exit code, None where it was killed."""
        with (self.folder / "said.txt").open("ab") as out:
            manager = subprocess.Popen(self._command("sweep", NAME), **self._where, stdout=out, stderr=out)
        is_mortal = self.chance is not None and self.manager_kills < MANAGER_KILLS
        life_s, began = self.chance.uniform(*LIVES_S) if self.chance and is_mortal else float("inf"), time.monotonic()
        while manager.poll() is None:
            if not self.sessions:  # still trying the section out on this machine, once
                began = time.monotonic()
            if time.monotonic() > began + life_s:
                manager.kill()
                manager.wait()
                self.manager_kills += 1
                return None
            if self.chance is not None:
                self._kill_sessions()
            time.sleep(0.05)
        return manager.returncode

    def _kill_sessions(self) -> None:
        for number, session in enumerate(self.sessions, start=1):
            if number not in KILLED or number in self.session_kills or (session / "verdict.json").exists():
                continue
            started = disk.read_json(session / "started.json")
            if started is None or not any(session.glob("working/training_tree/checkpoints/*.manifest.json")):
                continue
            pid = started["pid"] if KILLED[number] == "machine" else trainer_below(started["pid"])
            with suppress(ProcessLookupError):
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
                    self.session_kills[number] = KILLED[number]

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "kaggle_manager.cli", *words]

    @property
    def _where(self) -> dict[str, Any]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KAGGLE_")}
        more = {"PYTHONPATH": str(ROOT), "KM_PLATFORM": "local", "OMP_NUM_THREADS": "1"}
        return {"cwd": self.folder, "env": environment | more, "stdin": subprocess.DEVNULL}

    def report(self) -> dict[str, Any]:
        command = self._command("sweep", NAME, "--status", "--json")
        said = subprocess.run(command, **self._where, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(said.stdout)
        return found

    def bits(self, scenario: str) -> dict[str, Any]:
        """What must be the same of a trial: the digests in its checkpoints' certificates, and its evaluations."""
        tree = self.folder / "sections" / NAME / f"data/models{scenario.removeprefix(NAME)}"
        store = CheckpointStore(TrainingTree(tree, scenario))
        latest, final = store.find_latest_checkpoint(), store.final()
        assert latest is not None
        items = {name: opened(value) for name, value in read_state(latest.read("state")).items.items()}
        parameters, _ = read_tensors(latest.read("model"), "cpu")
        found: dict[str, Any] = exact_state.digests(items, parameters)
        found |= {"step": latest.step, "evaluations": read_evaluations(tree / "history/evaluations.npz")}
        return found | {f"final {name}": it for name, it in (final.manifest.exact["items"] if final else {}).items()}


def compared(whole: Sweep, killed: Sweep) -> tuple[list[str], bool]:
    """Lines of Markdown, and whether the two are one sweep."""
    reports = [sweep.report() for sweep in (whole, killed)]
    differing, digests = [], 0
    for name in ("best", "rungs"):
        if reports[0][name] != reports[1][name]:
            differing.append(f"{name}: {reports[0][name]} and {reports[1][name]}")
    for one, other in zip(*(report["trials"] for report in reports), strict=True):
        number = one["number"]
        for name in ("values", "state", "steps", "scores", "failure"):
            if one[name] != other[name]:
                differing.append(f"trial {number}, {name}: {one[name]} and {other[name]}")
        own, its = whole.bits(one["scenario"]), killed.bits(other["scenario"])
        digests += len(own)
        differing += [f"trial {number}, {name}" for name in own.keys() | its.keys() if own.get(name) != its.get(name)]
    trials, best = reports[0]["trials"], reports[0]["best"][0]
    steps = [len(trial["steps"]) for trial in trials]
    kinds = list(killed.session_kills.values())
    verdict = f"**different: {'; '.join(differing[:10])}**" if differing else "**identical**"
    what = (
        f"`{' '.join(['python scripts/benchmarks/sweep_kills.py', *sys.argv[1:]])}` at {commit()}: PPO on CartPole to "
        f"12,288 steps, {len(trials)} trials, of which {sum(each > 1 for each in steps)} continued past the first rung "
        f"and {sum(each > 2 for each in steps)} to the end; best: trial {best}. (optuna {version('optuna')}, "
        f"stable-baselines3 {version('stable-baselines3')}, torch {version('torch')}.)"
    )
    bits = (
        f"Values, promotions, scores, the best trial, and {digests:,} digests and evaluations of the trials' newest "
        f"and final checkpoints: {verdict}."
    )
    table = [
        "| | left alone | killed |",
        "|---|---:|---:|",
        f"| minutes | {whole.wall_s / 60:.1f} | {killed.wall_s / 60:.1f} |",
        f"| sessions | {len(whole.sessions)} | {len(killed.sessions)} |",
        f"| SIGKILLs of the manager | 0 | {killed.manager_kills} |",
        f"| of a session's trainer | 0 | {kinds.count('trainer')} |",
        f"| of a session with everything in it | 0 | {kinds.count('machine')} |",
    ]
    lines = [what, "", *table, "", bits]
    return lines, not differing and killed.manager_kills > 0 and len(kinds) > 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=0, help="draws the moments of the kills")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--write", action="store_true", help="keep the result in docs/sweeps.md")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="km_sweep_kills_"))
    print(f"all in {folder}, which goes when both are compared", flush=True)
    whole = Sweep(folder / "whole", options.trials)
    killed = Sweep(folder / "killed", options.trials, random.Random(options.seed))
    for sweep in (whole, killed):
        sweep.run()
        print(f"{sweep.folder.name}: {len(sweep.sessions)} sessions, {sweep.wall_s:.0f} s", flush=True)
    lines, is_good = compared(whole, killed)
    shutil.rmtree(folder)
    print("\n".join(lines))
    if options.write:
        replace_section("sweep kills", "", lines, ROOT / "docs/sweeps.md")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
