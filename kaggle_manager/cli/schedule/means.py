"""Who may call `tick`, and how often where nothing else is said."""

from __future__ import annotations

from enum import StrEnum

DEFAULT_EVERY = "15m"


class Means(StrEnum):
    """Who calls `tick`."""

    CRON = "cron"
    SYSTEMD = "systemd"
    WINDOWS = "windows"
    GITHUB = "github"
