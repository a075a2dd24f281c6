"""The input data of a training: found where it may be mounted, named to the user's code, and recognised.

A session that misses one ends before it trains anything. Nothing in a session says which version is mounted, so
a digest of the names and sizes of its files goes into every checkpoint; a session that finds other files is refused.
Never writes into a mount, and never reads what a file holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from kaggle_manager.errors import InputMissing
from kaggle_manager.sections.inputs import LOCAL_FOLDER, VARIABLE, Input

_POLL_S = 0.5
MOST_FILES = 100_000
"""Beyond so many files, which take minutes to list over a network, an input is not recognised by them."""


def find_inputs(
    root: Path,
    inputs: Sequence[Input],
    *,
    wait_s: float = 0.0,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Path]:
    """The folder of each input, by its name.

    Args:
        root: what `KM_INPUT_DIR` names.
        inputs: with their versions.
        wait_s: seconds to wait until all of them are there: a mount may come late.

    Raises:
        InputMissing: one did not appear; names each, and what is mounted.
    """
    deadline = now() + wait_s
    # In the older layout data of two owners may have one place, and nothing says whose is there.
    places = Counter(place for each in inputs for place in each.places)
    shared = {place for place, times in places.items() if times > 1}
    while True:
        found = {each.name: place for each in inputs if (place := _place(root, each, shared)) is not None}
        if len(found) == len(inputs):
            return found
        if now() >= deadline:
            break
        sleep(_POLL_S)
    missing = ", ".join(each.text for each in inputs if each.name not in found)
    there = sorted(str(path.relative_to(root)) for path in root.glob("*/*"))[:20] if root.is_dir() else []
    raise InputMissing(
        f"The input {missing} is not under {root}. There is: {', '.join(there) or 'nothing'}.",
        safe="nothing was trained; the training tree is untouched.",
        next_step="look at the version and the rights of that data on the platform, and at `inputs` in section.toml.",
    )


def inputs_here(inputs: Sequence[Input], *states: Path) -> dict[str, Path]:
    """The folder of each input on this machine: where `KM_INPUTS` says, else in a state folder's.

    Args:
        states: state folders that may have them; the first that has them all counts.

    Raises:
        InputMissing: one is not here; says where to put it.
    """
    try:
        said = json.loads(os.environ.get(VARIABLE) or "{}")
        found = {each.name: Path(said[each.name]) for each in inputs if each.name in said}
    except (ValueError, TypeError):
        found = {}
    if all(each.name in found and found[each.name].is_dir() for each in inputs):
        return found
    for state in states:
        root = state / LOCAL_FOLDER
        with contextlib.suppress(InputMissing):
            return find_inputs(root, [_numbered(root, each) for each in inputs])
    root = states[0] / LOCAL_FOLDER
    missing = next((each for each in inputs if _place(root, _numbered(root, each)) is None), inputs[0])
    raise InputMissing(
        f"The input {missing.text} is not on this machine.",
        safe="nothing was trained; no training tree was touched.",
        next_step=f"put its files, or a link to their folder, at {root / missing.home}",
    )


def _numbered(root: Path, wanted: Input) -> Input:
    """A model with the newest version that is here, where none was asked for."""
    if wanted.kind != "model" or wanted.version is not None:
        return wanted
    numbers = [int(path.name) for path in (root / wanted.home).glob("*") if path.name.isdecimal()]
    return wanted.at(max(numbers, default=None))


def _place(root: Path, wanted: Input, shared: Container[PurePosixPath] = ()) -> Path | None:
    for place in wanted.places:
        folder = root / place
        if place in shared:
            continue
        if folder.is_dir() and any(folder.iterdir()):
            return folder
    return None


def offer(found: Mapping[str, Path]) -> None:
    """Tell the user's code, in this process and those it starts, where its inputs are."""
    os.environ[VARIABLE] = as_variable(found)


def as_variable(found: Mapping[str, Path]) -> str:
    return json.dumps({name: str(folder) for name, folder in found.items()}, sort_keys=True)


def identity_of_inputs(inputs: Sequence[Input], found: Mapping[str, Path]) -> dict[str, Any]:
    """What a checkpoint says of the data it was trained on: version and files of each input."""
    return {
        "inputs": {each.name: each.version for each in inputs},
        "input_files": {name: files_in(folder) for name, folder in found.items()},
    }


def files_in(folder: Path) -> str | None:
    """A digest of the names and sizes of all files in `folder`, equal wherever it lies; None for too many of them."""
    sizes: list[tuple[str, int]] = []
    for place, _, names in os.walk(folder, followlinks=True):
        if len(sizes) + len(names) > MOST_FILES:
            return None
        for file in (Path(place, name) for name in names):
            with contextlib.suppress(OSError):  # a link that leads nowhere is no data
                sizes.append((file.relative_to(folder).as_posix(), file.stat().st_size))
    return hashlib.sha256(json.dumps(sorted(sizes)).encode()).hexdigest()
