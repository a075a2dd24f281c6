"""A training tree sent elsewhere: only what is not there yet, verified there, committed by one file at the end.

Promises: every file that is sent is read back and hashed before the listing names it; the listing comes last, so a
command cut anywhere leaves the earlier export as it was; the same command then continues with what is there.
Never does: replace the export of another run or of a later step; delete before the new listing is in place, or delete
what no earlier listing named: another machine may be sending it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kaggle_manager.checkpoints import Disk, FileEntry, TrainingTree, file_list
from kaggle_manager.checkpoints.atomic_io import storage_errors
from kaggle_manager.checkpoints.tree_lock import hold_file
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import (
    ConfigError,
    LineageMismatch,
    NotFound,
    OutputDamaged,
    VerificationError,
    error_context,
)
from kaggle_manager.system.formatting import size
from kaggle_manager.trees.export.listing import LISTING_NAME, MAX_LISTING_BYTES, ExportManifest, parse_listing
from kaggle_manager.trees.export.store import Store, open_store, read_small, sha256_in

_UNTOUCHED = "the export that was there, and the training tree"


@dataclass(frozen=True)
class ExportReport:
    """What an export came to.

    Attributes:
        sent_files, sent_bytes: what went over the line (or would, with `dry_run`).
        skipped_files, skipped_bytes: what was there already.
        removed_files: what no listing names any more, deleted after the commit.
        left_out: a sentence for each checkpoint of the tree that does not verify and was not sent.
        report_url: where the report lies; "" when none was exported.
    """

    url: str
    run_id: str
    generation: int
    step: int
    files: int
    sent_files: int
    sent_bytes: int
    skipped_files: int
    skipped_bytes: int
    removed_files: int
    left_out: tuple[str, ...]
    report_url: str
    dry_run: bool


_Outgoing = tuple[FileEntry, Callable[[], bytes]]
"""A file, and what reads it."""


def export_run(
    config: RunConfig,
    address: str,
    *,
    report: bool = False,
    recheck: bool = False,
    dry_run: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> ExportReport:
    """Bring the export at `address` up to the training tree of `config`.

    Args:
        address: a folder, `file://`, or the address of a cloud store; it holds one run's export.
        report: send the section's report as well; without it a report sent earlier stays.
        recheck: read back and hash what earlier exports sent too, and send again what is damaged.
        dry_run: only say what would be sent.
        tell: told, in a line, what happens.

    Raises:
        CheckpointNotFound: the tree holds no checkpoint.
        Busy: another export of this tree is under way.
        ConfigError: the address cannot be used, or holds another run's export.
        LineageMismatch: the export there is of a later step.
        OutputDamaged: no checkpoint verifies, what is there is damaged, or what was sent did not read back as it was.
        NotFound: there is no report, or no such bucket.
        RemoteError, AuthError, StorageError: the store refused.
    """
    store = open_store(address)
    with _hold_export(config), storage_errors(f"Exporting {config.tree}", safe=_UNTOUCHED):
        found = file_list.list_files(TrainingTree(config.tree, config.scenario_name), Disk())
        before = _listing_there(store, forgive_damage=recheck)
        _check_lineage(before, found.head.lineage.run_id, found.head.step, store.url, config)
        tree = [_outgoing_item(item) for item in found.items]
        papers = _report_files(config) if report else []
        listing = ExportManifest(
            section=config.section.name,
            scenario=config.scenario_name,
            run_id=found.head.lineage.run_id,
            generation=found.head.lineage.generation,
            step=found.head.step,
            head_sha256=found.head.sha256,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            tree=tuple(file for file, _ in tree),
            report=tuple(file for file, _ in papers) if report or not before else before.report,
        )
        readers = {file.sha256: read for file, read in (*tree, *papers)}
        verified = before.places() if before and not recheck else {}
        missing, removed = _missing(store, listing, verified), 0
        if not dry_run:
            _send_all(store, missing, readers, tell)
            latest = _listing_there(store, forgive_damage=recheck)
            if latest != before:  # another machine has exported meanwhile, and removed what its listing does not name
                _check_lineage(latest, listing.run_id, listing.step, store.url, config)
                _send_all(store, _missing(store, listing, verified), readers, tell)
            _commit(store, listing)
            removed = _remove_superseded(store, [one for one in (before, latest) if one], listing)
            _send_all(store, _missing(store, listing, listing.places()), readers, tell)  # another's removal may go on
    places = listing.places()
    sent = sum(file.size for file in missing.values())
    return ExportReport(
        url=store.url,
        run_id=listing.run_id,
        generation=listing.generation,
        step=listing.step,
        files=len(places),
        sent_files=len(missing),
        sent_bytes=sent,
        skipped_files=len(places) - len(missing),
        skipped_bytes=sum(file.size for file in places.values()) - sent,
        removed_files=removed,
        left_out=found.damaged,
        report_url=f"{store.url}/{listing.report_folder}" if listing.report else "",
        dry_run=dry_run,
    )


def report_folder(config: RunConfig) -> Path:
    """Where the section writes its report."""
    section = config.tree.parents[len(Path(config.scenario.models).parts) - 1]
    return section / "data" / "results" / ("report_quick" if config.quick else "report")


def _hold_export(config: RunConfig) -> AbstractContextManager[None]:
    """One export of a tree at a time: what one cleans away another may be about to name."""
    return hold_file(config.state / f"export-{config.tree_key}.lock", f"Another export of {config.tree} is under way")


def _listing_there(store: Store, *, forgive_damage: bool) -> ExportManifest | None:
    try:
        return parse_listing(read_small(store, LISTING_NAME, MAX_LISTING_BYTES), f"{store.url}/{LISTING_NAME}")
    except NotFound:
        return None
    except VerificationError as error:
        if forgive_damage:
            return None
        recheck = "run the same command with --recheck: it verifies what is there and writes a new listing"
        with error_context(next_step=recheck):
            raise error


def _check_lineage(before: ExportManifest | None, run_id: str, step: int, url: str, config: RunConfig) -> None:
    if before is None:
        return
    if before.run_id != run_id:
        raise ConfigError(
            f"{url} holds the export of run {before.run_id} and this tree is of run {run_id}.",
            safe=_UNTOUCHED,
            next_step="export to another folder",
        )
    if before.step > step:
        bring_back = config.command("restore", "--from", url)
        raise LineageMismatch(
            f"{url} is at step {before.step:,} and the tree here is at {step:,}.",
            safe=_UNTOUCHED,
            next_step=f"export to another folder, or bring the later one back: {bring_back}",
        )


def _outgoing_item(item: file_list.Item) -> _Outgoing:
    disk = Disk()
    if item.sha256 is not None:
        return FileEntry(item.name, item.size, item.sha256), lambda: item.read(disk)
    return _outgoing_bytes(
        item.name, item.read(disk)
    )  # a curve may grow while it is sent: what was hashed is what goes


def _outgoing_bytes(name: str, data: bytes) -> _Outgoing:
    return FileEntry.of(name, data), lambda: data


def _report_files(config: RunConfig) -> list[_Outgoing]:
    folder = report_folder(config)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    found = [_outgoing_bytes(path.relative_to(folder).as_posix(), path.read_bytes()) for path in paths]
    if not found:
        raise NotFound(
            f"There is no report in {folder}.",
            safe=_UNTOUCHED,
            next_step=f"write it: {config.command('report')}; or leave --report out",
        )
    return sorted(found, key=lambda outgoing: outgoing[0].name)


def _missing(store: Store, listing: ExportManifest, verified: dict[str, FileEntry]) -> dict[str, FileEntry]:
    """What has to be sent: everything that is not there with the right hash.

    What the last listing names was read back when it was sent; anything else that lies there was left by a command that
    was cut, and counts only once it is read.
    """
    there = {**store.sizes("blobs"), **store.sizes(listing.report_folder)}
    missing = {}
    for place, file in listing.places().items():
        if there.get(place) == file.size and (place in verified or sha256_in(store, place) == file.sha256):
            continue
        missing[place] = file
    return missing


def _send_all(
    store: Store,
    missing: Mapping[str, FileEntry],
    readers: Mapping[str, Callable[[], bytes]],
    tell: Callable[[str], None],
) -> None:
    for number, (place, file) in enumerate(missing.items(), start=1):
        if file.sha256 not in readers:
            raise NotFound(f"{store.url}/{place} is gone.", next_step="export once more with --report")
        tell(f"sending {number} of {len(missing)}: {file.name} ({size(file.size)})")
        _send(store, place, file, readers[file.sha256]())


def _send(store: Store, place: str, file: FileEntry, data: bytes) -> None:
    store.write(place, data)
    if sha256_in(store, place) != file.sha256:
        store.remove(place)
        raise OutputDamaged(
            f"{file.name} did not arrive at {store.url} as it was sent.",
            safe=_UNTOUCHED,
            next_step="run the same command again; what arrived is not sent again",
        )


def _commit(store: Store, listing: ExportManifest) -> None:
    data = listing.to_bytes()
    store.write(LISTING_NAME, data)
    if read_small(store, LISTING_NAME, MAX_LISTING_BYTES) != data:
        raise OutputDamaged(f"{store.url}/{LISTING_NAME} does not read back as it was written.", safe=_UNTOUCHED)


def _remove_superseded(store: Store, earlier: Sequence[ExportManifest], listing: ExportManifest) -> int:
    """Delete what earlier listings named and neither this one does nor the one that is there by now."""
    latest = _listing_there(store, forgive_damage=False) or listing
    unneeded = {name for one in earlier for name in one.places()} - listing.places().keys() - latest.places().keys()
    there = {**store.sizes("blobs"), **store.sizes("reports")}
    for name in sorted(unneeded & there.keys()):
        store.remove(name)
    return len(unneeded & there.keys())
