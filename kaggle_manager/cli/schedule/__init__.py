"""Lets something else than a person call `tick`: cron, a systemd timer, the Windows task scheduler, GitHub Actions.

Promises: what is written holds absolute paths and no secret; writing it twice is writing it once; removing it leaves
everything else that was there. Nothing is written before `install`. It never runs `systemctl` or `schtasks` for the
user: those lines are shown. Ticks that overlap are the manager's concern: its lock lets one of them work.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kaggle_manager.cli.schedule.entry import Entry
    from kaggle_manager.cli.schedule.job import TickJob

DEFAULT_EVERY = "15m"


class Means(StrEnum):
    """Who calls `tick`."""

    CRON = "cron"
    SYSTEMD = "systemd"
    WINDOWS = "windows"
    GITHUB = "github"


def entry_for(job: TickJob, means: Means) -> Entry:
    """The schedule of `job` as `means` reads it.

    Raises:
        ConfigError: the job cannot be said in that form, e.g. a line break in a path.
    """
    from kaggle_manager.cli.schedule import cron, github, systemd, windows

    render = {
        Means.CRON: cron.entry,
        Means.SYSTEMD: systemd.entry,
        Means.WINDOWS: windows.entry,
        Means.GITHUB: github.entry,
    }
    return render[means](job)
