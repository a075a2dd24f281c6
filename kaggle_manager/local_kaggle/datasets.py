"""The dataset service: versions made of uploads, current only once their ingestion is over.

Each public method answers one call of `datasets.DatasetApiService`. Names are flat, as on Kaggle: archives are unpacked
into a folder of their name when a version is made. Until a version is ready, everything but the status answers for the
version before.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import uuid
import zipfile
from pathlib import Path

from kaggle_manager.local_kaggle import archives
from kaggle_manager.local_kaggle.blobs import Blobs
from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.local_kaggle.serialization import (
    Body,
    bad_request,
    denied,
    not_found,
    objects,
    page,
    text,
    timestamp,
    whole_number,
)
from kaggle_manager.local_kaggle.shelf import Shelf


class Datasets:
    """The calls about datasets of one server."""

    def __init__(self, state: ServerState, blobs: Blobs, shelf: Shelf) -> None:
        self._state = state
        self._blobs = blobs
        self._shelf = shelf

    # Making

    def create_dataset(self, body: Body) -> Body:
        owner, slug, title = text(body, "ownerSlug"), text(body, "slug"), text(body, "title")
        if owner not in ("", self._state.account.username):
            raise denied("datasets.create")
        if not slug or not title:
            return {"status": "error", "error": "A dataset needs a slug and a title."}
        kept = ("subtitle", "description", "licenseName", "isPrivate", "categoryIds")
        with self._state.transaction() as database:
            if database.execute("SELECT 1 FROM datasets WHERE slug = ?", (slug,)).fetchone():
                taken = f'The requested title "{title}" is already in use by a dataset. Please choose another title.'
                return {"status": "error", "error": taken}
        return self._add_version(slug, title, {name: body.get(name) for name in kept}, body, "Initial release")

    def create_dataset_version(self, body: Body) -> Body:
        content = _content(body)
        with self._state.transaction() as database:
            row = self._dataset(database, body)
        return self._new_version(row, content)

    def create_dataset_version_by_id(self, body: Body) -> Body:
        with self._state.transaction() as database:
            row = database.execute("SELECT * FROM datasets WHERE id = ?", (whole_number(body, "id"),)).fetchone()
        if row is None:
            raise denied("datasets.update")
        return self._new_version(row, _content(body))

    def _new_version(self, row: sqlite3.Row, content: Body) -> Body:
        info = json.loads(row["info"])
        info |= {name: content[name] for name in ("subtitle", "description") if content.get(name)}
        return self._add_version(row["slug"], row["title"], info, content, text(content, "versionNotes"))

    def _add_version(self, slug: str, title: str, info: Body, content: Body, notes: str) -> Body:
        files = [self._blobs.complete(text(item, "token")) for item in objects(content, "files")]
        complete = [item for item in files if item is not None]
        if len(complete) != len(files) or not complete:
            return {"status": "error", "error": "A file of this version is missing or was not uploaded completely."}
        # Unpacking may take long and happens before anyone can see the version, so that none is ever half there.
        staging = Path(tempfile.mkdtemp(dir=self._state.root / "incoming"))
        failed = not archives.ingest(complete, staging / "files", self._state.limits.dataset_bytes)
        now = self._state.clock()
        with self._state.transaction() as database:
            database.execute(
                "INSERT INTO datasets (slug, title, info) VALUES (?, ?, ?) ON CONFLICT (slug) DO UPDATE SET info = ?",
                (slug, title, json.dumps(info), json.dumps(info)),
            )
            dataset_id = database.execute("SELECT id FROM datasets WHERE slug = ?", (slug,)).fetchone()["id"]
            newest = self._newest(database, dataset_id)
            number = newest["number"] + 1 if newest else 1
            if content.get("deleteOldVersions"):
                database.execute("UPDATE dataset_versions SET deleted = 1 WHERE dataset_id = ?", (dataset_id,))
            database.execute(
                "INSERT INTO dataset_versions (dataset_id, number, notes, failed, created_at, ready_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (dataset_id, number, notes, failed, now, now + self._state.limits.ingestion_s),
            )
            home = self._state.dataset_folder(dataset_id, number)
            home.parent.mkdir(parents=True, exist_ok=True)
            if home.exists():  # of a server that was killed between this rename and its commit
                home.rename(self._state.root / "trash" / staging.name)
            staging.rename(home)
        address = f"{self._state.account.username}/{slug}"
        return {"ref": address, "url": f"{self._state.address}/datasets/{address}", "status": "ok", "error": ""}

    # Looking

    def _dataset(self, database: sqlite3.Connection, body: Body) -> sqlite3.Row:
        row: sqlite3.Row | None = database.execute(
            "SELECT * FROM datasets WHERE slug = ?", (text(body, "datasetSlug"),)
        ).fetchone()
        if row is None or text(body, "ownerSlug") not in ("", self._state.account.username):
            raise denied("datasets.get")
        return row

    def _newest(self, database: sqlite3.Connection, dataset_id: int) -> sqlite3.Row | None:
        row: sqlite3.Row | None = database.execute(
            "SELECT * FROM dataset_versions WHERE dataset_id = ? ORDER BY number DESC", (dataset_id,)
        ).fetchone()
        return row

    def _version(self, body: Body) -> tuple[sqlite3.Row, Path]:
        """(dataset, files of the version asked for)."""
        number = whole_number(body, "datasetVersionNumber")
        with self._state.transaction() as database:
            row = self._dataset(database, body)
            version = ready_version(self._state, database, row["slug"], number or None)
        if version is None:
            raise not_found(f"Version {number or ''} of dataset {row['slug']}")
        return row, self._state.dataset_folder(row["id"], version["number"]) / "files"

    def get_dataset_status(self, body: Body) -> Body:
        """The status of the newest version; it carries no number, so `ready` may speak of the version before a push."""
        with self._state.transaction() as database:
            newest = self._newest(database, self._dataset(database, body)["id"])
        if newest is None:
            return {"status": "NOT_YET_PERSISTED"}
        if newest["ready_at"] > self._state.clock():
            return {"status": "BLOBS_RECEIVED"}
        return {"status": "FAILED" if newest["failed"] else "READY"}

    def get_dataset(self, body: Body) -> Body:
        if shown := self._on_the_shelf(body):
            return shown
        with self._state.transaction() as database:
            row = self._dataset(database, body)
            current = ready_version(self._state, database, row["slug"])
            versions = database.execute(
                "SELECT * FROM dataset_versions WHERE dataset_id = ? AND NOT deleted ORDER BY number", (row["id"],)
            ).fetchall()
        info, owner = json.loads(row["info"]), self._state.account.username
        files = self._files(self._state.dataset_folder(row["id"], current["number"]) / "files") if current else []
        return {
            "id": row["id"],
            "ref": f"{owner}/{row['slug']}",
            "url": f"{self._state.address}/datasets/{owner}/{row['slug']}",
            "title": row["title"],
            "ownerName": owner,
            "ownerRef": owner,
            "totalBytes": sum(item["totalBytes"] for item in files),
            "currentVersionNumber": current["number"] if current else 0,
            "lastUpdated": timestamp(versions[-1]["created_at"]) if versions else None,
            "isPrivate": bool(info["isPrivate"]),
            "licenseName": info["licenseName"] or "",
            "subtitle": info["subtitle"] or "",
            "description": info["description"] or "",
            "versions": [
                {
                    "versionNumber": version["number"],
                    "versionNotes": version["notes"],
                    "creationDate": timestamp(version["created_at"]),
                }
                for version in versions
            ],
        }

    def _on_the_shelf(self, body: Body) -> Body | None:
        """A dataset of somebody else's that was put here by hand; None where one was published under its name."""
        owner, slug = text(body, "ownerSlug"), text(body, "datasetSlug")
        folder = self._shelf.folder("datasets", owner, slug)
        if folder is None or (owner == self._state.account.username and self._is_published(slug)):
            return None
        files = self._files(folder)
        version = {"versionNumber": 1, "versionNotes": "", "creationDate": timestamp(folder.stat().st_mtime)}
        shown = {"ref": f"{owner}/{slug}", "title": slug, "ownerName": owner, "ownerRef": owner, "isPrivate": False}
        total = sum(item["totalBytes"] for item in files)
        return {**shown, "totalBytes": total, "currentVersionNumber": 1, "versions": [version]}

    def _is_published(self, slug: str) -> bool:
        with self._state.transaction() as database:
            return database.execute("SELECT 1 FROM datasets WHERE slug = ?", (slug,)).fetchone() is not None

    def get_dataset_metadata(self, body: Body) -> Body:
        with self._state.transaction() as database:
            row = self._dataset(database, body)
        info = json.loads(row["info"])
        return {
            "info": {
                "datasetId": row["id"],
                "datasetSlug": row["slug"],
                "ownerUser": self._state.account.username,
                "title": row["title"],
                "subtitle": info["subtitle"] or "",
                "description": info["description"] or "",
                "isPrivate": bool(info["isPrivate"]),
                "keywords": info["categoryIds"] or [],
                "licenses": [{"name": info["licenseName"] or "unknown"}],
            },
            "errorMessage": "",
        }

    def list_datasets(self, body: Body) -> Body:
        """The account's own datasets; nobody else's are listed here."""
        with self._state.transaction() as database:
            slugs = [row["slug"] for row in database.execute("SELECT slug FROM datasets ORDER BY id DESC").fetchall()]
        shown, token = page(slugs, body)
        own = {"ownerSlug": self._state.account.username}
        return {
            "datasets": [self.get_dataset({**own, "datasetSlug": slug}) for slug in shown],
            "nextPageToken": token,
        }

    def list_dataset_files(self, body: Body) -> Body:
        _, folder = self._version(body)
        shown, token = page(self._files(folder), body)
        return {"datasetFiles": list(shown), "nextPageToken": token, "errorMessage": ""}

    def _files(self, folder: Path) -> list[Body]:
        found: list[Body] = []
        for name in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()):
            facts = (folder / name).stat()
            found.append(
                {"ref": name, "name": name, "totalBytes": facts.st_size, "creationDate": timestamp(facts.st_mtime)}
            )
        return found

    # Downloading and deleting

    def download_dataset(self, body: Body) -> str:
        """The link `DownloadDataset` redirects to: one file, or the whole version as a zip."""
        row, folder = self._version(body)
        base = f"/files/dataset/{row['id']}/{folder.parent.name}"
        name = str(body.get("fileName") or "")
        if name:
            if name not in [item["name"] for item in self._files(folder)]:
                raise not_found(f"File {name}")
            return self._state.link(f"{base}/files/{name}")
        archive = folder.parent / f"{row['slug']}.zip"
        if not archive.exists():
            _zip(folder, archive)
        return self._state.link(f"{base}/{archive.name}")

    def delete_dataset(self, body: Body) -> Body:
        with self._state.transaction() as database:
            row = self._dataset(database, body)
            database.execute("DELETE FROM datasets WHERE id = ?", (row["id"],))
        return {"error": ""}


def ready_version(
    state: ServerState, database: sqlite3.Connection, slug: str, number: int | None = None
) -> sqlite3.Row | None:
    """The newest version of a dataset whose ingestion is over, or version `number` if it is."""
    row: sqlite3.Row | None = database.execute(
        "SELECT v.* FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id WHERE d.slug = ? "
        "AND v.ready_at <= ? AND NOT v.failed AND NOT v.deleted "
        "AND v.number = coalesce(?, v.number) ORDER BY v.number DESC",
        (slug, state.clock(), number),
    ).fetchone()
    return row


def _content(body: Body) -> Body:
    """What a new version of a dataset consists of."""
    content = body.get("body") or {}
    if not isinstance(content, dict):
        raise bad_request("body is not an object")
    return content


def _zip(folder: Path, archive: Path) -> None:
    temporary = archive.with_suffix(f".{uuid.uuid4().hex}.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                packed.write(path, path.relative_to(folder).as_posix())
    temporary.replace(archive)
