#!/usr/bin/env python3
"""What is only known on a GPU, in at most eight minutes on one card: run it the day there is one.

    python scripts/bootstrap.py scripts/gpu_check.py [--minutes 8] [--json gpu_check.json]

* exactness: of each algorithm, a training cut by SIGKILL and resumed has the same bits as an uncut one, on CUDA;
* gain: timesteps a second on the GPU and on the CPU, of each algorithm, with an MLP and with a CNN of 84 x 84 images;
* deterministic: what the deterministic kernels, which every training uses, cost;
* together: two trainings on one card at once, against one alone.

Each part has its share of the time. What is not measured when that is over is named. Each row is printed as it comes,
and the JSON file is whole after each. Ends with 1 when bits differ, or a row ended with an error. `--device cpu
--quick` tries the script itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch

from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.trainer.sb3 import determinism, network_share, selftest

ALGORITHMS = ("DQN", "PPO", "A2C", "SAC", "TD3")
EXACT = (*(name.lower() for name in ALGORITHMS), "dqn-images", "ppo-images")
NETWORKS = ("MLP", "CNN")
TYPICAL = (("DQN", "MLP"), ("DQN", "CNN"), ("PPO", "CNN"))
CONTINUOUS = ("SAC", "TD3")


class Frames(gym.Env[Any, Any]):
    """Four images as an Atari game has them, drawn in no time: what is measured is the network."""

    observation_space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)

    def __init__(self, continuous: bool) -> None:
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,)) if continuous else gym.spaces.Discrete(6)
        self._image, self._steps = np.zeros((4, 84, 84), np.uint8), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._image.copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        self._image[:, self._steps % 84] = self._steps % 256
        return self._image.copy(), float(self._steps % 3), False, self._steps == 200, {}


def scenario(algorithm: str, network: str) -> ScenarioConfig:
    """Stable-Baselines3's defaults, in rollouts of 128 steps where there are rollouts."""
    images = network == "CNN"
    simple = {"id": "Pendulum-v1" if algorithm in CONTINUOUS else "CartPole-v1"}
    return ScenarioConfig(
        environment=f"{__name__}:Frames" if images else "gymnasium:make",
        environment_kwargs={"continuous": algorithm in CONTINUOUS} if images else simple,
        algorithm=algorithm,  # type: ignore[arg-type]
        policy="CnnPolicy" if images else "MlpPolicy",
        timesteps=1_000_000,
        models="models",
        quick={"models": "quick"},  # type: ignore[arg-type]
    )


class Speed(NamedTuple):
    """What one training is to be measured in."""

    algorithm: str
    network: str
    device: str
    seconds: float
    deterministic: bool = True


def measure(asked: Sequence[Speed], longest_s: float) -> list[float]:
    """Timesteps a second of each, at the same time, each in a process of its own.

    Raises:
        TimeoutError: they took longer than `longest_s`.
        RuntimeError: one measured nothing; an error of its own stands above.
    """
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload([selftest.__name__, "torch._dynamo"])
    deadline = time.monotonic() + longest_s
    pipes = [context.Pipe(duplex=False) for _ in asked]
    children = [context.Process(target=_child, args=(each, send)) for each, (_, send) in zip(asked, pipes, strict=True)]
    try:
        for child in children:
            child.start()
        for _, send in pipes:
            send.close()
        found = []
        for receive, _ in pipes:
            if not receive.poll(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            try:
                found.append(float(receive.recv()))
            except EOFError:
                raise RuntimeError("no update came within seconds, or the training ended with an error") from None
        return found
    finally:
        for child in children:
            if child.pid is not None:
                child.kill()
                child.join()
        for receive, _ in pipes:
            receive.close()


def _child(asked: Speed, send: Any) -> None:
    if asked.deterministic:
        determinism.make_deterministic(asked.device)
    seen = network_share.measure_share(
        scenario(asked.algorithm, asked.network), device=asked.device, seconds=asked.seconds
    )
    if seen is not None:
        send.send(1 / seen.step_s)
    send.close()


class Check:
    """One run of the script: what was asked for, and what has come of it."""

    def __init__(self, device: str, minutes: float, quick: bool, file: Path) -> None:
        self.device, self.quick, self.file = device, quick, file
        self.seconds = 0.2 if quick else 3.0
        self.began, self.length_s = time.monotonic(), minutes * 60
        self.ends = self.began
        self.report: dict[str, Any] = {
            "schema": 1,
            "device": torch.cuda.get_device_name(device)
            if device.startswith("cuda")
            else platform.processor() or "cpu",
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "quick": quick,
            "rows": [],
            "left_out": [],
        }

    def part(self, name: str, share: float, rows: Sequence[tuple[str, Callable[[], dict[str, Any]]]]) -> None:
        """Carry out the rows of a part as far as its share of the time reaches."""
        self.ends += share * self.length_s
        for label, row in rows[: 1 if self.quick else None]:
            began = time.monotonic()
            if (found := self._tried(row, self.ends - began)) is None:
                self.report["left_out"].append(f"{name}: {label}")
                print(f"| {name} | {label} | left out: its share of the time is over | |", flush=True)
            else:
                took = round(time.monotonic() - began, 1)
                self.report["rows"].append({"part": name, "what": label, **found, "seconds": took})
                said = (
                    f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                    for key, value in found.items()
                )
                print(f"| {name} | {label} | {', '.join(said)} | {took} s |", flush=True)
            self.report["minutes"] = round((time.monotonic() - self.began) / 60, 2)
            unfinished = self.file.with_name(f"{self.file.name}.tmp")
            unfinished.write_text(json.dumps(self.report, indent=2) + "\n", encoding="utf-8")
            unfinished.replace(self.file)

    @staticmethod
    def _tried(row: Callable[[], dict[str, Any]], longest_s: float) -> dict[str, Any] | None:
        """What a row found, or the error it met; None when there was no time for it."""
        try:
            if longest_s <= 0:
                return None
            with no_longer_than(longest_s):
                return row()
        except TimeoutError:
            return None
        except Exception as error:  # the others are worth their time all the same
            return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}

    def left_s(self) -> float:
        return max(0.0, self.ends - time.monotonic())

    def exact(self, case: str) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="km_gpu_check_") as folder:
            proof = selftest.prove(case, Path(folder), kills=1, device=self.device)
        return {"differs in": ", ".join(proof.differing) or "nothing", "kills": proof.kills}

    def speed(self, algorithm: str, network: str, device: str, *, deterministic: bool = True) -> float:
        return measure([Speed(algorithm, network, device, self.seconds, deterministic)], self.left_s())[0]

    def gain(self, algorithm: str, network: str) -> dict[str, Any]:
        here, cpu = self.speed(algorithm, network, self.device), self.speed(algorithm, network, "cpu")
        return {"steps/s": here, "steps/s on the CPU": cpu, "gain": here / cpu}

    def cost(self, algorithm: str, network: str) -> dict[str, Any]:
        ours = self.speed(algorithm, network, self.device)
        free = self.speed(algorithm, network, self.device, deterministic=False)
        return {"steps/s": ours, "steps/s without": free, "cost": 1 - ours / free}

    def together(self, algorithm: str, network: str) -> dict[str, Any]:
        alone = self.speed(algorithm, network, self.device)
        both = measure([Speed(algorithm, network, self.device, self.seconds)] * 2, self.left_s())
        return {"steps/s alone": alone, "steps/s of two": sum(both), "gain": sum(both) / alone}


@contextlib.contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    """TimeoutError when it takes longer, where the system has an alarm."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gpu_check.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="of torch (default: cuda)")
    parser.add_argument("--minutes", type=float, default=8.0, help="at most (default: 8)")
    parser.add_argument("--json", type=Path, default=Path("gpu_check.json"), help="where the figures go")
    parser.add_argument("--quick", action="store_true", help="the first row of each part, shortly: tries the script")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("error: torch finds no GPU here; `--device cpu --quick` tries the script itself", file=sys.stderr)
        return 2
    check = Check(options.device, options.minutes, options.quick, options.json)
    print(f"{check.report['device']}, torch {torch.__version__}, CUDA {torch.version.cuda}\n")
    print("| part | what | found | took |\n| --- | --- | --- | --- |", flush=True)
    pairs = [(algorithm, network) for network in NETWORKS for algorithm in ALGORITHMS]
    check.part("exactness", 0.5, [(case, lambda case=case: check.exact(case)) for case in EXACT])
    for name, share, row, asked in (
        ("gain", 0.3, check.gain, pairs),
        ("deterministic", 0.1, check.cost, TYPICAL),
        ("together", 0.1, check.together, TYPICAL),
    ):
        check.part(name, share, [(" ".join(pair), lambda row=row, pair=pair: row(*pair)) for pair in asked])
    if left := check.report["left_out"]:
        print(f"\nnot measured: {'; '.join(left)}")
    print(f"\n{check.report['minutes']} minutes; the figures are in {options.json}")
    return int(any(row.get("differs in", "nothing") != "nothing" or "error" in row for row in check.report["rows"]))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import gpu_check  # so that a process that is started finds it under the name it has there

    sys.exit(gpu_check.main())
