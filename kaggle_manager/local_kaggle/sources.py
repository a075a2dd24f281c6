"""What a kernel asks to have mounted, and what of it exists.

A source that cannot be mounted is dropped and reported, and the push goes on without it, as on Kaggle. What is mounted
appears in both layouts: `datasets/<owner>/<slug>` or `notebooks/<owner>/<slug>`, and `<slug>`.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.local_kaggle.datasets import ready_version
from kaggle_manager.local_kaggle.faults.session_faults import SessionFaults
from kaggle_manager.local_kaggle.serialization import Body, texts

# The field of a push that asks for a kind of source -> the field of the answer that reports the invalid ones.
KINDS = {
    "datasetDataSources": "invalidDatasetSources",
    "kernelDataSources": "invalidKernelSources",
    "competitionDataSources": "invalidCompetitionSources",
    "modelDataSources": "invalidModelSources",
}


@dataclass
class Sources:
    """The sources of one push.

    Attributes:
        mounts: `{"source": folder on this machine, "at": path below /kaggle/input}`.
        valid: what will be there, by the push's field names.
        invalid: what was dropped, by the answer's field names.
    """

    mounts: list[dict[str, str]] = field(default_factory=list)
    valid: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    invalid: dict[str, list[str]] = field(default_factory=lambda: {answer: [] for answer in KINDS.values()})


def resolve(
    state: ServerState, database: sqlite3.Connection, body: Body, own_slug: str, faults: SessionFaults
) -> Sources:
    """Sort out what the push `body` of kernel `own_slug` asks for, and what of it its session gets."""
    found = Sources()
    for kind, answer in KINDS.items():
        for source in texts(body, kind):
            owner, slug, number = ([*source.split("/"), "", ""])[:3]
            folder = None
            if owner == state.account.username and faults.sources != "dropped":
                asked = int(number) if number.isdecimal() and len(number) < 10 else None
                folder = _folder(state, database, kind, slug, asked, own_slug)
                if faults.sources == "stale" and folder is not None and kind == "datasetDataSources":
                    before = int(folder.parent.name) - 1
                    folder = _folder(state, database, kind, slug, before, own_slug) or folder
            if folder is None:
                found.invalid[answer].append(source)
                continue
            found.valid[kind].append(source)
            layout = "datasets" if kind == "datasetDataSources" else "notebooks"
            found.mounts += [{"source": str(folder), "at": at} for at in (f"{layout}/{owner}/{slug}", slug)]
    return found


def _folder(
    state: ServerState, database: sqlite3.Connection, kind: str, slug: str, number: int | None, own_slug: str
) -> Path | None:
    """The folder behind one source; None when there is nothing to mount. Competitions and models do not exist here."""
    if kind == "datasetDataSources":
        version = ready_version(state, database, slug, number)
        return state.dataset_folder(version["dataset_id"], version["number"]) / "files" if version else None
    if kind == "kernelDataSources" and slug != own_slug:  # a kernel cannot mount its own output
        row = database.execute(
            "SELECT s.id FROM sessions s JOIN kernels k ON k.id = s.kernel_id WHERE k.slug = ? "
            "AND k.deleted_at IS NULL AND s.status = 'COMPLETE' "
            "AND s.version = coalesce(?, s.version) ORDER BY s.version DESC LIMIT 1",
            (slug, number),
        ).fetchone()
        return state.session_folder(row["id"]) / "working" if row else None
    return None
