"""Bring a session's outputs here: its result first, then the trainer's files, those that are needed verified.

Promises: a download that was cut continues where it was cut; no byte travels that a SHA-256 proves to be here, in the
folder or in the local training tree; what the user's code left is none of this (see `other_files`). Downloads go to a
folder of the session's own; what its result does not name leaves that folder, so nothing older can be taken for new.
Nothing here touches the training tree.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kaggle_manager.checkpoints import Disk, TrainingTree, index
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.console.transfer_progress import TransferMeter
from kaggle_manager.errors import KaggleManagerError, LineageMismatch, OutputDamaged, ProtocolError, Unavailable
from kaggle_manager.platforms.file_names import check_file_name
from kaggle_manager.platforms.local_files import PART_SUFFIX, Sorted, take_what_is_here
from kaggle_manager.platforms.platform import (
    ExpectedFile,
    OutputFile,
    OutputListing,
    SessionRef,
    SessionState,
)
from kaggle_manager.protocol.events import BundleEvent, Event, ResultEvent, parse_event, session_tag
from kaggle_manager.protocol.file_names import RESULT_FILE, TREE_FOLDER
from kaggle_manager.protocol.session_result import LARGEST_RESULT_BYTES, SessionResult, parse_result
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions import output_listing
from kaggle_manager.sessions.lane import Outputs
from kaggle_manager.sessions.stored_log import LOG_FILE, read_tail, write_log
from kaggle_manager.system.files import sha256_of
from kaggle_manager.system.formatting import count, size


@dataclass(frozen=True)
class DownloadedSession:
    """A session's outputs on this machine.

    Attributes:
        folder: where they are.
        result: the session's own; None when it was killed before it wrote one.
        tree: the downloaded training tree; None when the session left none.
        log: the end of the kernel's log, as much as the platform kept and `stored_log` reads.
    """

    folder: Path
    result: SessionResult | None
    tree: Path | None
    log: str


def download_session(
    client: Outputs,
    version: SessionRef,
    folder: Path,
    session: SessionRow,
    reporter: Reporter,
    sleep: Callable[[float], None] = time.sleep,
    *,
    local_tree: Path | None = None,
    ended_by_log: bool = False,
    settle_for_less: bool = False,
) -> DownloadedSession:
    """Download and verify what one session left.

    Args:
        folder: the session's own; what an earlier call brought there is used as far as its hashes are right.
        local_tree: root of the training tree the session continued; files of it that came back unchanged (sealed replay
            segments, above all) are copied instead of downloaded.
        ended_by_log: the platform never said that the session ended, its log did (`SessionStatus.ended_by_log`).
        settle_for_less: the last of several tries: take what there is, whatever it holds. The restore judges each
            checkpoint by itself, and one damaged file costs no other.

    Raises:
        LineageMismatch: the outputs are of another session, or of other code.
        OutputDamaged: a file is missing, truncated or altered, also after trying again.
        NotFound: the platform no longer has this session.
        Unavailable: the platform does not show the outputs of a session that it still calls running.
    """
    folder.mkdir(parents=True, exist_ok=True)
    listing = client.outputs(version)
    for told in (list_of(folder), folder / RESULT_FILE):  # trusted only as it is told now
        told.unlink(missing_ok=True)
    # The log first: it is the most wanted file when anything after it fails.
    lines = [line.text for line in listing.log]
    if trouble := write_log(folder / LOG_FILE, lines):
        reporter.warn(trouble)
    tag = session_tag(session.run_id, session.generation)
    events = [event for line in lines if (event := parse_event(line, tag))]
    _check_code(events, session)
    announced = ended_by_log or any(isinstance(event, ResultEvent) for event in events)
    if announced:  # it wrote one; it may still arrive
        listing = output_listing.listing_with(client, version, listing, [RESULT_FILE], sleep)
    if ended_by_log and not listing.files:
        raise Unavailable(
            f"{version.ref} has printed its result, but the platform calls it running and shows no outputs yet.",
            safe="the session keeps what it saved; the local training tree is untouched",
            next_step="run the same command again later; if it stays so, cancel the session on its page there",
        )
    if output_listing.find(listing, RESULT_FILE) is None:  # then nothing but the listing says what there is
        listing = output_listing.settled(client, version, listing, sleep)
        listing = output_listing.with_unlisted(client, version, listing, [RESULT_FILE])
    listed_result = output_listing.find(listing, RESULT_FILE)
    well = session.why.startswith(SessionState.COMPLETE.name)  # a kernel that ends so has always left its result
    if listed_result is None and (well or announced) and not settle_for_less:
        raise OutputDamaged(
            f"{version.ref} {'ended in good order' if well else 'has printed its result'}, and the platform does not "
            f"list {RESULT_FILE} among its outputs.",
            safe="nothing was restored; the local training tree is untouched",
            next_step="run the same command again: it asks for these outputs again before anything else",
        )
    result = None
    if listed_result is not None:
        accepted: tuple[type[KaggleManagerError], ...] = () if well or announced else (OutputDamaged,)
        accepted = (OutputDamaged, LineageMismatch) if settle_for_less else accepted
        result = _own_result(client, listed_result, folder, session, reporter, or_else=accepted)
        if result is None:
            listing = output_listing.settled(client, version, listing, sleep)
    if result is None:
        reporter.warn("the session left no result; what its checkpoint manifests list is used")
        plan = _plan_by_manifests(client, version, listing, folder, session, events, settle_for_less)
    else:
        plan = _plan_by_result(client, version, listing, result, sleep, settle_for_less)
    listing, expected, optional = plan.listing, plan.expected, plan.optional
    _forget_others(folder, {file.name for file in (*expected, *optional)}.union(plan.manifests))
    reporter.phase("looking for what is here already")
    everything = [*expected, *optional]
    found = take_what_is_here(everything, folder, copies=_copies(everything, local_tree))
    needed = {file.name for file in expected}
    found, twins = _without_twins(found, needed)
    reporter.phase("downloading")
    meter = TransferMeter(reporter, "downloading", len(found.missing), sum(file.size or 0 for file in found.missing))
    wanted = [file for file in found.missing if file.name in needed]
    as_wanted = _whatever_they_hold if result is None or settle_for_less else tuple
    client.download(version, as_wanted(wanted), folder, listing=listing, on_progress=meter)
    copies = {file.name: folder / name for file, name in twins.items()}
    lone = take_what_is_here([*twins], folder, copies=copies).missing  # for the first of these bytes came damaged
    client.download(version, as_wanted(lone), folder, listing=listing, on_progress=meter)
    if settle_for_less and result is not None:
        for file in expected:
            if sha256_of(folder / file.name) != file.sha256:
                reporter.warn(f"{file.name} is damaged, also where it comes from")
    for file in _whatever_they_hold([file for file in found.missing if file.name not in needed]):
        try:
            client.download(version, [file], folder, listing=listing, on_progress=meter)
        except (OutputDamaged, ProtocolError) as error:  # no checkpoint needs it, and nobody has it besides
            if not settle_for_less:
                raise
            reporter.warn(f"left out: {error.message}")
    reporter.line(f"  {_account_of(found, meter.moved)}, in {folder}")
    reporter.phase("verifying and restoring")
    return load_downloaded(folder, session)


class _Plan(NamedTuple):
    """What to download, and from which list; `manifests` are here already."""

    listing: OutputListing
    expected: list[ExpectedFile]
    optional: list[ExpectedFile]
    manifests: Sequence[str] = ()


def _plan_by_manifests(
    client: Outputs,
    version: SessionRef,
    listing: OutputListing,
    folder: Path,
    session: SessionRow,
    events: Sequence[Event],
    settle_for_less: bool,
) -> _Plan:
    """Of a session without a result: what the manifests of its checkpoints list."""
    listing = output_listing.with_unlisted_manifests(client, version, listing, folder, events)
    manifests = output_listing.download_manifests(client, version, listing, folder, session.run_id)
    listing = output_listing.with_listed_in(client, version, listing, manifests, folder)
    if not settle_for_less:
        output_listing.check_all_saved_is_listed(listing, manifests, folder, session, events)
    expected = output_listing.expected_by_manifests(listing, manifests, folder)
    named = [*manifests, *(file.name for file in expected)]
    expected += output_listing.of_cut_saves(listing, named)
    return _Plan(listing, expected, output_listing.curves(listing, named), manifests)


def _plan_by_result(
    client: Outputs,
    version: SessionRef,
    listing: OutputListing,
    result: SessionResult,
    sleep: Callable[[float], None],
    settle_for_less: bool,
) -> _Plan:
    """What the result of a session names."""
    expected, optional = (
        [ExpectedFile(entry.name, entry.size, entry.sha256) for entry in entries]
        for entries in (result.files, result.optional)
    )
    names = [file.name for file in expected]
    optional = [file for file in optional if file.name not in names]
    listing = output_listing.listing_with(client, version, listing, [*names, *(f.name for f in optional)], sleep)
    if settle_for_less:
        absent = output_listing.missing(listing, names)
        expected = [file for file in expected if file.name not in absent]
    else:
        _check_listed(listing, names)
    return _Plan(listing, expected, optional)


def _own_result(
    client: Outputs,
    listed: OutputFile,
    folder: Path,
    session: SessionRow,
    reporter: Reporter,
    *,
    or_else: tuple[type[KaggleManagerError], ...],
) -> SessionResult | None:
    """The session's result; None when what lies under its name is refused by one of these errors.

    A session that was killed wrote none, and its user's code may have left a file of that name.
    """
    client.download_file(listed, folder / RESULT_FILE, size=None, sha256=None)
    try:
        return read_result(folder, session)
    except or_else as error:
        reporter.warn(f"{error.message} It is not used.")
        (folder / RESULT_FILE).unlink()
        return None


def list_of(folder: Path) -> Path:
    """Where `received` lists what is in `folder`, once it is whole: beside it, where no session writes."""
    return folder.with_name(f"{folder.name}.received.json")


def load_downloaded(folder: Path, session: SessionRow) -> DownloadedSession:
    """What an earlier `download_session` put into `folder`.

    Raises:
        LineageMismatch: the outputs are of another session.
        UnsafePath: its result names a file that would climb out of its folder.
    """
    tree = folder / TREE_FOLDER
    log: list[str] = []
    with contextlib.suppress(OSError):
        log, _ = read_tail(folder / LOG_FILE)
    return DownloadedSession(
        folder=folder,
        result=read_result(folder, session),
        tree=tree if tree.is_dir() else None,
        log="\n".join(log),
    )


def _check_code(events: Sequence[Event], session: SessionRow) -> None:
    """Hold the code the session said it runs against the code that was built. A platform may have cut it away."""
    ran = next((event.sha256 for event in events if isinstance(event, BundleEvent)), None)
    if ran is not None and ran != session.bundle_sha256:
        raise LineageMismatch(
            f"Session {session.generation} ran code {ran[:12]}…; {session.bundle_sha256[:12]}… was built for it.",
            safe="nothing was restored; the local training tree is untouched",
        )


def read_result(folder: Path, session: SessionRow) -> SessionResult | None:
    """The result file of `session` in `folder`; None when there is none.

    Raises:
        OutputDamaged, LineageMismatch, UnsafePath: see `load_downloaded`.
    """
    file = folder / RESULT_FILE
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        content = stream.read(LARGEST_RESULT_BYTES + 1)
    result = parse_result(
        content,
        run_id=session.run_id,
        generation=session.generation,
        bundle_sha256=session.bundle_sha256,
    )
    for entry in (*result.files, *result.optional):
        check_file_name(entry.name)
    return result


def _whatever_they_hold(files: Sequence[ExpectedFile]) -> list[ExpectedFile]:
    return [ExpectedFile(file.name, None, None) for file in files]


def _check_listed(listing: OutputListing, names: Sequence[str]) -> None:
    if absent := output_listing.missing(listing, names):
        raise OutputDamaged(
            f"The session's result names files that the platform does not list: {', '.join(absent[:5])}"
            f"{' and more' if len(absent) > 5 else ''}.",
            safe="nothing was restored; the local training tree is untouched",
            next_step="run the same command again: it asks for these outputs again before anything else",
        )


def _copies(expected: Sequence[ExpectedFile], local_tree: Path | None) -> dict[str, Path]:
    """Where the local training tree may have the bytes of an expected file: under the same name, or as another's file.

    A script's file that has not changed is a file of each of its checkpoints.
    """
    if local_tree is None:
        return {}
    tree = TrainingTree(local_tree, "any")
    slots = [*index.latest_slots(tree), index.best_slot(tree)]
    manifests = [(slot, index.read_manifest(slot.manifest_path, Disk())) for slot in slots]
    known = {each.sha256: slot.folder / each.name for slot, found in manifests if found for each in found.files}
    copies = {}
    for file in expected:
        if file.name.startswith(f"{TREE_FOLDER}/"):
            named = local_tree / file.name.removeprefix(f"{TREE_FOLDER}/")
            copies[file.name] = named if named.exists() else known.get(file.sha256 or "", named)
    return copies


def _without_twins(found: Sorted, names: Collection[str]) -> tuple[Sorted, dict[ExpectedFile, str]]:
    """What is missing without those of `names` that have the bytes of another; these, by the name of that other."""
    candidates = [file for file in found.missing if file.name in names and file.sha256 is not None]
    first = {file.sha256: file.name for file in reversed(candidates)}
    twins = {file: first[file.sha256] for file in candidates if first[file.sha256] != file.name}
    missing = tuple(file for file in found.missing if file not in twins)
    return Sorted(missing, (*found.here, *twins), found.copied), twins


def _forget_others(folder: Path, wanted: set[str]) -> None:
    """Delete what an earlier call left here and the session does not name (any more)."""
    keep = wanted | {f"{name}{PART_SUFFIX}" for name in wanted} | {LOG_FILE, RESULT_FILE}
    for path in folder.rglob("*"):
        if (path.is_symlink() or path.is_file()) and path.relative_to(folder).as_posix() not in keep:
            path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _account_of(found: Sorted, moved: int) -> str:
    """What became of the session's files, in words."""
    parts = [f"{count(len(found.missing), 'file')} downloaded ({size(moved)})"]
    for files, how in ((found.copied, "unchanged in the local tree"), (found.here, "downloaded before")):
        if files:
            parts.append(f"{len(files)} {how} ({size(sum(file.size or 0 for file in files))})")
    return ", ".join(parts)
