"""What the user's code left in a session's output folder: downloaded where that is cheap, and put in a sentence.

Called once the session is restored and closed. Promises: nothing here can refuse or delay what the training needs; what
is downloaded lies in its own folder, so that none of it passes for the trainer's; it is bounded in bytes and in time.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from kaggle_manager.errors import KaggleManagerError, RemoteError, one_line
from kaggle_manager.platforms.platform import ExpectedFile, OutputListing, SessionRef
from kaggle_manager.protocol.file_names import RESULT_FILE, START_FILE, TREE_FOLDER
from kaggle_manager.protocol.session_result import OtherFile, OtherFiles, SessionResult
from kaggle_manager.sessions.lane import Outputs
from kaggle_manager.system.formatting import count, size

OTHERS_FOLDER = "other_files"
# Of one session. More than this is downloaded by the user who wants it.
MOST_BYTES, LONGEST_S = 200_000_000, 60.0
_SHOWN, _LONGEST_NAME = 3, 60


class _Enough(Exception):
    """The bound is reached."""


def download_others(client: Outputs, version: SessionRef, folder: Path, result: SessionResult | None) -> str:
    """Download other files of a session into `folder / OTHERS_FOLDER`, the smallest first.

    Args:
        folder: the session's own.
        result: what it says it left; None when it left none: then what is listed is all that is known.

    Returns:
        what there is, in words; "" when there is nothing.
    """
    left = result.others if result else OtherFiles()
    if result and not left.count:
        return ""
    try:
        listing = client.outputs(version)
    except KaggleManagerError as error:
        return in_words(left, 0, f"what there is cannot be listed: {error.message}") if left.count else ""
    if result is None:
        own = (RESULT_FILE, START_FILE)
        names = [file.name for file in listing.files if not file.name.startswith(f"{TREE_FOLDER}/")]
        names = [name for name in (*names, *listing.not_plain) if name not in own]
        left = OtherFiles(count=len(names), named=tuple(OtherFile(name=name, size=0) for name in names))
    listed = {file.name for file in listing.files}
    wanted = [file for file in left.named if file.name in listed]
    downloaded, why = _download(client, version, folder / OTHERS_FOLDER, wanted, listing)
    return in_words(left, downloaded, why)


def in_words(left: OtherFiles, downloaded: int, why: str = "") -> str:
    """A sentence about other files; "" when there are none."""
    if not left.count:
        return ""
    shown = [_short(file.name) for file in left.named[:_SHOWN]]
    more = f" and {left.count - len(shown):,} more" if left.count > len(shown) else ""
    packed = f"; {left.packed:,} more are packed in one of them" if left.packed else ""
    volume = f", {size(left.size)}" if left.size else ""
    where = "all downloaded" if downloaded == left.count else f"{downloaded:,} downloaded, the rest is on the platform"
    return (
        f"{count(left.count, 'file')} besides the training's own{volume}: {', '.join(shown)}{more}{packed}; {where}"
        f"{f' ({why})' if why else ''}"
    )


def _download(
    client: Outputs, version: SessionRef, folder: Path, files: Sequence[OtherFile], listing: OutputListing
) -> tuple[int, str]:
    """How many were downloaded, and why not all."""
    ends_at, moved, downloaded = time.monotonic() + LONGEST_S, 0, 0
    now_at: dict[str, int] = {}

    def progress(name: str, done: int, total: int | None) -> None:
        now_at[name] = max(done, total or 0)
        if moved + now_at[name] > MOST_BYTES or time.monotonic() > ends_at:
            raise _Enough

    seen: set[str] = set()
    for file in sorted(files, key=lambda file: file.size):
        key = unicodedata.normalize("NFC", file.name).casefold()  # one place on a disk that does not tell them apart
        if key in seen:
            continue
        seen.add(key)
        if moved + file.size > MOST_BYTES:
            return downloaded, f"it is more than {size(MOST_BYTES)}"
        try:
            wanted = [ExpectedFile(file.name, None, None)]
            client.download(version, wanted, folder, listing=listing, on_progress=progress)
        except _Enough:
            return downloaded, f"it takes more than {size(MOST_BYTES)} or {LONGEST_S:.0f} s"
        except RemoteError as error:
            return downloaded, error.message
        except KaggleManagerError:
            continue  # this one cannot be had: it was counted, and is not among those downloaded
        moved, downloaded = moved + now_at.get(file.name, 0), downloaded + 1
    return downloaded, ""


def _short(name: str) -> str:
    shown = one_line(name)
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[:_LONGEST_NAME]}…"
