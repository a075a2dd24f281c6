"""Twenty sessions of a minute on a hostile local Kaggle, with SIGKILLs of sessions and of the manager: one real run.

The trainer is the real one (DQN on CartPole: a cheap, exact environment), the manager is the real command, started
again after every kill. At the end the model must have the bits of a training of the same seed and target that was never
interrupted, and the script says where the sessions' time went. Bare `learn()` of stock Stable-Baselines3, with the same
settings, is timed in pieces before, between and after the sessions, so that the machine's other work weighs on both.

    python scripts/benchmarks/marathon.py                        half an hour; print what came of it
    python scripts/benchmarks/marathon.py --write                and keep it in docs/robustness_data.md
    python scripts/benchmarks/marathon.py --timesteps 6000 --session-limit 40   a shorter one
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaggle_manager.local_kaggle import disk
from kaggle_manager.local_kaggle.launcher import ensure_running, stop
from kaggle_manager.trainer.sb3 import determinism

sys.path.insert(0, str(Path(__file__).resolve().parent))

from kept_section import replace_section
from marathon_account import NAME, SEEN_FILE, STATE, account_of, folders_of_sessions, sessions_of

ROOT = Path(__file__).resolve().parents[2]
# Timesteps a session keeps, as a share of what its whole limit would give `learn()`: only used to choose the target.
EXPECTED_SHARE = 0.36
BARE_S = 6.0
KEPT = ("target", "wall_s", "manager_kills", "session_kills", "other_ends", "bare")
HYPERPARAMETERS = {
    "learning_rate": 5e-4,
    "buffer_size": 50_000,
    "learning_starts": 200,
    "batch_size": 32,
    "train_freq": 4,
    "target_update_interval": 500,
    "exploration_fraction": 0.3,
}
SECTION = f"""
name = "{NAME}"
title = "Marathon"
trains = true
default_scenario = "{NAME}"

[kernel]
accelerator = "NvidiaTeslaT4"

[scenarios.{NAME}]
environment = "gymnasium:make"
algorithm = "DQN"
timesteps = 100_000
seed = 42
save_every = 500
models = "data/models"

[scenarios.{NAME}.environment_kwargs]
id = "CartPole-v1"

[scenarios.{NAME}.hyperparameters]
{chr(10).join(f"{name} = {value}" for name, value in HYPERPARAMETERS.items())}

[scenarios.{NAME}.evaluation]
every = 5_000
episodes = 2

[scenarios.{NAME}.quick]
timesteps = 8
save_every = 1
models = "data/models_quick"

[scenarios.{NAME}.quick.evaluation]
episodes = 1
every = 1

[scenarios.{NAME}.quick.hyperparameters]
learning_starts = 2
train_freq = 1
batch_size = 4
"""
# (kind, calls, settings): what the platform does to the run. `first` counts the calls that it could strike.
FAULTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("refuse", "SaveKernel", {"first": 2, "times": 1, "status": 502, "carried_out": True}),
    ("empty_mount", "SaveKernel", {"first": 4, "times": 1, "filled_after_s": 3}),
    ("stale_mount", "SaveKernel", {"first": 6, "times": 1}),
    ("push_refused", "SaveKernel", {"first": 8, "times": 1}),
    ("killed_at_wall", "SaveKernel", {"first": 11, "times": 1, "after_s": 35}),
    ("dropped_sources", "SaveKernel", {"first": 14, "times": 1}),
    ("killed_at_wall", "SaveKernel", {"first": 17, "times": 1, "after_s": 45}),
    ("refuse", "CreateDatasetVersion", {"first": 2, "times": 1, "status": 502, "carried_out": True}),
    ("refuse", "CreateDatasetVersion", {"probability": 0.1, "status": 500}),
    ("refuse", "StartBlobUpload", {"probability": 0.05, "status": 503, "body": "html"}),
    ("reset", "Upload", {"probability": 0.1}),
    ("refuse", "Upload", {"probability": 0.1, "status": 503}),
    ("refuse", "GetDatasetStatus", {"probability": 0.1, "status": 429, "retry_after_s": 1}),
    ("refuse", "GetAcceleratorQuotaStatistics", {"probability": 0.2, "status": 429}),
    ("refuse", "IntrospectToken", {"probability": 0.1, "status": 500, "body": "html"}),
    ("refuse", "GetKernel", {"probability": 0.1, "status": 503}),
    ("says_status", "GetKernelSessionStatus", {"probability": 0.3, "says": "RUNNING", "instead_of": ["COMPLETE"]}),
    ("refuse", "GetKernelSessionStatus", {"probability": 0.1, "status": 429, "retry_after_s": 2}),
    ("refuse", "GetKernelSessionStatus", {"probability": 0.05, "status": 500}),
    ("reset", "GetKernelSessionStatus", {"probability": 0.05}),
    ("partial_list", "ListKernelSessionOutput", {"probability": 0.15, "shown": 0.5}),
    ("refuse", "ListKernelSessionOutput", {"probability": 0.1, "status": 503, "body": "html"}),
    ("reset", "ListKernelSessionOutput", {"probability": 0.05, "after_bytes": 50}),
    ("truncate", "Download", {"probability": 0.04}),
    ("truncate", "Download", {"probability": 0.02, "length": "kept"}),
    ("flip", "Download", {"probability": 0.01}),
    ("swap", "Download", {"probability": 0.01}),
    ("expired_link", "Download", {"probability": 0.02}),
    ("reset", "Download", {"probability": 0.03, "after_bytes": 1000}),
    ("refuse", "Download", {"probability": 0.02, "status": 500, "body": "xml"}),
    ("stall", "Download", {"probability": 0.005, "seconds": 5}),
    ("reset", "LogStream", {"probability": 0.4, "after_bytes": 1500}),
    ("log_cut", "LogStream", {"probability": 0.1, "lost_bytes": 200}),
)
# Sessions, by their number on the platform, that are killed with SIGKILL: the trainer alone, or the whole machine.
KILLED_SESSIONS = {3: "trainer", 9: "machine", 13: "trainer", 16: "machine"}
MANAGER_LIVES_S = (70.0, 200.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sessions", type=int, default=20, help="about so many, when no timesteps are given")
    parser.add_argument("--timesteps", type=int, help="the target")
    parser.add_argument("--session-limit", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0, help="draws the moments of the kills and the faults")
    parser.add_argument(
        "--folder", type=Path, help="where everything is written, and stays; of a finished run, judge again"
    )
    parser.add_argument("--write", action="store_true", help="keep the result in docs/robustness_data.md")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="km_marathon_"))
    determinism.pin()
    if not (folder / SEEN_FILE).exists():
        marathon = Marathon(folder, arguments.session_limit, random.Random(arguments.seed))
        marathon.run(arguments.timesteps, arguments.sessions)
    account = account_of(folder)
    print("\n".join(["", *account.lines]))
    if arguments.write:
        replace_section("marathon", "## Marathon", account.lines)
    return 0 if account.is_good else 1


@dataclass
class Marathon:
    """One run under faults and kills in `project`, and the same training without either in `project/uncut`."""

    project: Path
    limit_s: float
    chance: random.Random
    manager_kills: int = 0
    session_kills: dict[int, str] = field(default_factory=dict)
    other_ends: list[str] = field(default_factory=list)
    bare: list[tuple[int, float]] = field(default_factory=list)
    bare_wall_s: float = 0.0
    target: int = 0
    wall_s: float = 0.0

    def run(self, timesteps: int | None, sessions: int) -> None:
        """Carry it through, and leave what nothing else keeps in SEEN_FILE.

        Args:
            timesteps: the target; None chooses one for about so many `sessions`.
        """
        self._make_project()
        self._learn = bare_learn()
        for _ in range(3):
            self._time_bare()
        target = timesteps or round(sessions * EXPECTED_SHARE * self.limit_s * self.bare_speed, -3)
        self.target = int(target)
        say(f"bare learn(): {self.bare_speed:.0f} steps/s; target: {self.target} timesteps; all in {self.project}")
        environment = os.environ | {"PYTHONPATH": str(ROOT), "KM_PLATFORM": "local"}
        for name in [name for name in environment if name.startswith("KAGGLE_")]:
            del environment[name]
        command = [
            sys.executable,
            "-m",
            "kaggle_manager.trainer.sb3.train_dqn",
            "--section",
            NAME,
            "--workdir",
            "uncut",
        ]
        uncut = subprocess.Popen(
            [*command, "--timesteps", str(self.target)],
            cwd=self.project,
            env=environment,
            stdout=(self.project / "uncut.log").open("w"),
            stderr=subprocess.STDOUT,
        )
        kaggle = self.project / STATE / "local_kaggle"
        began = time.time()
        try:
            ensure_running(kaggle, faults=self.project / "faults.toml", idle_exit_s=7200)
            self._run_managers(environment)
            self.wall_s = time.time() - began - self.bare_wall_s
            if uncut.wait() != 0:
                raise RuntimeError(f"the uninterrupted training failed; see {self.project / 'uncut.log'}")
        finally:
            uncut.kill()
            stop(kaggle)
        for _ in range(2):
            self._time_bare()
        disk.write_json(self.project / SEEN_FILE, {name: getattr(self, name) for name in KEPT})

    # --- before -------------------------------------------------------------------------------------------------------

    def _make_project(self) -> None:
        section = self.project / "sections" / NAME
        kaggle = self.project / STATE / "local_kaggle"
        section.mkdir(parents=True)
        kaggle.mkdir(parents=True)
        (section / "section.toml").write_text(SECTION, encoding="utf-8")
        (kaggle / "limits.json").write_text('{"ingestion_s": 0.5}', encoding="utf-8")
        plan = [f"seed = {self.chance.randrange(2**31)}"]
        for kind, call, settings in FAULTS:
            plan += ["", "[[fault]]", f'kind = "{kind}"', f'on = ["{call}"]']
            plan += [f"{name} = {as_toml(value)}" for name, value in settings.items()]
        (self.project / "faults.toml").write_text("\n".join(plan) + "\n", encoding="utf-8")

    def _time_bare(self) -> None:
        began = time.monotonic()
        self.bare.append(next(self._learn))
        self.bare_wall_s += time.monotonic() - began

    @property
    def bare_speed(self) -> float:
        return sum(steps for steps, _ in self.bare) / sum(seconds for _, seconds in self.bare)

    # --- during -------------------------------------------------------------------------------------------------------

    def _run_managers(self, environment: dict[str, str]) -> None:
        """The same command, again and again, until it says that the target is reached."""
        command = [sys.executable, "-m", "kaggle_manager.cli", "run", NAME, "--timesteps", str(self.target)]
        command += ["--session-limit", f"{self.limit_s:g}s"]
        self.bare_wall_s = 0.0
        while True:
            with (self.project / "manager.log").open("a") as log:
                manager = subprocess.Popen(command, cwd=self.project, env=environment, stdout=log, stderr=log)
            lives_s, began = self.chance.uniform(*MANAGER_LIVES_S), time.monotonic()
            while manager.poll() is None and time.monotonic() < began + lives_s:
                time.sleep(0.5)
                self._kill_session()
                if not sessions_of(self.project):  # still trying the section out on this machine, once
                    began = time.monotonic()
            if manager.returncode == 0:
                return
            if manager.returncode is None:
                manager.kill()
                manager.wait()
                self.manager_kills += 1
                sessions = len(sessions_of(self.project))
                say(f"manager killed in session {sessions}, {steps_saved(self.project)} steps saved")
            else:
                self.other_ends.append(f"exit code {manager.returncode}")
                say(f"the manager ended with {manager.returncode}; see manager.log")
                if len(self.other_ends) > 10:
                    raise RuntimeError("the manager needs a person")
            if self.manager_kills % 2:  # the next one finds its session still running, or long over
                while running_session(self.project / STATE) is not None:
                    time.sleep(0.5)
                    self._kill_session()
                self._time_bare()

    def _kill_session(self) -> None:
        session = running_session(self.project / STATE)
        number = len(folders_of_sessions(self.project / STATE))
        if session is None or number not in KILLED_SESSIONS or number in self.session_kills:
            return
        started = disk.read_json(session / "started.json") or {}
        # Late enough to have trained and saved something in most of them.
        if time.time() < started["started_at"] + self.limit_s * (0.55 + 0.02 * (number % 5)):
            return
        pid = started["pid"]
        if KILLED_SESSIONS[number] == "trainer":
            found = trainer_below(pid)
            if found is None:
                return
            pid = found
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.session_kills[number] = KILLED_SESSIONS[number]
            say(f"session {number}: {KILLED_SESSIONS[number]} killed")


def steps_saved(project: Path) -> int:
    return max((session.step or 0 for session in sessions_of(project)), default=0)


def bare_learn() -> Iterator[tuple[int, float]]:
    """(timesteps, seconds) of stock Stable-Baselines3 with the same settings, in pieces of BARE_S seconds."""
    from stable_baselines3 import DQN

    determinism.make_deterministic("cpu")
    model = DQN("MlpPolicy", "CartPole-v1", seed=42, device="cpu", **HYPERPARAMETERS)  # type: ignore[arg-type]
    model.learn(1000)  # past `learning_starts`
    while True:
        began, steps = time.monotonic(), model.num_timesteps
        while time.monotonic() - began < BARE_S:
            model.learn(200, reset_num_timesteps=False)
        yield model.num_timesteps - steps, time.monotonic() - began


def running_session(state: Path) -> Path | None:
    """The folder of the local Kaggle's session that runs now."""
    folders = folders_of_sessions(state)
    if not folders or not (folders[-1] / "started.json").exists() or (folders[-1] / "verdict.json").exists():
        return None
    newest = folders[-1]
    started = disk.read_json(newest / "started.json") or {}
    return newest if Path(f"/proc/{started['pid']}").exists() else None


def trainer_below(pid: int) -> int | None:
    """The process that trains, somewhere below a session's supervisor (Linux)."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    for candidate in sorted(parents):
        above = candidate
        while above in parents and above != pid:
            above = parents[above]
        with suppress(OSError):
            if above == pid and b"kaggle_manager.trainer.main" in Path(f"/proc/{candidate}/cmdline").read_bytes():
                return candidate
    return None


def as_toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).replace("'", '"')


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
