"""The files of RL Baselines3 Zoo: of the installed `rl_zoo3`, found without importing it, or one of the user."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.environment_ids import installed
from kaggle_manager.sections.hyperparameters import NAMES
from kaggle_manager.sections.new_training import Training
from kaggle_manager.sections.zoo import ALGORITHMS, entry_of, training_of

_INSTALL = "pip install 'kaggle-manager[zoo]'"


def zoo_training(algorithm: str, id: str, file: Path | None = None) -> Training:
    """What the Zoo has tuned for an algorithm and an environment.

    Args:
        algorithm: by the Zoo's name (`ppo_lstm`), or by its own.
        file: one in the Zoo's form, YAML; None for that of the installed `rl_zoo3`.

    Raises:
        ConfigError: the algorithm, the file or an entry of it is missing or is not in the Zoo's form.
    """
    short = next((short for short, name in ALGORITHMS.items() if algorithm in (short, name)), "")
    name = ALGORITHMS.get(short, algorithm)
    if name not in NAMES or (not short and file is None):
        raise _refused(f"The Zoo has no algorithm {algorithm!r}.", f"choose one of: {', '.join(sorted(ALGORITHMS))}")
    place = file or file_of(short)
    entries = read(place)
    try:
        entry_name, entry = entry_of(entries, id)
    except KeyError:
        listed = ", ".join(sorted(map(str, entries)))
        raise _refused(f"{place} has no entry for {id}, and no default.", f"choose one of: {listed}") from None
    source = place.name if file else f"RL Baselines3 Zoo {installed('rl_zoo3')}, {place.name}"
    try:
        return training_of(name, id, entry, f"{source}, {entry_name}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _refused(
            f"{place}: the entry {entry_name} is not in the form of RL Baselines3 Zoo: {type(error).__name__}: {error}",
            "correct the entry",
        ) from error


def read(file: Path) -> Mapping[str, Any]:
    """The entries of a file, by environment.

    Raises:
        ConfigError: it cannot be read, or is none of the Zoo's.
    """
    try:
        import yaml
    except ImportError as error:
        raise _refused(
            "The files of RL Baselines3 Zoo are YAML, which needs the package pyyaml.", "pip install pyyaml"
        ) from error
    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _refused(
            f"{file} cannot be read: {error}", "give a YAML file in the form of the Zoo's ppo.yml"
        ) from error
    if not isinstance(entries, Mapping) or not all(isinstance(entry, Mapping) for entry in entries.values()):
        raise _refused(
            f"{file} is not a hyperparameter file of RL Baselines3 Zoo: those have one table for each environment.",
            "give a file in the form of the Zoo's ppo.yml",
        )
    return entries


def file_of(short: str) -> Path:
    """The file of an algorithm, by the Zoo's name for it, in the installed `rl_zoo3`.

    Raises:
        ConfigError: it is not installed, or has no such file.
    """
    found = importlib.util.find_spec("rl_zoo3")  # of a package at the top: looks, and imports nothing
    if found is None or found.origin is None:
        raise _refused(
            "RL Baselines3 Zoo, which has the tuned hyperparameters, is not installed here.",
            f"{_INSTALL}, or give one of its files: --zoo-file ppo.yml",
        )
    package = Path(found.origin).parent
    places = [folder / "hyperparams" / f"{short}.yml" for folder in (package, package.parent)]  # the latter: a checkout
    for place in places:
        if place.is_file():
            return place
    raise _refused(
        f"The installed RL Baselines3 Zoo has no file {short}.yml in {places[0].parent}.",
        "name a file: --zoo-file FILE",
    )


def _refused(message: str, next_step: str) -> ConfigError:
    return ConfigError(message, safe="nothing was written", next_step=next_step)
