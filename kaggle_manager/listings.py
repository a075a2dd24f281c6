"""The list of a session's outputs, asked for until it can be believed: right after the end it may still grow.

A listing leaves out what is there, but names nothing that is not: so what several looks have shown is put together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kaggle_manager.kaggle_api.client import KaggleClient
from kaggle_manager.kaggle_api.models import KernelVersion, OutputFile, OutputListing

# How often to look, and how far apart.
LOOKS = 5
LOOK_EVERY_S = 3.0
# Without a list of what there should be: so many looks in a row that show nothing new.
QUIET_LOOKS = 2


def listing_with(
    client: KaggleClient,
    version: KernelVersion,
    listing: OutputListing,
    names: Sequence[str],
    sleep: Callable[[float], None],
) -> OutputListing:
    """`listing`, or what more looks add to it until it has all these names; it may lack some all the same."""
    for _ in range(LOOKS - 1):
        if missing(listing, names) == []:
            break
        sleep(LOOK_EVERY_S)
        listing = _together(listing, client.list_outputs(version))
    return listing


def settled(
    client: KaggleClient, version: KernelVersion, listing: OutputListing, sleep: Callable[[float], None]
) -> OutputListing:
    """`listing`, or what more looks add to it until they add nothing; an empty one is looked at to the last."""
    quiet = 0
    for _ in range(LOOKS - 1):
        known = len(listing.files)
        sleep(LOOK_EVERY_S)
        listing = _together(listing, client.list_outputs(version))
        quiet = quiet + 1 if known and len(listing.files) == known else 0
        if quiet == QUIET_LOOKS:
            break
    return listing


def missing(listing: OutputListing, names: Sequence[str]) -> list[str]:
    return sorted(set(names) - {file.name for file in listing.files})


def find(listing: OutputListing, name: str) -> OutputFile | None:
    return next((file for file in listing.files if file.name == name), None)


def _together(older: OutputListing, newer: OutputListing) -> OutputListing:
    """Everything either has; addresses are the newer one's where it has them, for they run out."""
    files = {file.name: file for listing in (older, newer) for file in listing.files}
    return OutputListing(tuple(files.values()), newer.log or older.log)
