"""Episodes kept by the content of everything they depend on, so that none is simulated twice and none is ever stale.

One file for each contender and environment, named by the hash of its key: sources, network, demand, window, simulator
version, controller with its parameters or the trained model's own bytes. More seeds extend the file. Promises: no path
and no time enters a key, so a folder of these serves on another machine; a file is verified whenever it is read, and
one that does not verify is left out with a warning and computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from kaggle_manager.checkpoints.atomic_io import Disk, storage_errors, write_atomic
from kaggle_manager.sections.identity import source_digests
from validation_ch7.section_7_6_rl_performance.baselines import Contender
from validation_ch7.section_7_6_rl_performance.environment import TrafficSignalEnv
from validation_ch7.section_7_6_rl_performance.episodes import Episode, play

SCHEMA = 1
# Whatever an episode's outcome depends on; the observation and the classical controllers are among it.
SOURCES = (
    "baselines.py",
    "environment.py",
    "episode_server.py",
    "episodes.py",
    "intersection.py",
    "metrics.py",
    "observation.py",
    "signal_plan.py",
    "simulation.py",
    "webster.py",
)
SAVE_EVERY = 5

Key = dict[str, Any]


class EpisodeCache:
    """Episodes in a folder. Several threads may ask; those that ask for the same contender take turns.

    Args:
        folder: made when missing.
        say: told what is computed and what did not verify.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] = print) -> None:
        self._folder = folder
        self._say = say
        self._surroundings: dict[str, Key] = {}
        self._looking = Lock()
        self._turns: defaultdict[Path, Lock] = defaultdict(Lock)

    def episodes(self, contender: Contender, env_kwargs: Mapping[str, Any], seeds: Sequence[int]) -> list[Episode]:
        """The episodes of `seeds`, in that order; those that are not kept yet are simulated and kept.

        Raises:
            RunError: SUMO failed, or an episode broke a physical bound.
            StorageError: the disk refused.
        """
        asked = json.dumps(dict(env_kwargs), sort_keys=True)
        with self._looking:
            if asked not in self._surroundings:
                self._surroundings[asked] = surroundings(env_kwargs)
            key = key_of(contender, self._surroundings[asked])
            turn = self._turns[self.path(key)]
        with turn:
            known = self._read(key)
            missing = [seed for seed in seeds if seed not in known]
            if missing:
                self._say(f"  {contender.name} on {key['intersection']}: {len(missing)} episodes to simulate")
            for number, episode in enumerate(play(contender, env_kwargs, missing) if missing else (), start=1):
                known[episode.seed] = episode
                if number % SAVE_EVERY == 0 or number == len(missing):
                    self._write(key, known)
            return [known[seed] for seed in seeds]

    def path(self, key: Key) -> Path:
        """Where the episodes of `key` are, or would be."""
        name = f"{key['intersection']}-{key['contender']['name']}-{_sha256(_canonical(key))[:16]}.json"
        return self._folder / name

    def _read(self, key: Key) -> dict[int, Episode]:
        path = self.path(key)
        try:
            body = json.loads(path.read_bytes())
            seal = body.pop("sha256")
            if seal != _sha256(_canonical(body)) or body["schema"] != SCHEMA or body["key"] != key:
                raise ValueError("it does not match its own seal, or its key")
            found = [Episode.from_json(values) for values in body["episodes"]]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._say(f"WARNING: {path.name} is left out and computed again: {error}")
            return {}
        return {episode.seed: episode for episode in found}

    def _write(self, key: Key, known: Mapping[int, Episode]) -> None:
        episodes = [known[seed].as_json() for seed in sorted(known)]
        # Through JSON, so that what is sealed is what will be read.
        body = json.loads(json.dumps({"schema": SCHEMA, "key": key, "episodes": episodes}))
        disk = Disk()
        with storage_errors("Keeping simulated episodes", safe="they can be simulated again"):
            disk.make_folder(self._folder)
            write_atomic(disk, self.path(key), _canonical({**body, "sha256": _sha256(_canonical(body))}))


def key_of(contender: Contender, around: Key) -> Key:
    """Everything an episode of `contender` depends on but its seed; JSON values without a path."""
    key: Key = json.loads(json.dumps({**around, "contender": contender.identity}))
    return key


def surroundings(env_kwargs: Mapping[str, Any]) -> Key:
    """Everything an episode depends on but its seed and who controls it."""
    env = TrafficSignalEnv(**env_kwargs)
    try:
        site = env.intersection
        return {
            "intersection": site.name,
            "network_sha256": _sha256(site.net_file.read_bytes()),
            "demand_sha256": _sha256(site.route_file.read_bytes()),
            "window_s": [site.begin_s, env.episode_s],
            "decision_s": env.decision_s,
            "yellow_s": env.yellow_s,
            "min_green_s": env.min_green_s,
            "detection_m": env.detection_m,
            "simulator": env.sumo_version,
            "numpy": np.__version__,
            "sources": source_digests(Path(__file__).resolve().parent, SOURCES),
        }
    finally:
        env.close()


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
