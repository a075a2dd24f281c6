"""Whether a process of this machine has ended, also where nothing waits for it and it stays a zombie."""

from __future__ import annotations

from pathlib import Path


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True
