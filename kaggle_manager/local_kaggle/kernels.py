"""The kernel service: a push becomes a version and its session, whose files become visible when it ended.

Each public method answers one call of `kernels.KernelsApiService`, from its JSON body to its JSON answer. Outputs and
log of a running session are not shown (its live log is `logs`). A version label pins every answer to that version.
"""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from slugify import slugify

from kaggle_manager.local_kaggle import accelerators, launch, notebook, quota
from kaggle_manager.local_kaggle.wire import (
    Body,
    bad_request,
    denied,
    duration,
    not_found,
    page,
    timestamp,
    version_number,
)
from kaggle_manager.local_kaggle.world import World


class Kernels:
    """The calls about kernels, on one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    # Pushing

    def save_kernel(self, body: Body) -> Body:
        """Refusals for want of room or quota come as HTTP 200 with `error` and version 0, as on Kaggle."""
        world, text = self._world, str(body.get("text") or "")
        if len(text.encode()) >= world.limits.source_bytes:
            raise bad_request("The kernel source must be less than 1 megabytes in size.")
        if str(body.get("language") or "python").lower() != "python":
            return {"versionNumber": 0, "error": "The local Kaggle runs Python kernels only."}
        kind = str(body.get("kernelType") or "script").lower()
        script = notebook.as_script(text) if kind == "notebook" else text
        machine = accelerators.machine_of(body)
        with world.transaction() as database:
            slug, title = self._address(database, body)
            runs = body.get("kernelExecutionType") != "QUICK_SAVE"
            if runs and (error := self._refusal(database, machine.accelerator)):
                return {"versionNumber": 0, "error": error}
            kernel_id = self._kernel_id(database, slug, title)
            inputs, invalid = launch.resolve_sources(world, database, body, slug)
            settings: Body = {
                "title": title,
                "text": text,
                "kernelType": kind,
                "isPrivate": bool(body.get("isPrivate", False)),
                "enableInternet": bool(body.get("enableInternet", False)),
                "machineShape": machine.shape,
                "categoryIds": body.get("categoryIds") or [],
                **launch.valid_sources(body, invalid),
            }
            version = self._newest_number(database, kernel_id) + 1
            limit_s = accelerators.time_limit(machine, body.get("sessionTimeoutSeconds"), world.limits)
            now = world.clock()
            session_id = database.execute(
                "INSERT INTO sessions "
                "(kernel_id, version, settings, accelerator, limit_s, status, created_at, ended_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                (
                    *(kernel_id, version, json.dumps(settings), machine.accelerator, limit_s),
                    *(("QUEUED", now, None) if runs else ("NEW_SCRIPT", now, now)),
                ),
            ).fetchone()["id"]
            if runs:
                launch.prepare(world, session_id, script, limit_s, settings["enableInternet"], inputs)
        if runs:
            launch.start(world.session_folder(session_id))
        address = f"{world.account.username}/{slug}"
        return {
            "ref": f"/code/{address}",
            "url": f"{world.address}/code/{address}",
            "versionNumber": version,
            "kernelId": kernel_id,
            "error": "",
            **invalid,
        }

    def _address(self, database: sqlite3.Connection, body: Body) -> tuple[str, str]:
        """(slug, title) a push lands at: the slug of the title, whatever slug was asked for."""
        asked = str(body.get("slug") or "")
        title = str(body.get("newTitle") or "")
        if not asked and body.get("id"):
            row = database.execute(
                "SELECT * FROM kernels WHERE id = ? AND deleted_at IS NULL", (int(body["id"]),)
            ).fetchone()
            if row is None:
                raise denied("kernels.update")
            return row["slug"], title or row["title"]
        owner, _, name = asked.rpartition("/")
        if owner and owner != self._world.account.username:
            raise denied("kernels.update")
        slug = slugify(title or name)
        if not slug:
            raise bad_request("A kernel needs a title or a slug.")
        return slug, title or name

    def _refusal(self, database: sqlite3.Connection, accelerator: str) -> str | None:
        room = accelerators.room(accelerator, self._world.limits)
        alive = database.execute(
            "SELECT count(*) FROM sessions s JOIN kernels k ON k.id = s.kernel_id "
            "WHERE s.ended_at IS NULL AND k.deleted_at IS NULL AND s.accelerator = ?",
            (accelerator,),
        ).fetchone()[0]
        if alive >= room:
            return f"Maximum batch {accelerator} session count of {room} reached."
        week = self._week(database).get(accelerator)
        return quota.refusal(accelerator, week) if week else None

    def _kernel_id(self, database: sqlite3.Connection, slug: str, title: str) -> int:
        row = database.execute("SELECT id FROM kernels WHERE slug = ? AND deleted_at IS NULL", (slug,)).fetchone()
        if row is None:
            row = database.execute(
                "INSERT INTO kernels (slug, title, created_at) VALUES (?, ?, ?) RETURNING id",
                (slug, title, self._world.clock()),
            ).fetchone()
        kernel_id: int = row["id"]
        database.execute("UPDATE kernels SET title = ? WHERE id = ?", (title, kernel_id))
        return kernel_id

    def _newest_number(self, database: sqlite3.Connection, kernel_id: int) -> int:
        newest = database.execute("SELECT max(version) FROM sessions WHERE kernel_id = ?", (kernel_id,)).fetchone()[0]
        return int(newest or 0)

    # Looking

    def session(self, database: sqlite3.Connection, body: Body) -> sqlite3.Row:
        """The session a request is about: the newest of its kernel, or the one its version label pins."""
        kernel = self._kernel(database, body)
        number = version_number(body.get("versionLabel")) or self._newest_number(database, kernel["id"])
        row: sqlite3.Row | None = database.execute(
            "SELECT * FROM sessions WHERE kernel_id = ? AND version = ?", (kernel["id"], number)
        ).fetchone()
        if row is None:
            raise not_found(f"Version {number} of {kernel['slug']}")
        return row

    def _kernel(self, database: sqlite3.Connection, body: Body) -> sqlite3.Row:
        owner = body.get("userName") or body.get("ownerSlug") or self._world.account.username
        row: sqlite3.Row | None = database.execute(
            "SELECT * FROM kernels WHERE slug = ? AND deleted_at IS NULL", (body.get("kernelSlug"),)
        ).fetchone()
        if row is None or owner != self._world.account.username:
            raise denied("kernels.get")
        return row

    def get_kernel_session_status(self, body: Body) -> Body:
        with self._world.transaction() as database:
            row = self.session(database, body)
        return {"status": row["status"], "failureMessage": row["failure"]}

    def get_kernel(self, body: Body) -> Body:
        with self._world.transaction() as database:
            kernel, row = self._kernel(database, body), self.session(database, body)
            newest = self._newest_number(database, kernel["id"])
        settings = json.loads(row["settings"])
        return {
            "metadata": self._metadata(kernel, row) | {"currentVersionNumber": newest},
            "blob": {
                "source": settings["text"],
                "language": "python",
                "kernelType": settings["kernelType"],
                "slug": kernel["slug"],
            },
        }

    def list_kernels(self, body: Body) -> Body:
        wanted = str(body.get("search") or "").lower()
        user = body.get("user") or self._world.account.username
        with self._world.transaction() as database:
            kernels = database.execute("SELECT * FROM kernels WHERE deleted_at IS NULL").fetchall()
            newest = {
                row["kernel_id"]: row for row in database.execute("SELECT * FROM sessions ORDER BY version").fetchall()
            }
        if user != self._world.account.username:
            kernels = []
        found = [kernel for kernel in kernels if wanted in f"{kernel['title']} {kernel['slug']}".lower()]
        found.sort(key=lambda kernel: newest[kernel["id"]]["created_at"], reverse=True)
        shown, token = page(found, body)
        return {"kernels": [self._metadata(kernel, newest[kernel["id"]]) for kernel in shown], "nextPageToken": token}

    def _metadata(self, kernel: sqlite3.Row, session: sqlite3.Row) -> Body:
        settings = json.loads(session["settings"])
        owner = self._world.account.username
        sources = {name: settings[name] for name in launch.SOURCES}
        return {
            "id": kernel["id"],
            "ref": f"{owner}/{kernel['slug']}",
            "title": kernel["title"],
            "author": owner,
            "slug": kernel["slug"],
            "lastRunTime": timestamp(session["created_at"]),
            "language": "python",
            "enableGpu": session["accelerator"] == "GPU",
            "enableTpu": session["accelerator"] == "TPU",
            **{name: settings[name] for name in ("kernelType", "isPrivate", "enableInternet", "machineShape")},
            "categoryIds": settings["categoryIds"],
            **sources,
        }

    # What sessions left

    def list_kernel_session_output(self, body: Body) -> Body:
        with self._world.transaction() as database:
            row = self.session(database, body)
        files, token = page(self._outputs(row), body)
        links = [self._world.link(f"/files/session/{row['id']}/{name}") for name in files]
        return {
            "files": [{"url": link, "fileName": name} for link, name in zip(links, files, strict=True)],
            "log": self.log(row) if row["ended_at"] else "",
            "nextPageToken": token,
        }

    def list_kernel_files(self, body: Body) -> Body:
        with self._world.transaction() as database:
            row = self.session(database, body)
        files, token = page(self._outputs(row), body)
        folder = self._world.session_folder(row["id"]) / "working"
        entries: list[Body] = []
        for name in files:
            facts = (folder / name).stat()
            entries.append({"name": name, "size": facts.st_size, "creationDate": timestamp(facts.st_mtime)})
        return {"files": entries, "nextPageToken": token}

    def output_link(self, body: Body) -> str:
        """The link `DownloadKernelOutput` redirects to."""
        number = body.get("versionNumber")
        with self._world.transaction() as database:
            row = self.session(database, body | ({"versionLabel": f"v{number}"} if number else {}))
        name = str(body.get("filePath") or "")
        if name not in self._outputs(row):
            raise not_found(f"Output {name}")
        return self._world.link(f"/files/session/{row['id']}/{name}")

    def log(self, row: sqlite3.Row) -> str:
        """The log of an ended session as the JSON array Kaggle keeps; "" when it never ran."""
        path = self._world.session_folder(row["id"]) / "log.jsonl"
        if not path.exists():
            return ""
        lines = path.read_text(encoding="utf-8").splitlines()
        return "[" + "\n,".join(line for line in lines if line.endswith("}")) + "\n]"

    def _outputs(self, row: sqlite3.Row) -> list[str]:
        """Names of the regular files an ended session left, at most as many as Kaggle lists."""
        folder = self._world.session_folder(row["id"]) / "working"
        if row["ended_at"] is None or not folder.exists():
            return []
        names = sorted(
            (Path(parent) / name).relative_to(folder).as_posix()
            for parent, _, files in os.walk(folder)
            for name in files
            if not (Path(parent) / name).is_symlink()
        )
        return names[: self._world.limits.output_files]

    # Ending

    def delete_kernel(self, body: Body) -> Body:
        """Ends the kernel's sessions, which frees their places at once, and destroys its outputs."""
        with self._world.transaction() as database:
            kernel = self._kernel(database, body)
            database.execute("UPDATE kernels SET deleted_at = ? WHERE id = ?", (self._world.clock(), kernel["id"]))
            alive = database.execute(
                "SELECT id FROM sessions WHERE kernel_id = ? AND ended_at IS NULL", (kernel["id"],)
            ).fetchall()
            for row in alive:
                self._world.ask_to_end(row["id"])
        return {"errorMessage": ""}

    def cancel_kernel_session(self, body: Body) -> Body:
        with self._world.transaction() as database:
            row = database.execute(
                "SELECT s.* FROM sessions s JOIN kernels k ON k.id = s.kernel_id "
                "WHERE s.id = ? AND k.deleted_at IS NULL",
                (int(body.get("kernelSessionId") or 0),),
            ).fetchone()
            if row is None:
                raise denied("kernelSessions.cancel")
            if row["ended_at"] is None:
                self._world.ask_to_end(row["id"])
        return {"errorMessage": ""}

    # Quota

    def get_accelerator_quota_statistics(self, _: Body) -> Body:
        with self._world.transaction() as database:
            week = self._week(database)
            ran = {row[0] for row in database.execute("SELECT DISTINCT accelerator FROM sessions").fetchall()}
        refresh = quota.week_of(self._world.clock())[1]

        def shown(accelerator: str) -> dict[str, Any]:
            used = week[accelerator]
            return {
                "timeUsed": duration(used.used_s),
                "timeReserved": duration(used.reserved_s),
                "totalTimeAllowed": duration(used.allowed_s),
                "hasEverRun": accelerator in ran,
            }

        return {"quotaRefreshTime": timestamp(refresh), "gpuQuota": shown("GPU"), "tpuQuota": shown("TPU")}

    def _week(self, database: sqlite3.Connection) -> dict[str, quota.Statistics]:
        now, limits = self._world.clock(), self._world.limits
        start, _ = quota.week_of(now)
        rows = database.execute(
            "SELECT * FROM sessions WHERE status != 'NEW_SCRIPT' AND (ended_at IS NULL OR ended_at > ?)", (start,)
        ).fetchall()
        spans: dict[str, list[quota.Span]] = {"GPU": [], "TPU": [], "CPU": []}
        for row in rows:
            spans[row["accelerator"]].append(quota.Span(row["created_at"], row["ended_at"], row["limit_s"]))
        allowed = {"GPU": limits.gpu_week_s, "TPU": limits.tpu_week_s}
        return {name: quota.statistics(spans[name], now, allowed_s) for name, allowed_s in allowed.items()}
