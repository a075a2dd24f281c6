"""What the second study keeps in the repository: enough to recompute every table, and to play any episode again.

```
results/
  episodes/<site>/<condition>/<controller>.json     every episode of a baseline, or of one training (`main_101`)
  trainings/<site>/<agent>_<seed>.json              what one training was: identity, code, curves, sessions, costs
  policies/<site>/<agent>_<seed>.zip                the judged model's networks, without optimizer and replay
  sessions/<site>.json                              a declared training again, through the manager over sessions
  shares/<site>.json                                where the time of a training went, as it was measured once
  ablation/<way>_<seed>.json                        what came of a training of the checkpoint system's ablation
  report/                                           what was made of it: see `report/writing.py`
```

Promises: every file carries its own seal, and one that was changed is an `OutputDamaged` that names it; no path and no
time of writing is in any of them, so they are the same wherever they are made; numbers of episodes are kept to a
thousandth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints.atomic_io import Disk, storage_errors, write_atomic
from kaggle_manager.checkpoints.sealed_json import seal, unseal
from kaggle_manager.errors import CheckpointIncompatible, OutputDamaged
from validation_ch7.section_7_6_rl_performance.second_study.episodes import Episode

FOLDER = Path(__file__).resolve().parents[1] / "results"
SCHEMA = 1
MOST_BYTES = 1 << 24
DIGITS = 3
"""Decimals that are kept of an episode's numbers: milliseconds."""

_COLUMNS = [field.name for field in fields(Episode)]
_SAFE = "the repository has it as it was committed."


@dataclass(frozen=True, order=True)
class Place:
    """Whose episodes: a controller at a site under a condition.

    Attributes:
        controller: the name of a baseline, or of an agent.
        training: seed of the training; None for a baseline.
    """

    site: str
    condition: str
    controller: str
    training: int | None = None

    @property
    def name(self) -> str:
        """`max_pressure`, or `main_101`."""
        return self.controller if self.training is None else f"{self.controller}_{self.training}"

    @property
    def path(self) -> Path:
        """Its file, below `episodes/`."""
        return Path(self.site, self.condition.replace(" ", "_"), f"{self.name}.json")


@dataclass(frozen=True)
class Played:
    """Kept episodes of one place.

    Attributes:
        key: everything they depend on but their seeds: environment, sources, simulator, contender.
        episodes: in the order of their seeds.
    """

    place: Place
    key: Mapping[str, Any]
    episodes: tuple[Episode, ...]


class Kept:
    """A folder of kept data.

    Args:
        folder: as described above; made when something is put into it.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder

    def episodes(self, place: Place) -> Played | None:
        """What is kept of a place; None for nothing.

        Raises:
            OutputDamaged: it was changed after it was written.
        """
        body = self._read(Path("episodes") / place.path)
        return None if body is None else self._played(place.path, body)

    def every_episode(self) -> Iterator[Played]:
        """Whatever is kept, in the order of the names."""
        root = self.folder / "episodes"
        for file in sorted(root.rglob("*.json")):
            body = self._read(file.relative_to(self.folder))
            assert body is not None
            yield self._played(file.relative_to(root), body)

    def keep_episodes(self, played: Played) -> Played:
        """Keep them instead of what is kept of that place; return them as they were kept."""
        place = played.place
        body = {
            "place": {"site": place.site, "condition": place.condition, "controller": place.controller,
                      "training": place.training},
            "key": dict(played.key),
            "columns": _COLUMNS,
            "rows": [[_rounded(getattr(episode, name)) for name in _COLUMNS] for episode in played.episodes],
        }  # fmt: skip
        self._write(Path("episodes") / place.path, seal(body, schema=SCHEMA))
        found = self.episodes(place)
        assert found is not None
        return found

    def training(self, site: str, agent: str, seed: int) -> dict[str, Any] | None:
        """What is kept of a training; None for nothing.

        Raises:
            OutputDamaged: it was changed after it was written.
        """
        return self._read(Path("trainings", site, f"{agent}_{seed}.json"))

    def policy(self, site: str, agent: str, seed: int) -> bytes:
        """The judged model of a training that is kept, for `agents.agent`.

        Raises:
            OutputDamaged: it is missing, or another one than the training says.
        """
        training = self.training(site, agent, seed)
        name = Path("policies", site, f"{agent}_{seed}.zip")
        try:
            model = (self.folder / name).read_bytes()
        except OSError as error:
            raise OutputDamaged(f"{name} cannot be read: {error}", safe=_SAFE) from error
        if training is None or training["policy_sha256"] != hashlib.sha256(model).hexdigest():
            raise OutputDamaged(f"{name} is not the model that its training names.", safe=_SAFE)
        return model

    def keep_training(self, site: str, agent: str, seed: int, training: Mapping[str, Any], policy: bytes) -> None:
        """Keep a training and its judged model; the training last, so that one that is kept is whole."""
        name = f"{agent}_{seed}"
        body = {**training, "policy_sha256": hashlib.sha256(policy).hexdigest()}
        self._write(Path("policies", site, f"{name}.zip"), policy)
        self._write(Path("trainings", site, f"{name}.json"), seal(body, schema=SCHEMA))

    def ablation(self, way: str, seed: int) -> dict[str, Any] | None:
        """What is kept of a training of the ablation; None for nothing.

        Raises:
            OutputDamaged: it was changed after it was written.
        """
        return self._read(Path("ablation", f"{way}_{seed}.json"))

    def keep_ablation(self, way: str, seed: int, body: Mapping[str, Any]) -> None:
        """Keep what came of one."""
        self._write(Path("ablation", f"{way}_{seed}.json"), seal(body, schema=SCHEMA))

    def sessions(self, site: str) -> dict[str, Any] | None:
        """What came of a declared training of a site over sessions that were killed; None where there was none.

        Raises:
            OutputDamaged: it was changed after it was written.
        """
        return self._read(Path("sessions", f"{site}.json"))

    def keep_sessions(self, site: str, body: Mapping[str, Any]) -> None:
        """Keep it."""
        self._write(Path("sessions", f"{site}.json"), seal(body, schema=SCHEMA))

    def shares(self, site: str) -> dict[str, Any] | None:
        """Where the time of a training at a site went; None where that was not measured.

        Raises:
            OutputDamaged: it was changed after it was written.
        """
        return self._read(Path("shares", f"{site}.json"))

    def keep_shares(self, site: str, body: Mapping[str, Any]) -> None:
        """Keep it."""
        self._write(Path("shares", f"{site}.json"), seal(body, schema=SCHEMA))

    def digests(self) -> dict[str, str]:
        """SHA-256 of every kept file, by its name below the folder."""
        kinds = ("episodes", "trainings", "policies", "sessions", "shares", "ablation")
        files = (file for kind in kinds for file in (self.folder / kind).rglob("*"))
        return {file.relative_to(self.folder).as_posix(): _sha256(file) for file in sorted(files) if file.is_file()}

    def _read(self, name: Path) -> dict[str, Any] | None:
        try:
            return unseal((self.folder / name).read_bytes(), schema=SCHEMA, most=MOST_BYTES, what="The kept file")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, CheckpointIncompatible) as error:
            raise OutputDamaged(f"{name} cannot be used: {error}", safe=_SAFE) from error

    def _played(self, path: Path, body: Mapping[str, Any]) -> Played:
        try:
            place = Place(**body["place"])
            if body["columns"] != _COLUMNS or place.path != path:
                raise ValueError("it holds something else than its name says")
            rows = [dict(zip(_COLUMNS, row, strict=True)) for row in body["rows"]]
            episodes = tuple(Episode(**{**row, "delay_by_part_s": tuple(row["delay_by_part_s"])}) for row in rows)
        except (KeyError, TypeError, ValueError) as error:
            raise OutputDamaged(f"{path} cannot be used: {error}", safe=_SAFE) from error
        return Played(place, body["key"], episodes)

    def _write(self, name: Path, data: bytes) -> None:
        disk = Disk()
        with storage_errors("Keeping results of the study", safe="what was kept before is as it was"):
            disk.make_folder((self.folder / name).parent)
            write_atomic(disk, self.folder / name, data)


def select(played: Sequence[Episode], seeds: Sequence[int]) -> tuple[Episode, ...]:
    """The episodes of these seeds, in their order; those that are not there are left out."""
    by_seed = {episode.seed: episode for episode in played}
    return tuple(by_seed[seed] for seed in seeds if seed in by_seed)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    return [_rounded(each) for each in value] if isinstance(value, tuple) else value


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
