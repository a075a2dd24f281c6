"""Which of an account's kernels and datasets nobody needs any more. Pure: names and what is known in, verdicts out.

Only names that this program gives are looked at, and of those only what a run of this journal has left; of others
nothing but wheels, which the next run can send again. Whatever is in doubt stays, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass

TREE_SUFFIX = "-tree"
PREFIX = "km-"
_TREE = re.compile(r"(-tree|-t([2-9]|[1-9]\d+))$")
_WHEELS = re.compile(rf"{PREFIX}wheels-[0-9a-z-]+(?<!{TREE_SUFFIX})")
# Wheels are larger; so small a dataset of them was emptied.
EMPTIED_BYTES = 1000
# A process at work has sent its wheels and not pushed yet: such a dataset is younger than this.
WHEELS_STAY_S = 24 * 3600.0


@dataclass(frozen=True)
class Verdict:
    """Whether something can be deleted, and why, or why not; `run_id` of the run it is of, if any."""

    delete: bool
    why: str
    run_id: str = ""


@dataclass(frozen=True)
class KnownRun:
    """A run of this journal.

    Attributes:
        is_over: it never continues by itself.
        why: how it ended, in words; of one that continues, what it trains.
        needed: why what it has left must stay although it is over; "" for no reason.
    """

    run_id: str
    is_over: bool
    why: str
    needed: str = ""

    @property
    def verdict(self) -> Verdict:
        """About its kernel and the training tree that was sent to it."""
        if not self.is_over:
            return Verdict(False, f"run {self.run_id} is not over: {self.why}", self.run_id)
        if self.needed:
            return Verdict(False, self.needed, self.run_id)
        return Verdict(True, f"run {self.run_id} is over: {self.why}", self.run_id)


def kernel_of(slug: str) -> str:
    """The kernel that a kernel's or a training tree's slug is of."""
    return _TREE.sub("", slug)


def following_tree(slug: str) -> str:
    """The name of a run's next training tree when the dataset `slug` was deleted; none is used twice.

    Of a dataset that was deleted and made again a user reports that every push with it fails.
    """
    number = _TREE.search(slug)
    return f"{kernel_of(slug)}-t{int(number[2] or 1) + 1 if number else 2}"


def verdict_on_run(slug: str, runs: Mapping[str, KnownRun]) -> Verdict | None:
    """About a kernel, or the training tree sent to it; None for what no run of this journal has left.

    Args:
        runs: by the slug of their kernel.
    """
    run = runs.get(kernel_of(slug))
    return run.verdict if run else None


def is_ours(slug: str) -> bool:
    """Whether this program gives such names; another machine's may be one of them."""
    return slug.startswith(PREFIX)


def is_wheels(slug: str) -> bool:
    """Whether a dataset has the name that this program gives to wheels."""
    return _WHEELS.fullmatch(slug) is not None


def verdict_on_wheels(
    slug: str, referenced: Container[str], changed_at: float | None, size: int | None, now: float
) -> Verdict | None:
    """About a dataset of wheels; None for one that was emptied.

    Args:
        referenced: slugs of the wheels that a kernel asks for whose run is not over, or not known here.
        changed_at: when it was changed last, seconds since the epoch; None when nobody says.
        size: bytes; None when nobody says.
    """
    if size is not None and size < EMPTIED_BYTES:
        return None
    if slug in referenced:
        return Verdict(False, "a run that may continue installs from it")
    if changed_at is None or now - changed_at < WHEELS_STAY_S:
        return Verdict(False, "it may be about to be used: it is younger than a day, or its age is not known")
    return Verdict(True, "no run that may continue installs from it")
