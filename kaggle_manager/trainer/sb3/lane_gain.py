"""What a second training gains beside the first one, on this machine: whether runs should share their sessions.

    python -m kaggle_manager.trainer.sb3.lane_gain SECTION SCENARIO

is one of the two: a process that says when it can train, and measures itself for a moment at each line of its input.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.trainer.sb3 import code_first
from kaggle_manager.trainer.sb3.environments import environments_of
from kaggle_manager.trainer.sb3.local_training import open_project
from kaggle_manager.trainer.sb3.network_share import NetworkShare, measure_share, share_of_built

SEED = 101


@dataclass(frozen=True)
class LaneGain:
    """What was measured.

    Attributes:
        gain: timesteps a second of two side by side, over those of one alone.
        process_bytes: memory that one takes for itself, its replay buffer not filled.
        cores: of this machine.
    """

    gain: float
    process_bytes: int
    cores: int


def measure_lanes(project: Path, section: str, scenario: str, environ: Mapping[str, str]) -> LaneGain | None:
    """Let one process train, then two; None where no update came within seconds.

    Args:
        environ: of their processes.

    Raises:
        ValueError, OSError: they could not train.
    """
    command = [sys.executable, "-m", "kaggle_manager.trainer.sb3.lane_gain", section, scenario]
    with contextlib.ExitStack() as running:
        first, second = (running.enter_context(_Training(command, project, environ)) for _ in range(2))
        for each in (first, second):
            each.answer()  # it can train
        first.ask()
        alone = first.answer()
        for each in (first, second):
            each.ask()
        together = [each.answer() for each in (first, second)]
    if not all(answer["steps_per_s"] for answer in (alone, *together)):
        return None
    gain = sum(answer["steps_per_s"] for answer in together) / alone["steps_per_s"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return LaneGain(gain, int(max(answer["bytes"] for answer in together)), cores)


class _Training:
    """One of the two processes."""

    def __init__(self, command: list[str], project: Path, environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=project,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> _Training:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, float]:
        """Raises ValueError: it has ended."""
        assert self._process.stdout is not None
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found


def own_bytes() -> int:
    """Memory of this process that no other one shares, what it shares counted in part; 0 where Linux does not say."""
    with contextlib.suppress(OSError):
        said = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8")
        if found := re.search(r"^Pss: +(\d+) kB", said, re.MULTILINE):
            return int(found[1]) * 1024
    return 0


def _measured(scenario: ScenarioConfig) -> NetworkShare | None:
    if scenario.build is None:
        return measure_share(scenario, environments_of(scenario))
    with code_first.tried(scenario, SEED) as built:
        return share_of_built(built.model)


def _answers(section_name: str, name: str) -> Iterator[dict[str, float]]:
    _, section = open_project(section_name)
    scenario = section.agent(name)
    yield {}
    for _ in sys.stdin:
        with contextlib.redirect_stdout(io.StringIO()):
            seen = _measured(scenario)
        yield {"steps_per_s": 1 / seen.step_s if seen else 0.0, "bytes": own_bytes()}


def main() -> int:
    """Answer until the end of the input."""
    answers = sys.stdout
    for answer in _answers(*sys.argv[1:3]):
        answers.write(f"{json.dumps(answer)}\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
