"""What sessions left behind: their output files and their log, shown only once the session ended.

A listing has at most the first 500 files, in pages; by its name every file is found. Only files are listed: links
inside an output are not followed, for they could lead anywhere. A name that is no text has no place in an answer, and
is left out.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.local_kaggle.serialization import Body, not_found, page, timestamp, whole_number
from kaggle_manager.local_kaggle.sessions import session_of


class Outputs:
    """The calls about outputs of one server."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def list_kernel_session_output(self, body: Body) -> Body:
        row = self._session(body)
        names, token = page(self._listed(row), body)
        return {
            "files": [{"fileName": name, "url": self._link(row, name)} for name in names],
            "log": kept_log(self._state, row) if row["ended_at"] is not None else "",
            "nextPageToken": token,
        }

    def list_kernel_files(self, body: Body) -> Body:
        row = self._session(body)
        names, token = page(self._listed(row), body)
        files: list[Body] = []
        for name in names:
            facts = (self._folder(row) / name).stat()
            files.append({"name": name, "size": facts.st_size, "creationDate": timestamp(facts.st_mtime)})
        return {"files": files, "nextPageToken": token}

    def download_kernel_output(self, body: Body) -> str:
        """The link to redirect to."""
        number, name = whole_number(body, "versionNumber"), str(body.get("filePath") or "")
        row = self._session(body | {"versionLabel": f"v{number}"} if number else body)
        if name not in self._names(row):
            raise not_found(f"Output {name}")
        return self._link(row, name)

    def _session(self, body: Body) -> sqlite3.Row:
        with self._state.transaction() as database:
            return session_of(self._state, database, body)

    def _folder(self, row: sqlite3.Row) -> Path:
        return self._state.session_folder(row["id"]) / "working"

    def _link(self, row: sqlite3.Row, name: str) -> str:
        return self._state.link(f"/files/session/{row['id']}/{name}")

    def _names(self, row: sqlite3.Row) -> list[str]:
        folder = self._folder(row)
        if row["ended_at"] is None or not folder.exists():
            return []
        paths = (Path(parent) / name for parent, _, names in os.walk(folder) for name in names)
        found = sorted(path.relative_to(folder).as_posix() for path in paths if _is_plain_file(path))
        return [name for name in found if _is_text(name)]

    def _listed(self, row: sqlite3.Row) -> list[str]:
        return self._names(row)[: self._state.limits.output_files]


def _is_plain_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:  # such as a path that is too long
        return False


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def kept_log(state: ServerState, row: sqlite3.Row) -> str:
    """The log of an ended session as the JSON array Kaggle keeps; "" when it never ran."""
    path = state.session_folder(row["id"]) / "log.jsonl"
    if not path.exists():
        return ""
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n")]  # a killed runner may have left half a line
    return "[" + whole.replace("\n", "\n,") + "\n]"
