"""What a checkpoint costs: Stable-Baselines3's `CheckpointCallback(save_replay_buffer=True)` and ours, side by side.

Each case is one process with one training (DQN, train_freq 4, one torch thread) whose replay buffer is full of distinct
rows. Both save at turns; the stall is the time for which the training's thread stands still. Restores are timed in
processes of their own. Wall time is given beside CPU time, and medians beside minima, because machines are shared.

    python scripts/benchmarks/checkpoint_cost.py --quick            three cases, about a minute, prints only
    python scripts/benchmarks/checkpoint_cost.py --write            all cases; docs/robustness_data.md and the picture
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import kaggle_manager.trainer.sb3  # noqa: F401 - pins the arithmetic before torch is imported

# isort: split
import gymnasium as gym
import numpy as np
from kept_section import replace_section
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import CheckpointCallback

from kaggle_manager.checkpoints import Disk, Lineage, TrainingTree
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3.environments import Environments
from kaggle_manager.trainer.sb3.resume_point import ResumePoint, find_resume_point
from kaggle_manager.trainer.sb3.trainer import Session
from kaggle_manager.trainer.sb3.training_config import TrainingConfig

PROJECT = Path(__file__).resolve().parents[2]
PICTURE = PROJECT / "docs" / "images" / "checkpoint_cost.png"
EPISODE = 200
FRAMES = (4, 84, 84)
ROWS = (50_000, 200_000, 1_000_000)
EVERY = 100  # timesteps between checkpoints where the speed of training is compared


@dataclass(frozen=True)
class Case:
    """One observation shape and one size of the replay buffer."""

    shape: tuple[int, ...]
    rows: int
    saves: int = 9
    between: int = 1000  # timesteps of training between two saves
    restores: int = 3
    speed_rounds: int = 0
    speed_steps: int = 2000

    @property
    def label(self) -> str:
        return " x ".join(map(str, self.shape)) + (" uint8" if self.shape == FRAMES else "")


def cases() -> list[Case]:
    vectors = [Case((size,), rows, speed_rounds=12 if size == 26 else 0) for size in (4, 26, 100) for rows in ROWS]
    return [*vectors, Case(FRAMES, 10_000, saves=5, between=200)]


def quick_cases() -> list[Case]:
    small = {"saves": 4, "between": 300, "restores": 1}
    return [
        Case((26,), 50_000, **small),
        Case((26,), 1_000_000, **small, speed_rounds=5, speed_steps=1000),
        Case(FRAMES, 2_000, saves=2, between=20, restores=1),
    ]


# --- the training -----------------------------------------------------------------------------------------------------


class Walk(gym.Env[Any, Any]):
    """A random walk of `size` numbers, in episodes of 200 steps."""

    def __init__(self, size: int) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._at = self.np_random.standard_normal(self.observation_space.shape, dtype=np.float32)
        self._steps = 0
        return self._at.copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._at += 0.1 * self.np_random.standard_normal(self._at.shape, dtype=np.float32)
        self._steps += 1
        return self._at.copy(), float(-abs(self._at[0])), False, self._steps >= EPISODE, {}


class Screen(gym.Env[Any, Any]):
    """A bright square that jumps over a noisy screen; an observation is the last four screens."""

    observation_space = gym.spaces.Box(0, 255, FRAMES, np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        self._stack = np.stack([self._screen()] * FRAMES[0])
        return self._stack, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        self._stack = np.concatenate([self._stack[1:], self._screen()[None]])
        return self._stack, float(action), False, self._steps >= EPISODE, {}

    def _screen(self) -> Any:
        screen = self.np_random.integers(0, 50, FRAMES[1:], dtype=np.uint8)
        x, y = self.np_random.integers(0, 74, 2)
        screen[x : x + 10, y : y + 10] = 255
        return screen


@dataclass(frozen=True)
class Maker:
    """Makes the environment of a case; picklable."""

    shape: tuple[int, ...]

    def __call__(self) -> gym.Env[Any, Any]:
        return Screen() if self.shape == FRAMES else Walk(*self.shape)


def settings_of(case: Case, tree: Path) -> TrainingConfig:
    return TrainingConfig(
        scenario="cost",
        algorithm="DQN",
        policy="CnnPolicy" if case.shape == FRAMES else "MlpPolicy",
        hyperparameters={"buffer_size": case.rows, "learning_starts": 0, "batch_size": 32, "train_freq": 4},
        environments=Environments(Maker(case.shape)),
        total=10**9,
        tree=tree,
        lineage=Lineage("benchmark", 1, None, 0),
        seed=1,
        save_every=EVERY,
        identity={"environment_fingerprint": "benchmark", "reward_fingerprint": "benchmark"},
    )


def fill(model: Any, case: Case) -> None:
    """Fill the replay buffer with rows as the environment makes them; no two observations are the same."""
    buffer, luck = model.replay_buffer, np.random.default_rng(0)
    if case.shape == FRAMES:
        env = Screen()
        last, _ = env.reset(seed=0)
        for _ in range(case.rows):
            following, reward, _, over, _ = env.step(0)
            buffer.add(last[None], following[None], np.zeros((1, 1)), np.array([reward]), np.array([over]), [{}])
            last = env.reset()[0] if over else following
    else:
        for first in range(0, case.rows, EPISODE):
            steps = min(EPISODE, case.rows - first)
            walk = np.cumsum(0.1 * luck.standard_normal((steps + 1, *case.shape), dtype=np.float32), axis=0)
            rows = slice(first, first + steps)
            buffer.observations[rows, 0], buffer.next_observations[rows, 0] = walk[:-1], walk[1:]
            buffer.actions[rows] = luck.integers(0, 2, (steps, 1, 1))
            buffer.rewards[rows, 0] = -abs(walk[1:, 0])
            buffer.dones[first + steps - 1] = buffer.timeouts[first + steps - 1] = 1
        buffer.pos, buffer.full = 0, True
    model.num_timesteps = case.rows


# --- measuring --------------------------------------------------------------------------------------------------------


@dataclass
class Times:
    """Seconds of several doings of the same thing: wall, and CPU."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def take(self, doing: Callable[[], Any], cpu: Callable[[], float] = time.thread_time) -> Any:
        wall, used = time.perf_counter(), cpu()
        result = doing()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(cpu() - used)
        return result


@dataclass
class Measured:
    """One case, in seconds and bytes."""

    case: Case
    stall_stock: Times = field(default_factory=Times)
    stall_ours: Times = field(default_factory=Times)
    bytes_stock: list[int] = field(default_factory=list)
    bytes_ours: list[int] = field(default_factory=list)
    writer_cpu: float = 0.0
    restore_stock: Times = field(default_factory=Times)
    restore_ours: Times = field(default_factory=Times)
    speed_bare: Times = field(default_factory=Times)
    speed_ours: Times = field(default_factory=Times)
    speed_stock: Times = field(default_factory=Times)


def measure(case: Case, folder: Path) -> Measured:
    """In a process of its own: all but the restores, of which it leaves the files."""
    found = Measured(case)
    with ExitStack() as resources:
        settings = settings_of(case, folder / "tree")
        session = Session(settings, ResumePoint(None, "a benchmark"), SessionClock(), Disk(), resources)
        model, checkpointer = session.model, session.checkpointer
        model.learn(0, callback=[session.monitor, session.curves], log_interval=sys.maxsize)
        fill(model, case)
        stock = CheckpointCallback(1, str(folder / "stock"), save_replay_buffer=True)
        stock.init_callback(model)

        def train(steps: int, callback: Any = None) -> None:
            model.learn(steps, callback=callback, reset_num_timesteps=False, log_interval=sys.maxsize)

        train(case.between)
        checkpointer.save()  # the one that writes the whole buffer
        checkpointer.join()
        writer = session.writer._process.pid if session.writer._pipe is not None else 0
        used = _cpu_of(writer)
        for _ in range(case.saves):
            committed = _bytes_of(checkpointer)
            train(case.between)
            found.stall_ours.take(checkpointer.save)
            train(20)
            checkpointer.join()
            found.bytes_ours.append(_bytes_of(checkpointer, since=committed))
            shutil.rmtree(folder / "stock", ignore_errors=True)
            (folder / "stock").mkdir()
            found.stall_stock.take(stock.on_step)
            found.bytes_stock.append(sum(path.stat().st_size for path in (folder / "stock").iterdir()))
        found.writer_cpu = (_cpu_of(writer) - used) / case.saves
        for _ in range(case.speed_rounds):
            found.speed_bare.take(lambda: train(case.speed_steps), time.process_time)
            found.speed_ours.take(lambda: train(case.speed_steps, session.checkpoint), time.process_time)
            checkpointer.join()
        if case.speed_rounds:  # once, and last: what it leaves to the disk would slow down what follows
            (folder / "often").mkdir()
            every = CheckpointCallback(EVERY, str(folder / "often"), save_replay_buffer=True)
            found.speed_stock.take(lambda: train(case.speed_steps, every), time.process_time)
            shutil.rmtree(folder / "often")
    return found


def _cpu_of(process: int) -> float:
    """CPU seconds a process has used; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _bytes_of(checkpointer: Any, since: Any = None) -> Any:
    """The replay bytes committed, by segment; or, since such a state, all bytes the newest checkpoint has added."""
    manifest = checkpointer.newest.manifest
    segments = {ref.name: ref.length for ref in manifest.replay.segments}
    if since is None:
        return segments
    appended = sum(length - since.get(name, 0) for name, length in segments.items())
    metadata = checkpointer.store.tree.metadata.stat().st_size
    return appended + sum(entry.size for entry in manifest.files) + len(manifest.to_bytes()) + metadata


def restore(case: Case, folder: Path, side: str) -> Times:
    """In a process of its own: from files to a model that can go on training."""
    times = Times()
    settings = settings_of(case, folder / "tree")
    DQN("MlpPolicy", "CartPole-v1", buffer_size=10, device="cpu")  # torch imports much at the first optimizer
    if side == "ours":
        with ExitStack() as resources:

            def resume() -> None:
                origin = find_resume_point(
                    TrainingTree(settings.tree, "cost"), fresh=False, warn=print, check=lambda _: None
                )
                session = Session(settings, origin, SessionClock(), Disk(), resources)
                assert origin.checkpoint is not None
                session.checkpointer.restore(origin.checkpoint)

            times.take(resume, time.process_time)
    else:
        [model_zip], [rows] = (list((folder / "stock").glob(kind)) for kind in ("*.zip", "*.pkl"))

        def load() -> None:
            DQN.load(model_zip, env=settings.environments.factory(), device="cpu").load_replay_buffer(rows)

        times.take(load, time.process_time)
    return times


def run(case: Case) -> Measured:
    """Measure one case in processes of its own."""
    with tempfile.TemporaryDirectory(prefix="checkpoint_cost_") as folder:
        found = Measured(**_in_process("measure", case, folder))
        found = _typed(found, case)
        for _ in range(case.restores):
            for side, times in (("stock", found.restore_stock), ("ours", found.restore_ours)):
                one = Times(**_in_process(side, case, folder))
                times.wall += one.wall
                times.cpu += one.cpu
    return found


def _in_process(what: str, case: Case, folder: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--part", what, json.dumps(asdict(case)), folder]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=PROJECT)
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def _typed(found: Measured, case: Case) -> Measured:
    times = {name: Times(**value) for name, value in vars(found).items() if isinstance(value, dict) and name != "case"}
    return replace(found, case=case, **times)


# --- telling ----------------------------------------------------------------------------------------------------------


def verdicts(results: list[Measured]) -> list[str]:
    """The aims, and what was measured of them."""
    by = {(found.case.shape, found.case.rows): found for found in results}
    small, large = by[(26,), ROWS[0]], by[(26,), ROWS[-1]]
    speeds = [found for found in results if found.speed_bare.wall]
    checks = [
        ("stall at 1M x 26, stock / ours, CPU", _ratio(large.stall_stock.cpu, large.stall_ours.cpu), ">= 100"),
        ("the same, wall", _ratio(large.stall_stock.wall, large.stall_ours.wall), ">= 100"),
        ("our stall at 1M / at 50k rows, CPU", _ratio(large.stall_ours.cpu, small.stall_ours.cpu), "<= 1.5"),
        ("bytes at 1M x 26, stock / ours", _ratio(large.bytes_stock, large.bytes_ours), ">= 500"),
        ("restore at 1M x 26, ours / stock, wall", _ratio(large.restore_ours.wall, large.restore_stock.wall), "<= 1.5"),
        ("the same, CPU", _ratio(large.restore_ours.cpu, large.restore_stock.cpu), "<= 1.5"),
    ]
    for found in speeds:
        name = f"speed with a checkpoint every {EVERY} steps / bare, {found.case.rows:,} x {found.case.label}"
        checks.append((f"{name}, CPU", _ratio(found.speed_bare.cpu, found.speed_ours.cpu), ">= 0.98"))
        checks.append(("the same, wall", _ratio(found.speed_bare.wall, found.speed_ours.wall), ">= 0.98"))
    lines = ["| aim | wanted | measured | |", "|---|---|---|---|"]
    for name, value, wanted in checks:
        sign, limit = wanted.split()
        met = value >= float(limit) if sign == ">=" else value <= float(limit)
        lines.append(f"| {name} | {wanted} | {value:.3g} | {'met' if met else 'not met'} |")
    return lines


def table(results: list[Measured]) -> list[str]:
    columns = ["observation", "rows", "stall, stock", "stall, ours", "stock / ours", "bytes, stock", "bytes, ours"]
    columns += ["stock / ours", "restore, stock", "restore, ours", "ours / stock", "writer"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for found in results:
        stock, ours = found.stall_stock, found.stall_ours
        lines.append(
            f"| {found.case.label} | {found.case.rows:,} "
            f"| {_ms(stock)} | {_ms(ours)} | x{_ratio(stock.wall, ours.wall):.0f} / x{_ratio(stock.cpu, ours.cpu):.0f} "
            f"| {median(found.bytes_stock) / 1e6:.1f} MB | {median(found.bytes_ours) / 1e3:,.0f} kB "
            f"| x{_ratio(found.bytes_stock, found.bytes_ours):.0f} "
            f"| {_ms(found.restore_stock)} | {_ms(found.restore_ours)} "
            f"| {_ratio(found.restore_ours.wall, found.restore_stock.wall):.2f} / "
            f"{_ratio(found.restore_ours.cpu, found.restore_stock.cpu):.2f} | {1e3 * found.writer_cpu:.0f} ms |"
        )
    return lines


def speeds(results: list[Measured]) -> list[str]:
    columns = ["observation", "rows", "bare, steps/s", f"with ours every {EVERY}", "one of ours takes"]
    columns.append(f"with stock every {EVERY}")
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for found in results:
        if found.speed_bare.wall:
            bare, ours, stock = found.speed_bare, found.speed_ours, found.speed_stock
            one = 1e3 * EVERY / found.case.speed_steps
            lines.append(
                f"| {found.case.label} | {found.case.rows:,} | {found.case.speed_steps / median(bare.wall):,.0f} "
                f"| {_ratio(bare.wall, ours.wall):.3f} / {_ratio(bare.cpu, ours.cpu):.3f} "
                f"(fastest of each: {min(bare.wall) / min(ours.wall):.3f} / {min(bare.cpu) / min(ours.cpu):.3f}) "
                f"| {one * (median(ours.wall) - median(bare.wall)):.1f} / "
                f"{one * (median(ours.cpu) - median(bare.cpu)):.1f} ms "
                f"| {_ratio(bare.wall, stock.wall):.3f} / {_ratio(bare.cpu, stock.cpu):.3f} |"
            )
    return lines


def _ratio(above: list[Any], below: list[Any]) -> float:
    return float(median(above) / median(below))


def _ms(times: Times) -> str:
    return f"{1e3 * median(times.wall):.3g} / {1e3 * median(times.cpu):.3g} ms"


def text(results: list[Measured], seconds: float) -> str:
    between = ", ".join(sorted({f"{found.case.between:,}" for found in results}, key=len, reverse=True))
    saves, restores = ([len(times) for times in every] for every in zip(*map(_counted, results), strict=True))
    how = (
        f"Medians, wall / CPU, of {min(saves)} to {max(saves)} saves and {max(restores)} restores each; {between} "
        f"timesteps between saves; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end; "
        f"{seconds / 60:.0f} min in all. `writer` is the CPU time of the process beside the training, for each save."
    )
    tables = (table(results), speeds(results), verdicts(results))
    return "\n\n".join([how, *("\n".join(lines) for lines in tables)])


def _counted(found: Measured) -> tuple[list[int], list[float]]:
    return found.bytes_ours, found.restore_ours.wall


def draw(results: list[Measured], path: Path) -> None:
    """Stall and bytes over the size of the buffer."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (stall, size) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for number, shape in enumerate(sorted({f.case.shape for f in results if f.case.shape != FRAMES})):
        mine = sorted((f for f in results if f.case.shape == shape), key=lambda f: f.case.rows)
        rows = [f.case.rows for f in mine]
        style = {"color": f"C{number}", "marker": "o", "markersize": 4}
        label = f"{shape[0]} numbers"
        stall.plot(rows, [1e3 * median(f.stall_stock.cpu) for f in mine], ls="--", label=f"stock, {label}", **style)
        stall.plot(rows, [1e3 * median(f.stall_ours.cpu) for f in mine], label=f"ours, {label}", **style)
        size.plot(rows, [median(f.bytes_stock) / 1e6 for f in mine], ls="--", **style)
        size.plot(rows, [median(f.bytes_ours) / 1e6 for f in mine], **style)
    for axes, title in ((stall, "stall of the training, CPU ms a save"), (size, "MB written a save")):
        axes.set(xscale="log", yscale="log", xlabel="transitions in the replay buffer", title=title)
        axes.grid(alpha=0.3)
    stall.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="about a minute; nothing is written")
    parser.add_argument("--write", action="store_true", help="into docs/robustness_data.md and docs/images/")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        what, described, folder = options.part
        case = Case(**{**json.loads(described), "shape": tuple(json.loads(described)["shape"])})
        found = measure(case, Path(folder)) if what == "measure" else restore(case, Path(folder), what)
        print(json.dumps(asdict(found)))
        return 0
    started, results = time.monotonic(), []
    for case in quick_cases() if options.quick else cases():
        results.append(run(case))
        print(table(results[-1:])[-1], file=sys.stderr, flush=True)
    content = text(results, time.monotonic() - started)
    print(content)
    if options.write and not options.quick:
        replace_section("checkpoint cost", "## What a checkpoint costs", content.splitlines())
        draw(results, PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
