"""Everything the report says about one scenario, computed from its trainings and from held-out episodes.

Promises: no number here has another source than the training trees, the episode cache and the section's declaration.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.sections.identity import study_fingerprint
from kaggle_manager.sections.model import ScenarioConfig, Section
from validation_ch7.section_7_6_rl_performance import comparison
from validation_ch7.section_7_6_rl_performance.baselines import baselines
from validation_ch7.section_7_6_rl_performance.comparison import Comparison, Summary
from validation_ch7.section_7_6_rl_performance.environment import TrafficSignalEnv
from validation_ch7.section_7_6_rl_performance.episode_cache import EpisodeCache
from validation_ch7.section_7_6_rl_performance.episodes import Episode
from validation_ch7.section_7_6_rl_performance.intersection import Intersection
from validation_ch7.section_7_6_rl_performance.protocol import Protocol, Remarks, Text, read_remarks
from validation_ch7.section_7_6_rl_performance.training_run import TrainingRun, find_runs

REPORTED = "best"
"""The level that is evaluated, compared and reported; `final` is shown beside it."""


@dataclass(frozen=True)
class Times:
    """Seconds of the environment as it was evaluated."""

    window_s: int
    decision_s: int
    yellow_s: int
    min_green_s: int
    detection_m: float
    simulator: str


@dataclass(frozen=True)
class Published:
    """A published mean delay beside ours, in seconds a trip, and whether they agree within the tolerance.

    `why` explains a difference that is there; None where there is none, or nobody has explained it.
    """

    controller: str
    theirs: float
    ours: float
    within: bool
    why: Text | None


@dataclass(frozen=True)
class Result:
    """One scenario.

    Attributes:
        runs: its trainings.
        episodes: controller -> for each training (one for a baseline) its held-out episodes.
        summaries: controller -> summary, in the order of the tables.
        comparisons: the reported model against each baseline.
        quick: whether this is the quick variant, which shows that everything works and claims nothing.
        declared_before: whether every training began under the declaration that judges it now.
    """

    scenario: str
    config: ScenarioConfig
    protocol: Protocol
    site: Intersection
    times: Times
    runs: tuple[TrainingRun, ...]
    seeds: tuple[int, ...]
    episodes: Mapping[str, tuple[tuple[Episode, ...], ...]]
    summaries: Mapping[str, Summary]
    comparisons: tuple[Comparison, ...]
    published: tuple[Published, ...]
    quick: bool
    declared_before: bool

    @property
    def baselines(self) -> tuple[str, ...]:
        return tuple(each.baseline for each in self.comparisons)

    @property
    def outcomes(self) -> tuple[Mapping[str, Summary], ...]:
        """For each training, the summary of each of its levels alone."""
        found: list[dict[str, Summary]] = [{} for _ in self.runs]
        for level in ("best", "final"):
            reached = [position for position, run in enumerate(self.runs) if level in run.levels]
            for position, episodes in zip(reached, self.episodes.get(level, ()), strict=True):
                found[position][level] = comparison.summarise(level, [episodes], self.protocol)
        return tuple(found)

    @property
    def evaluation_share(self) -> float | None:
        """Share of the time of all sessions of all trainings that evaluations took; None where one is not recorded."""
        times = [(run.evaluation_seconds, run.training_seconds) for run in self.runs]
        known = [(evaluating, whole) for evaluating, whole in times if evaluating is not None and whole]
        return sum(e for e, _ in known) / sum(w for _, w in known) if len(known) == len(times) else None

    @property
    def by_training(self) -> bool:
        """Whether intervals speak of trainings, not of episodes of the trained models."""
        return comparison.by_training(len(self.runs), self.protocol)


def gather(
    section: Section,
    protocol: Protocol,
    scenario: str,
    *,
    base: Path,
    cache: EpisodeCache,
    quick: bool = False,
    trainings: int | None = None,
    episodes: int | None = None,
    journal: Path | None = None,
    say: Callable[[str], None] = print,
) -> Result:
    """Read the trainings of a scenario, simulate what is missing, and compare.

    Args:
        base: folder the training trees lie below.
        quick: the quick variant.
        trainings: only those of the first so many of the declared training seeds.
        episodes: only the first so many of the declared held-out episodes.
        journal: the manager's journal, when there is one.
        say: told which trees are of another experiment.

    Raises:
        NotFound: the scenario was not trained.
        KaggleManagerError: whatever reading or simulating raises.
    """
    wanted = protocol.training_seeds[:trainings]
    runs = find_runs(section, scenario, wanted, base, quick=quick, journal=journal, say=say)
    config = runs[0].config
    kwargs = dict(config.environment_kwargs)
    site, times = _environment(kwargs)
    seeds = protocol.seeds(episodes)
    references = baselines(site, yellow_s=times.yellow_s, min_green_s=times.min_green_s)
    of_level = {level: [run for run in runs if level in run.levels] for level in (REPORTED, "final")}
    contenders = [*references, *(run.contender(level) for level, reached in of_level.items() for run in reached)]
    # Simulated side by side: each contender has a simulator of its own, and these threads only wait for theirs.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        played = iter(list(pool.map(lambda each: tuple(cache.episodes(each, kwargs, seeds)), contenders)))
    found: dict[str, tuple[tuple[Episode, ...], ...]] = {each.name: (next(played),) for each in references}
    found |= {level: tuple(next(played) for _ in reached) for level, reached in of_level.items() if reached}
    summaries = {name: comparison.summarise(name, trainings, protocol) for name, trainings in found.items()}
    return Result(
        scenario=scenario,
        config=config,
        protocol=protocol,
        site=site,
        times=times,
        runs=tuple(runs),
        seeds=tuple(seeds),
        episodes=found,
        summaries=summaries,
        comparisons=tuple(
            comparison.compare(found[REPORTED], found[each.name][0], each.name, protocol) for each in references
        ),
        published=() if quick else published(protocol, read_remarks(section), site.name, summaries),
        quick=quick,
        declared_before=all(run.head.identity.get("study_fingerprint") == study_fingerprint(section) for run in runs),
    )


def _environment(kwargs: Mapping[str, object]) -> tuple[Intersection, Times]:
    env = TrafficSignalEnv(**kwargs)  # type: ignore[arg-type]  # checked by the constructor
    try:
        times = Times(env.episode_s, env.decision_s, env.yellow_s, env.min_green_s, env.detection_m, env.sumo_version)
        return env.intersection, times
    finally:
        env.close()


def published(
    protocol: Protocol, remarks: Remarks, intersection: str, summaries: Mapping[str, Summary]
) -> tuple[Published, ...]:
    """The published delays at an intersection beside those of `summaries`."""
    whys = remarks.differences.get(intersection, {})
    found = []
    for controller, theirs in protocol.published.get(intersection, {}).items():
        ours = summaries[REPORTED if controller == "dqn" else controller].mean.value
        within = abs(ours - theirs) <= protocol.reproduction_tolerance * theirs
        found.append(Published(controller, theirs, ours, within, None if within else whys.get(controller)))
    return tuple(found)
