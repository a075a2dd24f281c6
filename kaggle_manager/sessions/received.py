"""What a download brought here, listed beside it: the list is written last, and holds only while every byte is there.

So nothing but the folder itself says that a session's outputs are here: a folder that was cleaned, or a file that was
damaged since, means that they are downloaded again. Listed are the session's result and its training tree, which the
run needs; nothing else that lies there counts.
"""

from __future__ import annotations

import json
from pathlib import Path

from kaggle_manager.checkpoints import Disk
from kaggle_manager.checkpoints.atomic_io import storage_errors, write_atomic
from kaggle_manager.errors import OutputDamaged
from kaggle_manager.platforms.local_files import is_there
from kaggle_manager.platforms.platform import ExpectedFile
from kaggle_manager.protocol.file_names import RESULT_FILE, TREE_FOLDER
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.download import DownloadedSession, list_of, load_downloaded
from kaggle_manager.system.files import sha256_of


def keep_list(folder: Path) -> None:
    """List what a download has brought into `folder`, whole and verified.

    Raises:
        OutputDamaged: somebody has removed it meanwhile, so that it has to be downloaded again.
        StorageError: the disk refused.
    """
    with storage_errors(f"Listing what is in {folder}", safe="what was downloaded"):
        try:
            if not folder.is_dir():
                raise FileNotFoundError(folder)
            listed = {
                path.relative_to(folder).as_posix(): (path.stat().st_size, sha256_of(path)) for path in _files(folder)
            }
            write_atomic(Disk(), list_of(folder), json.dumps(listed).encode())
        except FileNotFoundError as gone:
            raise OutputDamaged(
                f"What was downloaded into {folder} is not there any more: something else removed it.",
                safe="the local training tree is untouched",
            ) from gone


def received(folder: Path, session: SessionRow) -> DownloadedSession | None:
    """What an earlier download of `session` brought into `folder`; None when it is not there, or not whole any more.

    Raises:
        LineageMismatch, OutputDamaged, UnsafePath: it is there, and of another session, or not what it has to be.
    """
    try:
        listed = json.loads(list_of(folder).read_bytes())
        files = {name: ExpectedFile(name, size, sha256) for name, (size, sha256) in listed.items()}
        found = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
        whole = files.keys() == found.keys() and all(is_there(files[name], path) for name, path in found.items())
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return load_downloaded(folder, session) if whole else None


def forget_list(folder: Path) -> None:
    """What is in `folder` is not to be used as it is."""
    list_of(folder).unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    tree = [path for path in (folder / TREE_FOLDER).rglob("*") if path.is_file()]
    return [path for path in (folder / RESULT_FILE, *tree) if path.is_file()]
