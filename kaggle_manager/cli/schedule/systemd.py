"""A service and a timer of the user's own systemd."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kaggle_manager.cli.schedule.entry import WRITTEN_BY, Entry
from kaggle_manager.cli.schedule.job import PATIENT_CODES, TickJob, one_line


def entry(job: TickJob, environ: Mapping[str, str] = os.environ) -> Entry:
    """Raises:
    ConfigError: the paths hold a line break.
    """
    config_home = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    folder = config_home / "systemd/user"
    hours = ",".join(f"{hour:02}" for hour in job.slots.hours) or "*"
    minutes = ",".join(f"{minute:02}" for minute in job.slots.minutes)
    command = " ".join(_quoted(argument) for argument in job.command)
    service = f"""\
# {WRITTEN_BY}
[Unit]
Description=kaggle-manager: one tick of {_plain(job.section)}

[Service]
Type=oneshot
WorkingDirectory={_plain(job.project)}
# env: systemd takes no program with a quote in its path. The colon: a dollar sign is a dollar sign.
ExecStart=:/usr/bin/env {command}
# {", ".join(map(str, PATIENT_CODES))}: no failure, the next tick continues.
SuccessExitStatus={" ".join(map(str, PATIENT_CODES))}
# A tick may download for long; one that hangs must not hold up all that follow. Being killed loses nothing.
TimeoutStartSec=6h
"""
    timer = f"""\
# {WRITTEN_BY}
[Unit]
Description=kaggle-manager: a tick of {_plain(job.section)} every {job.every}

[Timer]
OnCalendar=*-*-* {hours}:{minutes}:{job.slots.second:02}
Persistent=true

[Install]
WantedBy=timers.target
"""
    files = {folder / f"{job.name}.service": service.encode(), folder / f"{job.name}.timer": timer.encode()}
    return Entry(
        name=job.name,
        files=files,
        leftovers=(folder / f"timers.target.wants/{job.name}.timer",),
        activate=(
            "systemctl --user daemon-reload",
            f"systemctl --user enable --now {job.name}.timer",
            "loginctl enable-linger",
        ),
        deactivate=(f"systemctl --user stop {job.name}.timer", "systemctl --user daemon-reload"),
        words=f"""\
A systemd user timer runs one tick every {job.every}, and one at once when the machine was off or asleep at the time.
`loginctl enable-linger` lets it run while you are logged out and after a restart of the machine. What a tick says is
in the journal: journalctl --user -u {job.name}. When it comes next: systemctl --user list-timers.""",
    )


def _plain(value: str | Path) -> str:
    """A value that systemd reads to the end of its line; % introduces its specifiers."""
    return one_line(value, "A path of this run").replace("%", "%%")


def _quoted(argument: str) -> str:
    """One argument of a command line of systemd."""
    return '"' + _plain(argument).replace("\\", "\\\\").replace('"', '\\"') + '"'
