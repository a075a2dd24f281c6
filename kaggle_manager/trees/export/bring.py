"""An export brought back: downloaded with every hash verified, then restored like any other copy.

Promises: no byte reaches the training tree before the whole download verified; a download that was cut continues; names
in a listing from outside cannot leave the download folder.
Never does: restore by itself what `recover.put_back` would refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kaggle_manager.checkpoints import Disk, FileEntry, RestoreReport
from kaggle_manager.checkpoints.atomic_io import ensure_free_space, remove_tree, storage_errors
from kaggle_manager.checkpoints.layout import inside
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import CheckpointIncompatible, ConfigError, NotFound, OutputDamaged, VerificationError
from kaggle_manager.system.files import sha256_bytes, sha256_of
from kaggle_manager.system.formatting import size
from kaggle_manager.trees.export.listing import LISTING_NAME, MAX_LISTING_BYTES, blob, parse_listing
from kaggle_manager.trees.export.store import Store, open_store, read_small

PART_SUFFIX = ".part"


def is_export(source: str) -> bool:
    """Whether `source` names an export rather than a copy of a tree."""
    return "://" in source or (Path(source) / LISTING_NAME).is_file()


def restore_export(
    config: RunConfig, address: str, restore: Callable[[Path], RestoreReport], tell: Callable[[str], None]
) -> RestoreReport:
    """Download the export at `address` and hand it to `restore`, which verifies and compares it like any copy."""
    folder = bring_back(config, address, tell)
    try:
        report = restore(folder)
    except (ConfigError, VerificationError, CheckpointIncompatible, NotFound):  # the next try would end in the same way
        remove_tree(Disk(), folder)
        raise
    with storage_errors(f"Deleting the download in {folder}", safe="the restored tree"):
        remove_tree(Disk(), folder)
    return report


def bring_back(config: RunConfig, address: str, tell: Callable[[str], None]) -> Path:
    """Download the training tree of an export; return its folder, every file verified.

    Raises:
        NotFound: there is no export at `address`.
        CheckpointIncompatible: it is of another section or scenario.
        OutputDamaged: the listing or a file is damaged; it is named.
        UnsafePath: the listing names a file this project would not write.
        RemoteError, AuthError, StorageError, ConfigError: see `store.open_store`.
    """
    store = open_store(address)
    safe = f"the training tree {config.tree} is untouched"
    try:
        data = read_small(store, LISTING_NAME, MAX_LISTING_BYTES)
    except NotFound as error:
        raise NotFound(
            f"There is no export at {store.url}.", safe=safe, next_step="name the address it was exported to"
        ) from error
    listing = parse_listing(data, f"{store.url}/{LISTING_NAME}")
    if (listing.section, listing.scenario) != (config.section.name, config.scenario_name):
        raise CheckpointIncompatible(
            f"{store.url} holds {listing.scenario} of {listing.section}; {config.scenario_name} of "
            f"{config.section.name} was asked for.",
            safe=safe,
            next_step=replace(config.which, section=listing.section, scenario=listing.scenario).command(
                "restore", "--from", address
            ),
        )
    folder = config.state / "from_export" / f"{config.tree_key}-{sha256_bytes(data)[:16]}"
    with storage_errors(f"Downloading into {folder}", safe=safe):
        folder.mkdir(parents=True, exist_ok=True)
        ensure_free_space(folder, 2 * sum(file.size for file in listing.tree), safe=safe)
        for number, file in enumerate(listing.tree, start=1):
            path = inside(folder, file.name)
            if path.is_file() and path.stat().st_size == file.size and sha256_of(path) == file.sha256:
                continue
            tell(f"bringing {number} of {len(listing.tree)}: {file.name} ({size(file.size)})")
            _download(store, file, path, safe, config.command("export", address, "--recheck"))
    return folder


def _download(store: Store, file: FileEntry, path: Path, safe: str, again: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART_SUFFIX)
    digest, count = hashlib.sha256(), 0
    try:
        with part.open("wb") as out:
            for block in store.blocks(blob(file)):
                digest.update(block)
                count += len(block)
                if count > file.size:
                    break
                out.write(block)
    except NotFound as error:
        raise OutputDamaged(f"{file.name} is missing at {store.url} ({blob(file)}).", safe=safe) from error
    if count != file.size or digest.hexdigest() != file.sha256:
        part.unlink()
        raise OutputDamaged(
            f"{file.name} at {store.url} does not have the bytes the export lists ({blob(file)}).",
            safe=safe,
            next_step=f"try once more; if it stays so, where the tree still is: {again}",
        )
    part.replace(path)
