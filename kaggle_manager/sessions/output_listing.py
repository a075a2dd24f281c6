"""The list of a session's outputs, asked for until it can be trusted: right after the end it may still grow.

A listing leaves out what is there, but names nothing that is not: so what several looks have shown is put together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from kaggle_manager.checkpoints import Disk, TrainingTree, read_metadata
from kaggle_manager.checkpoints.layout import MANIFEST_SUFFIX, OWN_FILES_SUFFIX, PENDING_SUFFIX, STATISTICS_ALONE
from kaggle_manager.checkpoints.manifest import Manifest, parse_manifest
from kaggle_manager.checkpoints.store import KEPT
from kaggle_manager.errors import CheckpointCorrupt, CheckpointIncompatible, OutputDamaged, UnsafePath
from kaggle_manager.platforms.platform import ExpectedFile, OutputFile, OutputListing, SessionRef
from kaggle_manager.protocol.events import Event, ProgressEvent
from kaggle_manager.protocol.file_names import START_FILE, TREE_FOLDER
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.lane import Outputs
from kaggle_manager.sessions.metrics import progress_of

# How often to look, and how far apart.
LOOKS = 5
LOOK_EVERY_S = 3.0
# Where a trainer writes in its tree. What the user's code has put elsewhere, or under other names, is not its own.
_MANIFEST = re.compile(rf"{TREE_FOLDER}/(?:checkpoints/|best_model/|)[\w.+=@-]+{re.escape(MANIFEST_SUFFIX)}")
_SLOT = rf"{TREE_FOLDER}/(?:checkpoints/|best_model/|)"
_OF_A_SAVE = re.compile(
    rf"{TREE_FOLDER}/checkpoints/replay/[\w.+=@-]+"
    rf"|{_SLOT}[\w.+=@-]+{re.escape(PENDING_SUFFIX)}"
    rf"|{_SLOT}[\w.+=@-]+{re.escape(OWN_FILES_SUFFIX)}/[\w.+=@/-]+{re.escape(PENDING_SUFFIX)}"
    rf"|{_SLOT}{re.escape(STATISTICS_ALONE)}"
)
_METADATA = f"{TREE_FOLDER}/training_metadata.json"
_CURVES = re.compile(
    rf"{START_FILE}|{TREE_FOLDER}/(?:training_metadata\.json"
    r"|history/(?:monitor\.csv|evaluations\.npz|metrics\.jsonl|tensorboard/events\.[\w.+=@-]+))"
)
_PENDING_MANIFEST = f"{MANIFEST_SUFFIX}{PENDING_SUFFIX}"
# Without a list of what there should be: so many looks in a row that show nothing new.
QUIET_LOOKS = 2


def listing_with(
    client: Outputs,
    version: SessionRef,
    listing: OutputListing,
    names: Sequence[str],
    sleep: Callable[[float], None],
) -> OutputListing:
    """`listing`, or what more looks add to it until it has all these names; it may lack some all the same."""
    for _ in range(LOOKS - 1):
        if missing(listing, names) == []:
            break
        sleep(LOOK_EVERY_S)
        listing = _together(listing, client.outputs(version))
    return with_unlisted(client, version, listing, names)


def with_unlisted(client: Outputs, version: SessionRef, listing: OutputListing, names: Sequence[str]) -> OutputListing:
    """`listing`, and of these names those that it lacks and that are there: a list ends after 500 files."""
    found = [client.output_named(version, name) for name in missing(listing, names)]
    return replace(listing, files=(*listing.files, *(file for file in found if file is not None)))


def with_unlisted_manifests(
    client: Outputs, version: SessionRef, listing: OutputListing, folder: Path, events: Sequence[Event]
) -> OutputListing:
    """`listing`, and the manifests of a session that left no result, where the user's files fill the list.

    Which steps there are say training_metadata.json, written at each save, and what the session told in its log. Either
    only says what to ask for.
    """
    listing = with_unlisted(client, version, listing, [_METADATA])
    if (listed := find(listing, _METADATA)) is None:
        return listing
    client.download_file(listed, folder / _METADATA, size=None, sha256=None)
    try:
        metadata = read_metadata(folder / _METADATA)
        if metadata is None:
            return listing
        tree, newest = TrainingTree(folder, str(metadata.scenario)), int(metadata.timesteps_done)
    except (CheckpointCorrupt, CheckpointIncompatible, UnsafePath, TypeError, ValueError):
        return listing
    told = {event.checkpoint for event in events if isinstance(event, ProgressEvent) and event.checkpoint}
    steps = sorted({newest, *told}, reverse=True)[:KEPT]
    names = [f"{TREE_FOLDER}/checkpoints/{tree.manifest_name('latest', step)}" for step in steps]
    names += [f"{TREE_FOLDER}/best_model/{tree.manifest_name('best')}", f"{TREE_FOLDER}/{tree.manifest_name('final')}"]
    return with_unlisted(client, version, listing, names)


def settled(
    client: Outputs, version: SessionRef, listing: OutputListing, sleep: Callable[[float], None]
) -> OutputListing:
    """`listing`, or what more looks add to it until they add nothing; an empty one is looked at to the last."""
    quiet = 0
    for _ in range(LOOKS - 1):
        known = len(listing.files)
        sleep(LOOK_EVERY_S)
        listing = _together(listing, client.outputs(version))
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
    not_plain = dict.fromkeys((*older.not_plain, *newer.not_plain))
    return OutputListing(tuple(files.values()), newer.log or older.log, tuple(not_plain))


def download_manifests(
    client: Outputs, version: SessionRef, listing: OutputListing, folder: Path, run_id: str
) -> list[str]:
    """Bring the manifests of the session's training tree into `folder`; their names.

    A checkpoint of another run, which only the user's code can have put there, is left out.
    """
    names = [file.name for file in listing.files if _MANIFEST.fullmatch(file.name)]
    client.download(version, [ExpectedFile(name, None, None) for name in names], folder, listing=listing)
    latest = [name for name in names if PurePosixPath(name).parent.name == "checkpoints"]
    foreign = {name for name, manifest in _readable(latest, folder) if manifest.lineage.run_id != run_id}
    for name in foreign:
        (folder / name).unlink()
    return [name for name in names if name not in foreign]


def with_listed_in(
    client: Outputs, version: SessionRef, listing: OutputListing, manifests: Sequence[str], folder: Path
) -> OutputListing:
    """`listing`, and what these manifests list, where it is there."""
    names = {file.name for name, manifest in _readable(manifests, folder) for file in _listed_in(manifest, name)}
    return with_unlisted(client, version, listing, sorted(names))


def expected_by_manifests(listing: OutputListing, manifests: Sequence[str], folder: Path) -> list[ExpectedFile]:
    """What the manifests list, as far as it is there.

    These hashes say what need not travel. They are not demanded of what does: of two checkpoints one may be damaged,
    and the restore judges each by itself.
    """
    expected: dict[str, ExpectedFile] = {}
    for name, manifest in _readable(manifests, folder):
        for file in _listed_in(manifest, name):
            # A segment that both checkpoints share: the newer one commits more of it.
            if file.name not in expected or (expected[file.name].size or 0) < (file.size or 0):
                expected[file.name] = file
    listed = {file.name for file in listing.files}
    return [file for file in expected.values() if file.name in listed]


def of_cut_saves(listing: OutputListing, named: Collection[str]) -> list[ExpectedFile]:
    """What a save left that was cut before its manifest had its name: all of it, under either of its names."""
    cut = tuple(
        file.name.removesuffix(_PENDING_MANIFEST)
        for file in listing.files
        if file.name.endswith(_PENDING_MANIFEST) and _OF_A_SAVE.fullmatch(file.name)
    )
    return _besides(listing, named, lambda name: bool(_OF_A_SAVE.fullmatch(name)) or name.startswith(cut))


def curves(listing: OutputListing, named: Collection[str]) -> list[ExpectedFile]:
    """The learning curves, the summary of the tree and what the session said first, which no checkpoint needs."""
    return _besides(listing, named, lambda name: bool(_CURVES.fullmatch(name)))


def _besides(listing: OutputListing, named: Collection[str], is_wanted: Callable[[str], bool]) -> list[ExpectedFile]:
    taken = {name.casefold() for name in named}
    names = [file.name for file in listing.files if is_wanted(file.name) and file.name.casefold() not in taken]
    return [ExpectedFile(name, None, None) for name in {name.casefold(): name for name in names}.values()]


def check_all_saved_is_listed(
    listing: OutputListing, manifests: Sequence[str], folder: Path, session: SessionRow, events: Sequence[Event]
) -> None:
    """Hold the listing against what the session said it had saved.

    Args:
        events: what it told in its log.

    Raises:
        OutputDamaged: it said so of a later step than of any checkpoint that is listed whole.
    """
    told = [event.checkpoint or 0 for event in events if isinstance(event, ProgressEvent)]
    said = max([progress_of(session).last_checkpoint or 0, *told])
    listed = {file.name for file in listing.files}
    whole = [
        manifest.step
        for name, manifest in _readable(manifests, folder)
        if listed.issuperset(file.name for file in _listed_in(manifest, name))
    ]
    newest = max(whole, default=0)
    if said > max(newest, session.min_step):
        had = f"step {newest:,} at most" if whole else "no checkpoint"
        raise OutputDamaged(
            f"Session {session.generation} had saved step {said:,}, and the platform lists {had} of it.",
            safe="nothing was restored; the local training tree is untouched",
            next_step="run the same command again: it asks for these outputs again before anything else",
        )


def _readable(names: Sequence[str], folder: Path) -> Iterator[tuple[str, Manifest]]:
    for name in names:
        try:
            yield name, parse_manifest(Disk().read(folder / name))
        except CheckpointCorrupt:
            continue  # the restore will say so


def _listed_in(manifest: Manifest, name: str) -> list[ExpectedFile]:
    beside = PurePosixPath(name).parent
    files = [ExpectedFile(str(beside / file.name), file.size, file.sha256) for file in manifest.files]
    segments = manifest.replay.segments if manifest.replay else ()
    return files + [ExpectedFile(str(beside / "replay" / ref.name), ref.length, ref.sha256) for ref in segments]
