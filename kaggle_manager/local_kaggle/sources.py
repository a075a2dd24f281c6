"""What a kernel asks to have mounted, and what of it exists.

A source that cannot be mounted is dropped and reported, and the push continues without it, as on Kaggle. What is
mounted appears in both layouts: `datasets/<owner>/<slug>`, `notebooks/<owner>/<slug>`, `competitions/<name>` or
`models/<owner>/<model>/<framework>/<variation>/<version>`; and the same without its first two (of a competition: its
first) names.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.local_kaggle.datasets import ready_version
from kaggle_manager.local_kaggle.faults.session_faults import SessionFaults
from kaggle_manager.local_kaggle.serialization import Body, texts
from kaggle_manager.local_kaggle.shelf import Shelf

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
    shelf = Shelf(state.root)
    for kind, answer in KINDS.items():
        for source in texts(body, kind):
            mounted: tuple[Path, str, str] | None = None
            if faults.sources != "dropped":
                mounted = _own(state, database, kind, source, own_slug, faults) or _of_others(shelf, kind, source)
            if mounted is None:
                found.invalid[answer].append(source)
                continue
            folder, *places = mounted
            found.valid[kind].append(source)
            found.mounts += [{"source": str(folder), "at": at} for at in places]
    return found


def _own(
    state: ServerState, database: sqlite3.Connection, kind: str, source: str, own_slug: str, faults: SessionFaults
) -> tuple[Path, str, str] | None:
    """The folder behind a source of this account, and where it is mounted; None when there is nothing to mount."""
    owner, slug, number = ([*source.split("/"), "", ""])[:3]
    if owner != state.account.username or kind not in ("datasetDataSources", "kernelDataSources"):
        return None
    asked = int(number) if number.isdecimal() and len(number) < 10 else None
    folder = _folder(state, database, kind, slug, asked, own_slug)
    if faults.sources == "stale" and folder is not None and kind == "datasetDataSources":
        folder = _folder(state, database, kind, slug, int(folder.parent.name) - 1, own_slug) or folder
    layout = "datasets" if kind == "datasetDataSources" else "notebooks"
    return (folder, f"{layout}/{owner}/{slug}", slug) if folder else None


def _of_others(shelf: Shelf, kind: str, source: str) -> tuple[Path, str, str] | None:
    """The same for what lies on the shelf: a dataset, a competition, or a version of a model."""
    names = source.split("/")
    if kind == "datasetDataSources" and len(names) in (2, 3) and names[2:] in ([], ["1"]):
        folder, at = shelf.folder("datasets", *names[:2]), names[:2]
    elif kind == "competitionDataSources" and len(names) == 1:
        folder, at = shelf.folder("competitions", *names), ["", *names]
    elif kind == "modelDataSources" and len(names) in (4, 5) and (model := shelf.model(*names[:4])):
        number = names[4] if len(names) == 5 else str(shelf.newest(*model))
        folder, at = shelf.folder(*model, number), [*names[:4], number]
    else:
        return None
    layout = kind.removesuffix("DataSources") + "s"
    return (folder, "/".join(filter(None, [layout, *at])), "/".join(at[1:])) if folder else None


def _folder(
    state: ServerState, database: sqlite3.Connection, kind: str, slug: str, number: int | None, own_slug: str
) -> Path | None:
    """What is to be mounted of this account's dataset or kernel; None when there is nothing."""
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
