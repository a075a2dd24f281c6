"""`SaveKernel`: a push becomes a new version of its kernel, and a session that runs it beside any earlier one.

Want of room or quota is refused as Kaggle does: HTTP 200 with `error` and version 0. Of a refused first push an empty
kernel is kept, as users report: no later push of its slug is accepted before it is deleted.
"""

from __future__ import annotations

import json
import sqlite3
import unicodedata

from slugify import slugify

from kaggle_manager.local_kaggle import accelerators, launch, notebook, quota, sessions, sources
from kaggle_manager.local_kaggle.accelerators import Machine
from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.local_kaggle.faults import session_faults
from kaggle_manager.local_kaggle.images import Images
from kaggle_manager.local_kaggle.serialization import Body, bad_request, denied, whole_number


class Pushes:
    """The call that pushes a kernel of one server."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def save_kernel(self, body: Body) -> Body:
        state, text = self._state, str(body.get("text") or "")
        if len(text.encode()) >= state.limits.source_bytes:
            raise bad_request("The kernel source must be less than 1 megabytes in size.")
        if str(body.get("language") or "python").lower() != "python":
            return {"versionNumber": 0, "error": "The local Kaggle runs Python kernels only."}
        kind = str(body.get("kernelType") or "script").lower()
        script = notebook.as_script(text) if kind == "notebook" else text
        machine = accelerators.machine_of(body)
        runs = body.get("kernelExecutionType") != "QUICK_SAVE"
        internet = bool(body.get("enableInternet", False))
        with state.transaction() as database:
            slug, title = self._address(database, body)
            known = self._newest(database, slug)
            if known == 0 or (known is None and not _is_accepted(slug, title)):
                return {"versionNumber": 0, "error": "Notebook not found"}
            if runs and (refusal := self._refusal(database, machine)):
                if known is None:
                    self._kernel_id(database, slug, title)
                return {"versionNumber": 0, "error": refusal}
            image = Images(state.limits.oldest_image, state.limits.newest_image).chosen(
                body, sessions.images_of(database, slug)
            )
            if image is None:
                return {"versionNumber": 0, "error": f"Docker image {body['dockerImage']} is not available."}
            kernel_id = self._kernel_id(database, slug, title)
            version = sessions.newest_version(database, kernel_id) + 1
            found = sources.resolve(state, database, body, slug, session_faults.current.get())
            settings = {
                "text": text,
                "kernelType": kind,
                "isPrivate": bool(body.get("isPrivate", False)),
                "enableInternet": internet,
                "machineShape": machine.shape,
                "categoryIds": body.get("categoryIds") or [],
                "dockerImage": image.digest,
                "dockerImagePinningType": str(body.get("dockerImagePinningType") or ""),
                **found.valid,
            }
            limit_s = accelerators.time_limit(machine, whole_number(body, "sessionTimeoutSeconds"), state.limits)
            now = state.clock()
            status, ended_at = ("QUEUED", None) if runs else ("NEW_SCRIPT", now)
            session_id: int = database.execute(
                "INSERT INTO sessions "
                "(kernel_id, version, settings, accelerator, limit_s, status, created_at, ended_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                (kernel_id, version, json.dumps(settings), machine.accelerator, limit_s, status, now, ended_at),
            ).fetchone()["id"]
            if runs:
                launch.prepare(
                    state,
                    session_id,
                    script,
                    limit_s=limit_s,
                    internet=internet,
                    mounts=found.mounts,
                    accelerator=machine.shape,
                    faults=session_faults.current.get(),
                )
        if runs:
            launch.start(state.session_folder(session_id))
        address = f"/code/{state.account.username}/{slug}"
        answer = {"ref": address, "url": state.address + address, "versionNumber": version, "kernelId": kernel_id}
        return {**answer, "error": "", **found.invalid}

    def _address(self, database: sqlite3.Connection, body: Body) -> tuple[str, str]:
        """(slug, title) a push lands at: the slug of the title, whatever slug was asked for."""
        asked, title = str(body.get("slug") or ""), str(body.get("newTitle") or "")
        if not asked and body.get("id"):
            row = database.execute(
                "SELECT * FROM kernels WHERE id = ? AND deleted_at IS NULL", (whole_number(body, "id"),)
            ).fetchone()
            if row is None:
                raise denied("kernels.update")
            return row["slug"], title or row["title"]
        owner, _, name = asked.rpartition("/")
        if owner and owner != self._state.account.username:
            raise denied("kernels.update")
        slug = slugify(title or name)
        if not slug:
            raise bad_request("A kernel needs a title or a slug.")
        return slug, title or name

    def _newest(self, database: sqlite3.Connection, slug: str) -> int | None:
        """The newest version of the kernel at `slug`; 0 for an empty kernel, None for none."""
        row = database.execute("SELECT id FROM kernels WHERE slug = ? AND deleted_at IS NULL", (slug,)).fetchone()
        return None if row is None else sessions.newest_version(database, row["id"])

    def _refusal(self, database: sqlite3.Connection, machine: Machine) -> str | None:
        if refused := session_faults.current.get().refused:
            return refused
        room = accelerators.room(machine.accelerator, self._state.limits)
        if sessions.alive(database, machine.accelerator) >= room:
            return f"Maximum batch {machine.accelerator} session count of {room} reached."
        week = sessions.week(self._state, database).get(machine.accelerator)
        return quota.refusal(machine.accelerator, week) if week else None

    def _kernel_id(self, database: sqlite3.Connection, slug: str, title: str) -> int:
        kernel_id: int = database.execute(
            "INSERT INTO kernels (slug, title, created_at) VALUES (?, ?, ?) "
            "ON CONFLICT (slug) WHERE deleted_at IS NULL DO UPDATE SET title = excluded.title RETURNING id",
            (slug, title, self._state.clock()),
        ).fetchone()["id"]
        return kernel_id


def _is_accepted(slug: str, title: str) -> bool:
    """Whether a new kernel may be called so: users report that Kaggle cannot find others just after it made them."""
    return not slug[0].isdigit() and all(unicodedata.category(character) != "So" for character in title)
