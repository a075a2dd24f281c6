"""Which kernel and which session a request is about, and what the account's sessions used this week.

Questions to one open transaction; nothing here changes anything.
"""

from __future__ import annotations

import sqlite3

from kaggle_manager.local_kaggle import quota
from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.local_kaggle.serialization import Body, denied, not_found, text, version_number


def kernel_of(state: ServerState, database: sqlite3.Connection, body: Body) -> sqlite3.Row:
    """The kernel a request names; what does not exist and what belongs to another account are refused alike."""
    owner = text(body, "userName") or text(body, "ownerSlug") or state.account.username
    row: sqlite3.Row | None = database.execute(
        "SELECT * FROM kernels WHERE slug = ? AND deleted_at IS NULL", (text(body, "kernelSlug"),)
    ).fetchone()
    if row is None or owner != state.account.username:
        raise denied("kernels.get")
    return row


def session_of(state: ServerState, database: sqlite3.Connection, body: Body) -> sqlite3.Row:
    """The session a request is about: the newest of its kernel, or the one its version label pins."""
    kernel = kernel_of(state, database, body)
    number = version_number(text(body, "versionLabel")) or newest_version(database, kernel["id"])
    row: sqlite3.Row | None = database.execute(
        "SELECT * FROM sessions WHERE kernel_id = ? AND version = ?", (kernel["id"], number)
    ).fetchone()
    if row is None:
        raise not_found(f"Version {number} of {kernel['slug']}")
    return row


def session_by_id(database: sqlite3.Connection, session_id: int, permission: str) -> sqlite3.Row:
    """The session with this number, unless its kernel was deleted; `permission` is what a refusal names."""
    row: sqlite3.Row | None = database.execute(
        "SELECT s.* FROM sessions s JOIN kernels k ON k.id = s.kernel_id WHERE s.id = ? AND k.deleted_at IS NULL",
        (session_id,),
    ).fetchone()
    if row is None:
        raise denied(permission)
    return row


def newest_version(database: sqlite3.Connection, kernel_id: int) -> int:
    """The highest version number of a kernel; 0 when it has none."""
    newest = database.execute("SELECT max(version) FROM sessions WHERE kernel_id = ?", (kernel_id,)).fetchone()[0]
    return int(newest or 0)


def images_of(database: sqlite3.Connection, slug: str) -> list[str]:
    """Digests of the images of a kernel's versions, the first one first; none where there is no such kernel."""
    rows = database.execute(
        "SELECT json_extract(s.settings, '$.dockerImage') FROM sessions s JOIN kernels k ON k.id = s.kernel_id "
        "WHERE k.slug = ? AND k.deleted_at IS NULL ORDER BY s.version",
        (slug,),
    ).fetchall()
    return [row[0] for row in rows if row[0]]


def alive(database: sqlite3.Connection, accelerator: str) -> int:
    """How many sessions of `accelerator` hold a place. Deleting a kernel frees its places at once."""
    count: int = database.execute(
        "SELECT count(*) FROM sessions s JOIN kernels k ON k.id = s.kernel_id "
        "WHERE s.ended_at IS NULL AND k.deleted_at IS NULL AND s.accelerator = ?",
        (accelerator,),
    ).fetchone()[0]
    return count


def week(state: ServerState, database: sqlite3.Connection) -> dict[str, quota.Statistics]:
    """This week's GPU and TPU hours."""
    now, limits = state.clock(), state.limits
    start, _ = quota.week_of(now)
    rows = database.execute(
        "SELECT * FROM sessions WHERE status != 'NEW_SCRIPT' AND (ended_at IS NULL OR ended_at > ?)", (start,)
    ).fetchall()
    used: dict[str, list[quota.Span]] = {"GPU": [], "TPU": [], "CPU": []}
    for row in rows:
        longest_s = limits.tpu_session_s if row["accelerator"] == "TPU" else limits.session_s
        used[row["accelerator"]].append(quota.Span(row["created_at"], row["ended_at"], longest_s))
    allowed = {"GPU": limits.gpu_week_s, "TPU": limits.tpu_week_s}
    return {name: quota.statistics(used[name], now, allowed_s) for name, allowed_s in allowed.items()}
