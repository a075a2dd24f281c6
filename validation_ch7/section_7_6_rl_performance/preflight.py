"""Checks of the environments this section trains, on this machine, in seconds, before any accelerator time is spent.

    python -m validation_ch7.section_7_6_rl_performance.preflight

`preflight()` returns one `CheckResult` per promise and scenario; a failure's detail names what to look at. It trains a
few steps in a folder of its own, which it removes, and touches no training tree.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.sections.model import ScenarioConfig, Section, load_section
from kaggle_manager.trainer.runtime.checks import CheckResult, add_options, report
from kaggle_manager.trainer.sb3 import env_check
from kaggle_manager.trainer.sb3.preflight import check_accelerator, check_training
from validation_ch7.section_7_6_rl_performance import metrics
from validation_ch7.section_7_6_rl_performance.environment import TrafficSignalEnv
from validation_ch7.section_7_6_rl_performance.protocol import read_protocol
from validation_ch7.section_7_6_rl_performance.second_study.environment import SignalEnv
from validation_ch7.section_7_6_rl_performance.second_study.messages import Snapshot as SignalSnapshot
from validation_ch7.section_7_6_rl_performance.simulation import Snapshot
from validation_ch7.section_7_6_rl_performance.training import FOLDER, PROJECT

SECTION_FILE = FOLDER / "section.toml"
SEEDS = (101, 102)
LONGEST_S = 900
"""Longer windows are cut to this: enough for every check, and seconds instead of a minute."""

MIN_DISTINCT_REWARDS = 6
MIN_QUEUE = 5


@dataclass(frozen=True)
class Episode:
    """What a check needs to know of one finished episode."""

    rewards: list[float]
    snapshots: list[Snapshot | SignalSnapshot]
    in_space: bool

    @property
    def window(self) -> list[int]:
        """The times of all decisions."""
        return [snapshot.time_s for snapshot in self.snapshots]

    @property
    def demand(self) -> set[tuple[str, float]]:
        """Who wanted to enter, and when (to the second: SUMO writes two decimals)."""
        return {(trip.id, round(trip.due_s)) for trip in self.snapshots[-1].trips or ()}

    @property
    def digest(self) -> str:
        return self.snapshots[-1].digest


def preflight(scenarios: Sequence[str] = (), *, quick: bool = False) -> list[CheckResult]:
    """Run every check for the named scenarios of this section, or for all.

    Args:
        quick: only what a quick run, which is a trial training itself, does not show at once.

    Raises:
        ConfigError: the section file itself is not valid, or it has no such scenario.
    """
    section = load_section(SECTION_FILE)
    read_protocol(section)
    return [
        CheckResult(f"{name}: {result.name}", result.ok, result.detail)
        for name in scenarios or section.scenarios
        for result in _of_scenario(section, name, quick=quick)
    ]


def _of_scenario(section: Section, name: str, *, quick: bool) -> Iterator[CheckResult]:
    yield from env_check.check_environment(section.agent(name).for_quick())
    if not quick:
        yield from check_environment(section.agent(name))
        yield from check_training(PROJECT, section, name)
        yield from check_accelerator(section, name)


def check_environment(scenario: ScenarioConfig) -> list[CheckResult]:
    """What can be seen of a scenario's environment without training in it."""
    module, _, factory = scenario.environment.partition(":")
    try:
        make = getattr(importlib.import_module(module), factory)
        env = make(**scenario.environment_kwargs)
        if env.episode_s > LONGEST_S:
            env.close()
            env = make(**{**scenario.environment_kwargs, "episode_s": LONGEST_S})
    except (ImportError, AttributeError, TypeError, KaggleManagerError) as error:
        return [CheckResult("environment can be made", False, f"{scenario.environment}: {error}")]
    try:
        first, again = (play(env, SEEDS[0], np.random.default_rng(SEEDS[0])) for _ in range(2))
        constant, other = (play(env, seed, None) for seed in SEEDS)
        limit_m_s = env.intersection.network_limit_m_s
    except KaggleManagerError as error:
        return [CheckResult("resets and steps", False, str(error))]
    finally:
        env.close()
    return [
        resets_and_steps(first),
        rewards_vary(first),
        queues_form(first),
        same_problem(first, constant, other),
        reproducible(first, again),
        physical([first, other, constant], limit_m_s),
    ]


def play(env: TrafficSignalEnv | SignalEnv, seed: int, rng: np.random.Generator | None) -> Episode:
    """One episode of random actions, or of action 0 throughout without `rng`."""
    observation, _ = env.reset(seed=seed, options={"trips": True})
    episode = Episode([], [], in_space=True)
    in_space = env.observation_space.contains(observation)
    truncated = False
    while not truncated:
        action = 0 if rng is None else int(rng.integers(len(env.intersection.greens)))
        observation, reward, _, truncated, _ = env.step(action)
        in_space = in_space and env.observation_space.contains(observation)
        assert env.snapshot is not None
        episode.rewards.append(reward)
        episode.snapshots.append(env.snapshot)
    return Episode(episode.rewards, episode.snapshots, in_space)


def resets_and_steps(episode: Episode) -> CheckResult:
    """Every observation lies in the declared space, every reward is a number."""
    ok = episode.in_space and bool(np.isfinite(episode.rewards).all())
    seen = f"{len(episode.rewards)} decisions"
    return CheckResult("resets and steps", ok, seen if ok else "look at observation.py and reward.py: out of range")


def rewards_vary(episode: Episode) -> CheckResult:
    """Random actions earn different rewards."""
    distinct = len(set(episode.rewards))
    ok = distinct >= MIN_DISTINCT_REWARDS
    hint = "" if ok else f" (at least {MIN_DISTINCT_REWARDS} expected): look at reward.py, then at the demand"
    return CheckResult("random actions give varied rewards", ok, f"{distinct} distinct rewards{hint}")


def queues_form(episode: Episode) -> CheckResult:
    """Random control makes vehicles stand; if not, there is nothing to learn."""
    longest = max(sum(snapshot.halting) for snapshot in episode.snapshots)
    ok = longest >= MIN_QUEUE
    hint = "" if ok else f" (at least {MIN_QUEUE} expected): look at the demand in the route file and the detection"
    return CheckResult("queues form", ok, f"{longest} vehicles standing at most{hint}")


def same_problem(one: Episode, baseline: Episode, baseline_other_seed: Episode) -> CheckResult:
    """One seed means one window and one demand, whoever controls; another seed means other traffic."""
    problems = []
    if one.window != baseline.window:
        problems.append("two controllers were asked at different times: look at episode_s and decision_s")
    if one.demand != baseline.demand:
        problems.append("two controllers saw different demand under one seed: look at the route file")
    if baseline.digest == baseline_other_seed.digest:
        problems.append("two seeds gave the same traffic: look at the seed in simulation.py")
    return CheckResult("same window, demand and seed for all controllers", not problems, "; ".join(problems) or "equal")


def reproducible(one: Episode, again: Episode) -> CheckResult:
    """The same seed and actions give the same simulator state and rewards, bit for bit."""
    ok = one.digest == again.digest and one.rewards == again.rewards
    return CheckResult("episodes are reproducible", ok, one.digest if ok else "digests differ: look at simulation.py")


def physical(episodes: Sequence[Episode], limit_m_s: float) -> CheckResult:
    """Delays are not negative, nobody drives faster than allowed, vehicles are neither made nor lost."""
    broken = []
    for episode in episodes:
        trips = episode.snapshots[-1].trips or ()
        broken += metrics.impossible(_measured(episode), trips, limit_m_s)
    return CheckResult("metrics are physically possible", not broken, "; ".join(broken[:3]) or "all bounds hold")


def _measured(episode: Episode) -> metrics.EpisodeMetrics:
    # Of a snapshot it reads what stands, which both kinds say.
    return metrics.summarise(episode.snapshots[-1].trips or (), episode.snapshots)  # type: ignore[arg-type]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every check; 0 when all hold, 1 when one does not."""
    parser = argparse.ArgumentParser(prog="python -m validation_ch7.section_7_6_rl_performance.preflight")
    add_options(parser)
    options = parser.parse_args(arguments)
    return report(lambda: preflight(options.scenario, quick=options.quick), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
