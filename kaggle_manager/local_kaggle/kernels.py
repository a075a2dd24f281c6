"""The kernel service: looking at kernels and their sessions, and ending them. (`pushes` makes them.)

Each public method answers one call of `kernels.KernelsApiService`, from its JSON body to its JSON answer. A version
label pins an answer to that version; without one the newest version answers.
"""

from __future__ import annotations

import json
import sqlite3

from starlette.exceptions import HTTPException

from kaggle_manager.local_kaggle import quota, sessions, sources
from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.local_kaggle.serialization import Body, duration, page, timestamp, whole_number

# What a list shows of a kernel without a version: no address leads to it.
EMPTY = {"title": "[Private Notebook]", "isPrivate": True}


class Kernels:
    """The calls about kernels of one server."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def get_kernel_session_status(self, body: Body) -> Body:
        with self._state.transaction() as database:
            row = sessions.session_of(self._state, database, body)
        return {"status": row["status"], "failureMessage": row["failure"]}

    def get_kernel(self, body: Body) -> Body:
        with self._state.transaction() as database:
            kernel = sessions.kernel_of(self._state, database, body)
            newest = sessions.newest_version(database, kernel["id"])
            if newest == 0:
                raise HTTPException(500, "An unexpected error occurred")
            row = sessions.session_of(self._state, database, body)
        settings = json.loads(row["settings"])
        source = {"source": settings["text"], "kernelType": settings["kernelType"]}
        return {
            "metadata": self._metadata(kernel, row) | {"currentVersionNumber": newest},
            "blob": {**source, "language": "python", "slug": kernel["slug"]},
        }

    def list_kernels(self, body: Body) -> Body:
        """The account's own kernels, the one run last first, empty ones at the end; nobody else's exist here."""
        wanted, owner = str(body.get("search") or "").lower(), self._state.account.username
        with self._state.transaction() as database:
            kernels = database.execute("SELECT * FROM kernels WHERE deleted_at IS NULL").fetchall()
            rows = database.execute("SELECT * FROM sessions ORDER BY version").fetchall()
        newest = {row["kernel_id"]: row for row in rows}
        ran = [kernel for kernel in kernels if kernel["id"] in newest]
        found = [
            kernel
            for kernel in sorted(ran, key=lambda kernel: newest[kernel["id"]]["created_at"], reverse=True)
            if wanted in f"{kernel['title']} {kernel['slug']}".lower() and body.get("user") in (None, "", owner)
        ]
        described = [self._metadata(kernel, newest[kernel["id"]]) for kernel in found]
        described += [EMPTY | {"id": kernel["id"]} for kernel in kernels if kernel["id"] not in newest and not wanted]
        shown, token = page(described, body)
        return {"kernels": list(shown), "nextPageToken": token}

    def _metadata(self, kernel: sqlite3.Row, session: sqlite3.Row) -> Body:
        settings = json.loads(session["settings"])
        owner = self._state.account.username
        as_pushed = ("kernelType", "isPrivate", "enableInternet", "machineShape", "categoryIds", *sources.KINDS)
        as_pushed += ("dockerImage", "dockerImagePinningType")
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
            **{name: settings[name] for name in as_pushed},
        }

    def delete_kernel(self, body: Body) -> Body:
        """Ends the kernel's sessions, which frees their places at once, and destroys its outputs."""
        with self._state.transaction() as database:
            kernel = sessions.kernel_of(self._state, database, body)
            database.execute("UPDATE kernels SET deleted_at = ? WHERE id = ?", (self._state.clock(), kernel["id"]))
            for row in database.execute(
                "SELECT id FROM sessions WHERE kernel_id = ? AND ended_at IS NULL", (kernel["id"],)
            ).fetchall():
                self._state.ask_to_end(row["id"])
        return {"errorMessage": ""}

    def cancel_kernel_session(self, body: Body) -> Body:
        with self._state.transaction() as database:
            session_id = whole_number(body, "kernelSessionId")
            row = sessions.session_by_id(database, session_id, "kernelSessions.cancel")
            if row["ended_at"] is None:
                self._state.ask_to_end(session_id)
        return {"errorMessage": ""}

    def get_accelerator_quota_statistics(self, _: Body) -> Body:
        with self._state.transaction() as database:
            week = sessions.week(self._state, database)
            ran = {row[0] for row in database.execute("SELECT DISTINCT accelerator FROM sessions").fetchall()}

        def shown(accelerator: str) -> Body:
            return {
                "timeUsed": duration(week[accelerator].used_s),
                "timeReserved": duration(week[accelerator].reserved_s),
                "totalTimeAllowed": duration(week[accelerator].allowed_s),
                "hasEverRun": accelerator in ran,
            }

        refresh = quota.week_of(self._state.clock())[1]
        return {"quotaRefreshTime": timestamp(refresh), "gpuQuota": shown("GPU"), "tpuQuota": shown("TPU")}
