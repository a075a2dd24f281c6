"""How fast the traffic environment is: beside `sumo-rl`, and beside SUMO that nobody controls.

One case is one episode in a process of its own: same network, demand, window, seed and options, a decision every 10
seconds and 3 seconds of yellow. Who decides shows the greens in turn, each about as long as the shipped plan does, so
all simulate much the same traffic. Timed is the episode, from reset to its last decision; not the imports. The cases
take turns within a round, and the ratios are of medians over the rounds, because machines are shared. CPU is that of
all processes of a case.

    pip install --no-deps --target peers eclipse-sumo==1.28.0     the `sumo` program, for TraCI and for the last case
    PYTHONPATH=peers python scripts/benchmarks/traffic_speed.py             prints
    PYTHONPATH=peers python scripts/benchmarks/traffic_speed.py --write     also into the section's README

sumo-rl 1.4.5 and the pettingzoo and pandas that it imports are those of constraints.txt. Linux only (reads /proc).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))  # section 7.6 is this repository's own, and not installed

from validation_ch7.section_7_6_rl_performance.environment import TrafficSignalEnv  # noqa: E402
from validation_ch7.section_7_6_rl_performance.intersection import Intersection, find_intersection  # noqa: E402
from validation_ch7.section_7_6_rl_performance.second_study.environment import SignalEnv  # noqa: E402
from validation_ch7.section_7_6_rl_performance.second_study.routes import with_routes  # noqa: E402

DOCUMENT = PROJECT / "validation_ch7" / "section_7_6_rl_performance" / "README.md"
BEGIN, END = "<!-- traffic speed: begin -->", "<!-- traffic speed: end -->"
DECISION_S, YELLOW_S, MIN_GREEN_S = 10, 3, 5
TICKS = os.sysconf("SC_CLK_TCK")
# As both environments start SUMO; see `episode_server.py`.
OPTIONS = ["--time-to-teleport=-1", "--default.departspeed=0", "--default.departlane=first", "--no-step-log=true"]
AIMS = {"sumo-rl, libsumo": 1.0}


# --- one episode of each case, in a process of its own ----------------------------------------------------------------

Episode = Callable[[], None]


def ours(site: Intersection, seed: int) -> Episode:
    return played(SignalEnv(site.name, decision_s=DECISION_S, yellow_s=YELLOW_S, min_green_s=MIN_GREEN_S), site, seed)


def first_study(site: Intersection, seed: int) -> Episode:
    """The environment before it spoke in packed messages; it counts every trip of every episode."""
    return played(TrafficSignalEnv(site.name), site, seed)


def played(env: SignalEnv | TrafficSignalEnv, site: Intersection, seed: int) -> Episode:
    def episode() -> None:
        env.reset(seed=seed)
        for action in greens_in_turn(site):
            env.step(action)

    return episode


def sumo_rl(site: Intersection, seed: int) -> Episode:
    return played_by_sumo_rl(site, seed, site.route_file)


def sumo_rl_with_routes(site: Intersection, seed: int) -> Episode:
    """With the traffic that this environment gives to SUMO, which sumo-rl could be given as well."""
    folder = tempfile.TemporaryDirectory()
    file = Path(folder.name) / site.route_file.name
    file.write_bytes(with_routes(str(site.net_file), str(site.route_file)))
    play = played_by_sumo_rl(site, seed, file)

    def episode() -> None:
        with folder:  # read as the episode goes on
            play()

    return episode


def played_by_sumo_rl(site: Intersection, seed: int, route_file: Path) -> Episode:
    from sumo_rl import SumoEnvironment  # type: ignore[import-untyped]

    env = SumoEnvironment(
        net_file=str(site.net_file),
        route_file=str(route_file),
        single_agent=True,
        begin_time=site.begin_s,
        num_seconds=site.duration_s,
        delta_time=DECISION_S,
        yellow_time=YELLOW_S,
        min_green=MIN_GREEN_S,
        sumo_warnings=False,
        additional_sumo_cmd=" ".join(OPTIONS[1:]),  # the first is its default
    )
    assert env.action_space.n == len(site.greens)

    def episode() -> None:
        env.reset(seed=seed)
        for action in greens_in_turn(site):
            env.step(action)

    return episode


def libsumo_alone(site: Intersection, seed: int) -> Episode:
    import libsumo

    def episode() -> None:
        libsumo.start(["sumo", *arguments(site, seed)])
        for _ in range(site.duration_s):
            libsumo.simulationStep()
        libsumo.close()

    return episode


def program_alone(site: Intersection, seed: int) -> Episode:
    program = Path(os.environ["SUMO_HOME"]) / "bin" / "sumo"

    def episode() -> None:
        subprocess.run([program, *arguments(site, seed)], check=True, stdout=subprocess.DEVNULL)

    return episode


def arguments(site: Intersection, seed: int) -> list[str]:
    """SUMO's command line for the bare episode."""
    return [
        f"--net-file={site.net_file}",
        f"--route-files={site.route_file}",
        f"--begin={site.begin_s}",
        f"--end={site.begin_s + site.duration_s}",
        f"--seed={seed}",
        "--no-warnings=true",
        *OPTIONS,
    ]


def greens_in_turn(site: Intersection) -> list[int]:
    """The actions of one episode: every green for as many decisions as the shipped plan's seconds come nearest to."""
    cycle = [
        phase
        for phase, green_s in enumerate(site.green_durations_s)
        for _ in range(max(1, round(green_s / DECISION_S)))
    ]
    decisions = site.duration_s // DECISION_S
    return (cycle * (decisions // len(cycle) + 1))[:decisions]


@dataclass(frozen=True)
class Case:
    """Someone who plays the episode; `environment` is added to the process's own."""

    label: str
    make: Callable[[Intersection, int], Episode]
    environment: dict[str, str] | None = None


CASES = (
    Case("this environment", ours),
    Case("the environment of the first study", first_study),
    Case("sumo-rl, TraCI", sumo_rl),
    Case("sumo-rl, libsumo", sumo_rl, {"LIBSUMO_AS_TRACI": "1"}),
    Case("sumo-rl, libsumo, given our routes", sumo_rl_with_routes, {"LIBSUMO_AS_TRACI": "1"}),
    Case("SUMO alone, libsumo", libsumo_alone),
    Case("SUMO alone, its own program", program_alone),
)


def play(number: int, intersection: str, seed: int) -> dict[str, float]:
    """Wall and CPU seconds of one episode of case `number`, by this process and all below it."""
    episode = CASES[number].make(find_intersection(intersection), seed)
    cpu, wall = cpu_seconds(os.getpid()), time.perf_counter()
    episode()
    return {"wall": time.perf_counter() - wall, "cpu": cpu_seconds(os.getpid()) - cpu}


def cpu_seconds(process: int) -> float:
    """User and system time of a process, its children, living or dead, and theirs."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return sum(map(int, fields[11:15])) / TICKS + sum(cpu_seconds(int(child)) for child in children)


# --- rounds -----------------------------------------------------------------------------------------------------------


def measure(intersections: Sequence[str], rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Median wall and CPU seconds of an episode, by intersection and label."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for intersection in intersections:
        samples: dict[str, list[dict[str, float]]] = {case.label: [] for case in CASES}
        for seed in range(rounds):
            for number, case in enumerate(CASES):
                command = [sys.executable, __file__, "--play", str(number), intersection, str(seed)]
                done = subprocess.run(command, env=surroundings(case), capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SystemExit(f"{case.label} on {intersection} failed:\n{done.stderr[-2000:]}")
                samples[case.label].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{intersection}: round {seed + 1} of {rounds}", file=sys.stderr)
        found[intersection] = {
            label: {clock: median(sample[clock] for sample in taken) for clock in ("wall", "cpu")}
            for label, taken in samples.items()
        }
    return found


def surroundings(case: Case) -> dict[str, str]:
    """The environment variables of a case's process; SUMO's program is that of the installed eclipse-sumo."""
    found = importlib.util.find_spec("sumo")
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"The program `sumo` is needed to compare with.\n{__doc__}")
    path = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])
    home = found.submodule_search_locations[0]
    return {**os.environ, "PYTHONPATH": path, "SUMO_HOME": home, **(case.environment or {})}


# --- what is shown ----------------------------------------------------------------------------------------------------


def table(found: dict[str, dict[str, dict[str, float]]], rounds: int) -> str:
    lines = []
    for intersection, medians in found.items():
        site, own = find_intersection(intersection), medians[CASES[0].label]
        decisions = site.duration_s // DECISION_S
        lines += [
            f"**{intersection}**: {decisions} decisions in {site.duration_s} simulated seconds",
            "",
            "| | decisions/s | simulated s/s | CPU s | wall s | this environment is faster by: CPU | wall | aim |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for label, cost in medians.items():
            speed = [f"{count / cost['wall']:.0f}" for count in (decisions, site.duration_s)]
            costs = [f"{cost[clock]:.2f}" for clock in ("cpu", "wall")]
            ratios = [f"{cost[clock] / own[clock]:.2f}" for clock in ("cpu", "wall")]
            aim = f"{AIMS[label]:g}" if label in AIMS else ""
            lines.append(f"| {' | '.join([label, *speed, *costs, *ratios, aim])} |")
        lines.append("")
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, libsumo {version('libsumo')}"
    lines.append(f"Medians of {rounds} rounds; {machine}, sumo-rl {version('sumo-rl')}.")
    return "\n".join(lines)


def version(package: str) -> str:
    return importlib.metadata.version(package)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--intersection", nargs="+", default=["cologne1", "ingolstadt1"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.name} of the section")
    parser.add_argument("--play", nargs=3, metavar=("CASE", "INTERSECTION", "SEED"), help=argparse.SUPPRESS)
    options: Any = parser.parse_args(arguments)
    if options.play:
        number, intersection, seed = options.play
        print(json.dumps(play(int(number), intersection, int(seed))))
        return 0
    text = table(measure(options.intersection, options.rounds), options.rounds)
    print(text)
    if options.write:
        old = DOCUMENT.read_text(encoding="utf-8")
        new, count = re.subn(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{text}\n{END}", old, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{DOCUMENT} must hold {BEGIN} and {END} once.")
        DOCUMENT.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
