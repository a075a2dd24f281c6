"""What the report tells besides its results: RESCO's own setting, what was tried, what trainings cost, ways of saving.

Promises: as `results.py`, no number here has another source than kept files.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from kaggle_manager.sections.model import SECTION_FILE, ScenarioConfig, Section, load_section
from validation_ch7.section_7_6_rl_performance.protocol import read_protocol
from validation_ch7.section_7_6_rl_performance.scenarios import scenario_at
from validation_ch7.section_7_6_rl_performance.second_study.contenders import KEPT as DEVELOPMENT
from validation_ch7.section_7_6_rl_performance.second_study.development import variant
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import WAYS, Ablation, Declaration
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import Kept
from validation_ch7.section_7_6_rl_performance.second_study.kept.trainings import has_judged_bits
from validation_ch7.section_7_6_rl_performance.second_study.report.results import SiteResult
from validation_ch7.section_7_6_rl_performance.training import FOLDER

ABLATED = ("main", "first_reward", "first_state", "no_waits", "no_box", "no_clearance")
"""The variants that lack one thing which the first study did not have, after the one that lacks nothing."""
FIRST_STUDY = FOLDER / "results" / "tables" / "summary.csv"


@dataclass(frozen=True)
class Replicated:
    """A controller in RESCO's own setting: its published delay beside that of the first study, in seconds a trip.

    `median_s` and `gridlocked` are of the first study's held-out episodes; `episodes` of them a training.
    """

    site: str
    controller: str
    published_s: float
    median_s: float
    mean_s: float
    trainings: int
    episodes: int
    gridlocked: int


def replications() -> list[Replicated]:
    """What the first study measured of the controllers whose delay RESCO published."""
    with FIRST_STUDY.open(encoding="utf-8", newline="") as file:
        rows = {(row["scenario"], row["controller"]): row for row in csv.DictReader(file)}
    section = load_section(FOLDER / SECTION_FILE)
    found = []
    for site, published in read_protocol(section).published.items():
        for controller, delay_s in published.items():
            row = rows[scenario_at(section, site), "best" if controller == "dqn" else controller]
            found.append(
                Replicated(
                    site=site,
                    controller=controller,
                    published_s=delay_s,
                    median_s=float(row["median_delay_s"]),
                    mean_s=float(row["mean_delay_s"]),
                    trainings=int(row["trainings"]),
                    episodes=int(row["episodes"]),
                    gridlocked=int(row["gridlocked"]),
                )
            )
    return found


@dataclass(frozen=True)
class Tried:
    """A variant of an agent; delays of the final models in seconds a trip, the mean and the extremes of the trainings.

    Attributes:
        scenario: of section.toml that it is a variant of.
        decisions: of a training.
        otherwise: the values that the declared training of that method at that site has otherwise.
        episodes, gridlocked: of all its trainings.
    """

    name: str
    scenario: str
    decisions: int
    otherwise: Mapping[str, Any]
    trainings: int
    delay_s: float
    lowest_s: float
    highest_s: float
    episodes: int
    gridlocked: int


def read_tried(folder: Path, declared: Iterable[ScenarioConfig]) -> list[Tried]:
    """Every variant that was trained in the development, those of one scenario together, the best first.

    Args:
        declared: the scenarios of the declaration, which variants are compared with.
    """
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for file in sorted((folder / "agents").glob("*.json")):
        body = json.loads(file.read_bytes())
        found[body["name"]].append(body)
    section = load_section(FOLDER / SECTION_FILE)
    of_method = {(each.algorithm, each.environment_kwargs["site"]): each for each in declared}
    tried = [_tried(section, of_method, bodies) for bodies in found.values()]
    return sorted(tried, key=lambda each: (each.scenario, each.delay_s))


def _tried(
    section: Section, of_method: Mapping[tuple[str, Any], ScenarioConfig], bodies: Sequence[Mapping[str, Any]]
) -> Tried:
    final = [body["judged"]["final"] for body in bodies]
    delays = [each["mean_delay_s"] for each in final]
    name, said = bodies[0]["name"], bodies[0]["declared"]
    config, base = variant(section, name, said), section.agent(said["scenario"])
    declared = of_method.get((base.algorithm, base.environment_kwargs["site"]))
    known = {} if declared is None else _settings(declared)
    return Tried(
        name=name,
        scenario=said["scenario"],
        decisions=config.timesteps,
        otherwise={key: value for key, value in _settings(config).items() if known.get(key) != value},
        trainings=len(bodies),
        delay_s=fmean(delays),
        lowest_s=min(delays),
        highest_s=max(delays),
        episodes=sum(each["episodes"] for each in final),
        gridlocked=sum(each["gridlocked"] for each in final),
    )


def _settings(config: ScenarioConfig) -> dict[str, Any]:
    """What an agent learns with and in, by name."""
    given = dict[str, Any](config.hyperparameters)
    return {
        "algorithm": config.algorithm,
        "policy": config.policy,
        **config.environment_kwargs,
        **given.pop("policy_kwargs", {}),
        **given,
    }


@dataclass(frozen=True)
class Cost:
    """What the kept trainings of an agent at a site took.

    Attributes:
        hours: of the trainings, `evaluations` their share of it.
    """

    site: str
    agent: str
    trainings: int
    sessions: int
    decisions: int
    hours: float
    evaluations: float
    decisions_a_second: float


def costs(results: Sequence[SiteResult]) -> Iterator[Cost]:
    """One for each agent at each site of which trainings are kept."""
    for result in results:
        for agent, kept in result.trainings.items():
            if kept:
                seconds = sum(each["training_seconds"] or 0.0 for each in kept)
                evaluating = sum(each["evaluation_seconds"] or 0.0 for each in kept)
                decisions = sum(each["step"] for each in kept)
                yield Cost(
                    site=result.site.name,
                    agent=agent,
                    trainings=len(kept),
                    sessions=sum(each["generations"] for each in kept),
                    decisions=decisions,
                    hours=seconds / 3600,
                    evaluations=evaluating / seconds if seconds else 0.0,
                    decisions_a_second=decisions / seconds if seconds else 0.0,
                )


@dataclass(frozen=True)
class OverSessions:
    """A declared training of a site again, through the manager over sessions that were killed.

    Attributes:
        kills: what was killed, and how often.
        goodput: the share of its sessions' time that the training is made of, without what was lost or spent on
            starting.
        equal: whether its policy is, bit for bit, that of the training without a session, and the judged one.
    """

    site: str
    seed: int
    sessions: int
    session_limit_s: float
    kills: Mapping[str, int]
    goodput: float
    equal: bool


def over_sessions(kept: Kept, results: Sequence[SiteResult]) -> Iterator[OverSessions]:
    """One for each site where there was one.

    Raises:
        OutputDamaged: kept data was changed.
    """
    for result in results:
        if (found := kept.sessions(result.site.name)) is not None:
            yield OverSessions(
                site=result.site.name,
                seed=found["seed"],
                sessions=found["sessions"],
                session_limit_s=found["session_limit_s"],
                kills=found["kills"],
                goodput=found["training_seconds"] / found["session_seconds"],
                equal=has_judged_bits(kept, result.site.name),
            )


@dataclass(frozen=True)
class Share:
    """Where the time of a training at a site goes: shares of the simulator and of the network's updates."""

    site: str
    simulator: float
    learner: float


def shares(kept: Kept, results: Sequence[SiteResult]) -> Iterator[Share]:
    """One for each site where it was measured.

    Raises:
        OutputDamaged: kept data was changed.
    """
    for result in results:
        if (found := kept.shares(result.site.name)) is not None:
            whole = found["seconds"]
            yield Share(result.site.name, found["simulator_s"] / whole, found["learner_s"] / whole)


@dataclass(frozen=True)
class Saving:
    """What came of one way of saving, over its trainings.

    Attributes:
        finished: trainings that reached their target.
        sessions, decisions: of a training, their mean; decisions that were played again count again.
        delays_s: mean delay of each finished training's model.
        gridlocked, episodes: of them all.
        as_whole: trainings whose policy is, bit for bit, that of the training which was never killed.
    """

    way: str
    trainings: int
    finished: int
    sessions: float
    decisions: float
    delays_s: tuple[float, ...]
    gridlocked: int
    episodes: int
    as_whole: int


def savings(kept: Kept, declared: Ablation) -> list[Saving]:
    """One for each way of which something is kept.

    Raises:
        OutputDamaged: kept data was changed.
    """
    found = {
        way: [body for seed in declared.training_seeds if (body := kept.ablation(way, seed)) is not None]
        for way in WAYS
    }
    whole = {body["seed"]: body.get("policy_sha256") for body in found["whole"]}
    return [_saving(way, bodies, whole) for way, bodies in found.items() if bodies]


def _saving(way: str, bodies: Sequence[Mapping[str, Any]], whole: Mapping[int, str | None]) -> Saving:
    finished = [body for body in bodies if body["finished"]]
    return Saving(
        way=way,
        trainings=len(bodies),
        finished=len(finished),
        sessions=fmean(body["sessions"] for body in bodies),
        decisions=fmean(body["decisions"] for body in bodies),
        delays_s=tuple(fmean(body["delays_s"]) for body in finished),
        gridlocked=sum(body["gridlocked"] for body in finished),
        episodes=sum(len(body["delays_s"]) for body in finished),
        as_whole=sum(body["policy_sha256"] == whole.get(body["seed"]) for body in finished),
    )


@dataclass(frozen=True)
class Around:
    """All of it.

    Attributes:
        on_kaggle: whether a kept training was a session's, which has the code of a bundle.
    """

    replications: Sequence[Replicated]
    tried: Sequence[Tried]
    ablated: Sequence[Tried]
    costs: Sequence[Cost]
    on_kaggle: bool
    over_sessions: Sequence[OverSessions]
    shares: Sequence[Share]
    savings: Sequence[Saving]


def gather_around(kept: Kept, declaration: Declaration, results: Sequence[SiteResult]) -> Around:
    """Read it.

    Raises:
        OutputDamaged: kept data was changed.
    """
    tried = read_tried(DEVELOPMENT, (each for result in results for each in result.agents.values()))
    by_name = {each.name: each for each in tried}
    return Around(
        replications=replications(),
        tried=[each for each in tried if each.name not in ABLATED],
        ablated=[by_name[name] for name in ABLATED if name in by_name],
        costs=list(costs(results)),
        on_kaggle=any(each.get("bundle_sha256") for result in results for each in chain(*result.trainings.values())),
        over_sessions=list(over_sessions(kept, results)),
        shares=list(shares(kept, results)),
        savings=savings(kept, declaration.ablation),
    )
