"""Plays what the declaration asks for and is not kept yet, and plays kept episodes again to compare their digests.

Promises: an episode is kept with everything it depends on; what is kept under other code, another network or another
contender is never extended, but played anew; a replay that differs is named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from kaggle_manager.errors import NotFound, OutputDamaged
from kaggle_manager.sections.identity import source_digests
from kaggle_manager.sections.model import SECTION_FILE, load_section
from validation_ch7.section_7_6_rl_performance.intersection import find_intersection
from validation_ch7.section_7_6_rl_performance.second_study.agents import agent
from validation_ch7.section_7_6_rl_performance.second_study.contenders import Contender, contender, parameters_of
from validation_ch7.section_7_6_rl_performance.second_study.environment import SignalEnv
from validation_ch7.section_7_6_rl_performance.second_study.episodes import play
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import Declaration
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import Kept, Place, Played, select
from validation_ch7.section_7_6_rl_performance.training import FOLDER

AS_TRAINED = "as trained"
SAVE_EVERY = 30
# Not part of what an episode depends on.
_APART = {"__init__.py", "development.py", "double_dqn.py", "reward.py"}


def places(declaration: Declaration, site: str) -> list[Place]:
    """Whose episodes the declaration asks for at a site, in the order of the tables."""
    return [
        Place(site, condition, controller, training)
        for condition in (AS_TRAINED, *declaration.traffic.conditions)
        for controller, training in (
            *((name, None) for name in declaration.judgement.baselines),
            *((name, seed) for name, each in declaration.agents.items() for seed in each.training_seeds),
        )
    ]


def play_missing(kept: Kept, declaration: Declaration, place: Place, say: Callable[[str], None] = print) -> Played:
    """The episodes of a place, played and kept as far as they are not.

    Raises:
        ConfigError: the parameters of a baseline have not been chosen yet.
        OutputDamaged: kept data was changed.
        RunError: SUMO failed, or an episode broke a physical bound.
    """
    seeds = declaration.traffic_seeds(place.condition, place.controller, place.training)
    whom, env_kwargs = contender_of(kept, declaration, place)
    key = key_of(whom, env_kwargs)
    known = kept.episodes(place)
    found = {each.seed: each for each in known.episodes} if known is not None and known.key == key else {}
    missing = [seed for seed in seeds if seed not in found]
    if missing:
        say(f"  {place.site}, {place.condition}: {place.name}: {len(missing)} episodes to play")
    for number, episode in enumerate(play(whom, env_kwargs, missing, place.condition) if missing else (), start=1):
        found[episode.seed] = episode
        if number % SAVE_EVERY == 0 or number == len(missing):
            known = kept.keep_episodes(Played(place, key, tuple(found[seed] for seed in sorted(found))))
    assert known is not None
    return Played(place, key, select(known.episodes, seeds))


def replay(kept: Kept, declaration: Declaration, count: int, say: Callable[[str], None] = print) -> int:
    """Play `count` kept episodes of every place again and compare the digests of their histories.

    Returns:
        how many were played, all with the kept digest.

    Raises:
        NotFound: nothing is kept.
        OutputDamaged: some have another digest; all are named.
    """
    played, differing = 0, []
    for known in kept.every_episode():
        place, wanted = known.place, {episode.seed: episode.digest for episode in known.episodes[:count]}
        whom, env_kwargs = contender_of(kept, declaration, place)
        say(f"  {place.site}, {place.condition}: {place.name}")
        for episode in play(whom, env_kwargs, list(wanted), place.condition):
            played += 1
            if episode.digest != wanted[episode.seed]:
                differing.append(f"{place.site}, {place.condition}, {place.name}, traffic {episode.seed}")
    if not played:
        raise NotFound(f"No episodes are kept below {kept.folder}.", next_step="play and keep them first.")
    if differing:
        raise OutputDamaged(
            f"{len(differing)} of {played} episodes are not what was kept: {'; '.join(differing[:8])}.",
            safe="nothing was changed.",
            next_step="compare the versions of SUMO and the sources with those in provenance.json.",
        )
    return played


def contender_of(kept: Kept, declaration: Declaration, place: Place) -> tuple[Contender, dict[str, Any]]:
    """Who plays at a place, and the arguments of the environment it plays in."""
    section = load_section(FOLDER / SECTION_FILE)
    config = section.agent(declaration.agents["main"].scenarios[place.site])
    if place.training is None:  # a baseline meets what the main agent meets
        parameters = parameters_of(place.controller, find_intersection(place.site))
        return contender(place.controller, parameters), dict(config.environment_kwargs)
    config = section.agent(declaration.agents[place.controller].scenarios[place.site])
    model = kept.policy(place.site, place.controller, place.training)
    return agent(config, model), dict(config.environment_kwargs)


def key_of(whom: Contender, env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Everything an episode depends on but its seed and the condition; JSON values without a path."""
    around = _surroundings(json.dumps(dict(env_kwargs), sort_keys=True))
    key: dict[str, Any] = json.loads(json.dumps({**around, "contender": whom.identity, "sources": sources()}))
    return key


@lru_cache
def _surroundings(env_kwargs: str) -> dict[str, Any]:
    """What an environment of these arguments, as JSON, is made of."""
    env = SignalEnv(**json.loads(env_kwargs))
    try:
        return {
            "environment": json.loads(env_kwargs),
            "network_sha256": _sha256(env.intersection.net_file),
            "demand_sha256": _sha256(env.intersection.route_file),
            "simulator": env.sumo_version,
        }
    finally:
        env.close()


@lru_cache
def sources() -> str:
    """Digest of the code that an episode depends on."""
    second = sorted(f"second_study/{file.name}" for file in (FOLDER / "second_study").glob("*.py"))
    names = [name for name in second if Path(name).name not in _APART]
    first = [
        "baselines.py",
        "episode_server.py",
        "episodes.py",
        "intersection.py",
        "metrics.py",
        "observation.py",
        "simulation.py",
    ]
    found = source_digests(FOLDER, [*first, *names])
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
