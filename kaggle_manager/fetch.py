"""Bring a session's outputs here: its last word first, then exactly the files it names, each verified.

Downloads go to a folder of the session's own, so nothing older can be taken for new. Nothing here touches the
training tree.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.errors import LineageMismatch, OutputDamaged
from kaggle_manager.journal import SessionRow
from kaggle_manager.kaggle_api.client import KaggleClient
from kaggle_manager.kaggle_api.download import download_file
from kaggle_manager.kaggle_api.log_lines import parse_event, parse_log
from kaggle_manager.kaggle_api.models import KernelVersion, OutputFile, OutputListing
from kaggle_manager.kaggle_api.outputs import ExpectedFile, download_outputs
from kaggle_manager.progress import Reporter, size
from kaggle_manager.session_report import LARGEST_RESULT_BYTES, RESULT_FILE, TREE_FOLDER, SessionResult, parse_result

LOG_FILE = "kernel.log"
# The listing of a session that just ended may still grow; how often to look again, and how far apart.
LOOKS = 5
LOOK_EVERY_S = 3.0


@dataclass(frozen=True)
class Fetched:
    """A session's outputs on this machine.

    Attributes:
        folder: where they are.
        result: the trainer's last word; None when the session was killed before it.
        tree: the downloaded training tree; None when the session left none.
        log: the kernel's log, as much as the platform kept.
    """

    folder: Path
    result: SessionResult | None
    tree: Path | None
    log: str


def fetch_session(
    client: KaggleClient,
    version: KernelVersion,
    folder: Path,
    session: SessionRow,
    reporter: Reporter,
    sleep: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Download and verify what one session left.

    Raises:
        LineageMismatch: the outputs are of another session, or of other code.
        OutputDamaged: a file is missing, truncated or altered, also after trying again.
        NotFound: the platform no longer has this session.
    """
    if folder.exists():
        shutil.rmtree(folder)  # a download that was cut off; the platform still has all of it
    folder.mkdir(parents=True)
    listing = client.list_outputs(version)
    # The log first: it is the most wanted file when anything after it fails.
    lines = [line.text for line in parse_log(listing.log)]
    (folder / LOG_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
    _check_code(lines, session)
    last_word = _find(listing, RESULT_FILE)
    if last_word is None:
        reporter.warn("the session left no last word; what its checkpoint manifests vouch for is used")
        expected = [ExpectedFile(f.name, None, None) for f in listing.files if f.name.startswith(f"{TREE_FOLDER}/")]
    else:
        download_file(client, last_word, folder / RESULT_FILE, size=None, sha256=None)
        result = _result(folder, session)
        expected = [ExpectedFile(entry.name, entry.size, entry.sha256) for entry in result.files] if result else []
        _wait_until_listed(client, version, listing, [file.name for file in expected], sleep)
    download_outputs(client, version, expected, folder)
    fetched = load_fetched(folder, session)
    total = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    reporter.line(f"  {len(expected)} files of the session, {size(total)} with the log, in {folder}")
    return fetched


def load_fetched(folder: Path, session: SessionRow) -> Fetched:
    """What an earlier `fetch_session` put into `folder`.

    Raises:
        LineageMismatch: the outputs are of another session.
    """
    tree, log = folder / TREE_FOLDER, folder / LOG_FILE
    return Fetched(
        folder=folder,
        result=_result(folder, session),
        tree=tree if tree.is_dir() else None,
        log=log.read_text(encoding="utf-8") if log.is_file() else "",
    )


def _check_code(lines: Sequence[str], session: SessionRow) -> None:
    """Hold the code the session said it runs against the code that was built. Kaggle may have cut that line away."""
    events = (parse_event(line) for line in lines)
    ran = next((event.data["sha256"] for event in events if event and event.kind == "KM_BUNDLE"), None)
    if ran not in (None, session.bundle_sha256):
        raise LineageMismatch(
            f"Generation {session.generation} ran code {ran[:12]}…; {session.bundle_sha256[:12]}… was built for it.",
            safe="nothing was restored; the local training tree is untouched",
        )


def _result(folder: Path, session: SessionRow) -> SessionResult | None:
    file = folder / RESULT_FILE
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        content = stream.read(LARGEST_RESULT_BYTES + 1)
    return parse_result(
        content,
        run_id=session.run_id,
        generation=session.generation,
        bundle_sha256=session.bundle_sha256,
    )


def _wait_until_listed(
    client: KaggleClient,
    version: KernelVersion,
    listing: OutputListing,
    names: Sequence[str],
    sleep: Callable[[float], None],
) -> None:
    for look in range(LOOKS):
        missing = sorted(set(names) - {file.name for file in listing.files})
        if not missing:
            return
        if look < LOOKS - 1:
            sleep(LOOK_EVERY_S)
            listing = client.list_outputs(version)
    raise OutputDamaged(
        f"The session vouches for files that the platform does not list: {', '.join(missing[:5])}"
        f"{' and more' if len(missing) > 5 else ''}.",
        safe="nothing was restored; the local training tree is untouched",
        next_step="run the same command again: it asks for these outputs again before anything else",
    )


def _find(listing: OutputListing, name: str) -> OutputFile | None:
    return next((file for file in listing.files if file.name == name), None)
