"""Where a training is beside its model: random generators and the loader's place. Copy this file beside `resumable.py`.

Standard library only; numpy and torch are looked at where the script has imported them.

    seed_all(session.seed)
    batches = Batches(len(data), 64, seed=session.seed, step=session.step)
    loader = endless(DataLoader(data, batch_sampler=batches, generator=torch.Generator()))
    ...                                   # load the checkpoint; set_random_state(...) is the last of it
    while session.running(step):
        batch = next(loader)
        ...                               # save random_state() with the model

Random transforms are continued exactly where the loader has no worker processes. A worker starts with generators of
its own: draw from a generator that is made of seed, epoch and item there.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from typing import Any


class Batches:
    """Which items each batch has, as a function of seed and step: for `DataLoader(data, batch_sampler=Batches(...))`.

    Iterating gives the rest of the epoch that `step` is in, shuffled, in batches of `size`. The last one of an epoch
    has the items that are left, as a DataLoader's has, or is left out with `drop_last`. Give the loader
    `generator=torch.Generator()` too: else it draws from torch's generator at each new epoch. Process `rank` of `ranks`
    that train together has its own part of each step's items; all parts are of one size, so that of the last items of
    an epoch those that cannot be shared equally are left out.
    """

    def __init__(
        self,
        items: int,
        size: int,
        *,
        seed: int = 0,
        step: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if not 0 < (size * ranks if drop_last else ranks) <= items or size < 1:
            raise ValueError(f"{items} items make no batch of {size * ranks}")
        self.items, self.size, self.seed, self.step = items, size, seed, step
        self.rank, self.ranks, self.drop_last = rank, ranks, drop_last

    def __len__(self) -> int:
        whole, left = divmod(self.items, self.size * self.ranks)
        return whole + (left >= self.ranks and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, first = divmod(self.step, len(self))
        order = list(range(self.items))
        random.Random(f"{self.seed}/{epoch}").shuffle(order)
        for number in range(first, len(self)):
            self.step += 1
            start = number * self.ranks * self.size
            size = min(self.size, (self.items - start) // self.ranks)
            start += self.rank * size
            yield order[start : start + size]


def endless(loader: Any) -> Iterator[Any]:
    """The batches of a loader, epoch after epoch."""
    while True:
        yield from loader


def seed_all(seed: int) -> None:
    """Seed the generators of Python, and of numpy and torch where they are imported."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The generators of Python, and of numpy and torch where they are imported, as numbers that json or torch can save.

    A generator of your own (`numpy.random.default_rng()`, `torch.Generator()`) is not among them: save its state too.
    """
    state: dict[str, Any] = {"python": random.getstate()}
    if "numpy" in sys.modules:
        name, keys, *rest = sys.modules["numpy"].random.get_state()
        state["numpy"] = [name, keys.tolist(), *rest]
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        state["torch"] = torch.get_rng_state().tolist()
        if torch.cuda.is_initialized():
            state["cuda"] = [each.tolist() for each in torch.cuda.get_rng_state_all()]
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Set the generators as `random_state` found them. The last thing before the training continues."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    if "numpy" in state:
        import numpy

        numpy.random.set_state(tuple(state["numpy"]))
    if "torch" in state:
        import torch

        torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
        for device, numbers in enumerate(state.get("cuda", [])):
            torch.cuda.set_rng_state(torch.tensor(numbers, dtype=torch.uint8), device)
