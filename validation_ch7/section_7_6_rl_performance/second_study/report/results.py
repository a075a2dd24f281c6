"""Everything the report says about one site, computed from the kept data and the declaration.

Promises: no number here has another source; what is declared and not kept is counted as missing, and said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kaggle_manager.errors import NotFound, OutputDamaged
from kaggle_manager.sections.model import SECTION_FILE, ScenarioConfig, load_section
from validation_ch7.section_7_6_rl_performance.intersection import Intersection, find_intersection
from validation_ch7.section_7_6_rl_performance.second_study.episodes import Episode
from validation_ch7.section_7_6_rl_performance.second_study.judging.comparison import (
    Comparison,
    Summary,
    compare,
    summarise,
)
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import Declaration
from validation_ch7.section_7_6_rl_performance.second_study.kept.playing import AS_TRAINED
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import Kept, Place, select
from validation_ch7.section_7_6_rl_performance.training import FOLDER

MAIN = "main"
Trainings = Mapping[int | None, tuple[Episode, ...]]
"""Seed of the training, None for a baseline, and its episodes in the order of the declared traffic seeds."""


@dataclass(frozen=True)
class SiteResult:
    """One intersection.

    Attributes:
        agents: name -> the scenario that was trained.
        trainings: agent -> its kept trainings, in the order of the declared seeds.
        keys: controller -> what the first of its kept files says its episodes depend on.
        episodes: controller -> training -> its held-out episodes.
        summaries: controller -> summary, in the order of the tables.
        comparisons: the main agent against each baseline that is kept.
        shifted: condition -> controller -> summary.
        session_ends: seed of the training that was done again over sessions, and the steps at which they ended.
        missing: declared and not kept: trainings, and episodes.
    """

    site: Intersection
    declaration: Declaration
    agents: Mapping[str, ScenarioConfig]
    trainings: Mapping[str, Sequence[Mapping[str, Any]]]
    keys: Mapping[str, Mapping[str, Any]]
    episodes: Mapping[str, Trainings]
    summaries: Mapping[str, Summary]
    comparisons: Sequence[Comparison]
    shifted: Mapping[str, Mapping[str, Summary]]
    session_ends: Mapping[int, Sequence[int]]
    missing: tuple[int, int]

    @property
    def conditions(self) -> dict[str, Mapping[str, Summary]]:
        """The summaries under every condition, that of the training first."""
        return {AS_TRAINED: self.summaries, **self.shifted}

    @property
    def better_baselines(self) -> dict[str, Summary]:
        """Of each condition not met in training, the baseline of the lowest mean delay, where the agent's is not."""
        found = {}
        for condition, summaries in self.shifted.items():
            rivals = {name: each for name, each in summaries.items() if name == MAIN or name not in self.agents}
            lowest = min(rivals, key=lambda name: rivals[name].delay_of_all.value)
            if MAIN in rivals and lowest != MAIN:
                found[condition] = rivals[lowest]
        return found

    @property
    def exact(self) -> bool:
        """Whether every kept training has the bits of one that was never interrupted, as far as it knows."""
        every = [each for kept in self.trainings.values() for each in kept]
        return all(each["exact"] not in (None, "none") and not each["exact_broken"] for each in every)


def gather(kept: Kept, declaration: Declaration) -> list[SiteResult]:
    """Read what is kept of every site and compare.

    Raises:
        NotFound: of a site, the main agent's episodes or every baseline's are not kept.
        OutputDamaged: kept data was changed.
    """
    return [_site(kept, declaration, name) for name in declaration.sites]


def _site(kept: Kept, declaration: Declaration, name: str) -> SiteResult:
    section = load_section(FOLDER / SECTION_FILE)
    agents = {agent: section.agent(each.scenarios[name]) for agent, each in declaration.agents.items()}
    found, keys, absent = _played(kept, declaration, name, AS_TRAINED)
    baselines = {other: found[other] for other in declaration.judgement.baselines if other in found}
    common = _met_by_all([found.get(MAIN, {}), *baselines.values()])
    if not baselines or not common:
        raise NotFound(
            f"Of {name}, no episodes of the main agent and of a baseline in the same traffic are kept below "
            f"{kept.folder}.",
            safe="nothing was written.",
            next_step="python -m validation_ch7.section_7_6_rl_performance.second_study.kept.study",
        )
    shifted: dict[str, dict[str, Summary]] = {}
    for condition in declaration.traffic.conditions:
        played, _, not_there = _played(kept, declaration, name, condition)
        absent += not_there
        if played:
            shifted[condition] = _summaries(played, declaration)
    trainings = {
        agent: [each for seed in declared.training_seeds if (each := kept.training(name, agent, seed)) is not None]
        for agent, declared in declaration.agents.items()
    }
    declared = sum(len(each.training_seeds) for each in declaration.agents.values())
    return SiteResult(
        site=find_intersection(name),
        declaration=declaration,
        agents=agents,
        trainings=trainings,
        keys=keys,
        episodes=found,
        summaries=_summaries(found, declaration),
        comparisons=compare(
            _within(found[MAIN], common),
            {other: _within(each, common) for other, each in baselines.items()},
            declaration.judgement,
        ),
        shifted=shifted,
        session_ends={over["seed"]: over["session_ends"]} if (over := kept.sessions(name)) is not None else {},
        missing=(declared - sum(map(len, trainings.values())), absent),
    )


def _met_by_all(controllers: Sequence[Trainings]) -> list[int]:
    """The traffic seeds of which every controller has an episode: all of the declared, once nothing is missing."""
    return sorted(
        set.intersection(*({episode.seed for each in found.values() for episode in each} for found in controllers))
    )


def _within(trainings: Trainings, seeds: Sequence[int]) -> list[tuple[Episode, ...]]:
    return [select(episodes, seeds) for episodes in trainings.values()]


def _summaries(played: Mapping[str, Trainings], declaration: Declaration) -> dict[str, Summary]:
    return {name: summarise(name, list(each.values()), declaration.judgement) for name, each in played.items()}


def _played(
    kept: Kept, declaration: Declaration, site: str, condition: str
) -> tuple[dict[str, Trainings], dict[str, Mapping[str, Any]], int]:
    """The episodes of every controller that has some, what they depend on, and how many are missing.

    Agents come last, the main one at the end.

    Raises:
        OutputDamaged: kept data was changed, or two controllers were played by different code.
    """
    of_agents = [(name, each.training_seeds) for name, each in reversed(declaration.agents.items())]
    asked: list[tuple[str, Sequence[int | None]]] = [(name, [None]) for name in declaration.judgement.baselines]
    found: dict[str, Trainings] = {}
    sources: dict[str, str] = {}
    keys: dict[str, Mapping[str, Any]] = {}
    missing = 0
    for name, seeds in [*asked, *of_agents]:
        wanted = {seed: declaration.traffic_seeds(condition, name, seed) for seed in seeds}
        played = {seed: each for seed in seeds if (each := kept.episodes(Place(site, condition, name, seed)))}
        episodes = {seed: chosen for seed, each in played.items() if (chosen := select(each.episodes, wanted[seed]))}
        missing += sum(map(len, wanted.values())) - sum(map(len, episodes.values()))
        sources |= {each.place.name: str(each.key.get("sources")) for each in played.values()}
        if episodes:
            found[name] = episodes
            keys[name] = next(iter(played.values())).key
    if len({*sources.values()}) > 1:
        raise OutputDamaged(
            f"The kept episodes of {site}, {condition}, were not all played by the same code: {sources}.",
            safe="nothing was written.",
            next_step="python -m validation_ch7.section_7_6_rl_performance.second_study.kept.study",
        )
    return found, keys, missing
