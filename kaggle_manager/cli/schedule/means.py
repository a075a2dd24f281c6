"""Who may call `tick`, and how often where nothing else is said."""

from __future__ import annotations

from enum import StrEnum

DEFAULT_EVERY = "15m"
# The same minute of every hour or the same times of every day: what cron, systemd and GitHub can all say.
MINUTES = (5, 6, 10, 12, 15, 20, 30)
HOURS = (1, 2, 3, 4, 6, 8, 12, 24)
ACCEPTED_EVERY = ", ".join([*(f"{minutes}m" for minutes in MINUTES), *(f"{hours}h" for hours in HOURS)])


class Means(StrEnum):
    """Who calls `tick`."""

    CRON = "cron"
    SYSTEMD = "systemd"
    WINDOWS = "windows"
    GITHUB = "github"
