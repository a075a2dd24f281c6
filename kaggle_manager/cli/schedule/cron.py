"""A line of the user's crontab."""

from __future__ import annotations

import shlex

from kaggle_manager.cli.schedule.entry import Entry, crontab_mark
from kaggle_manager.cli.schedule.job import TickJob, one_line
from kaggle_manager.errors import ConfigError

# Vixie cron and its descendants read at most 998 characters of a command (MAX_COMMAND in their cron.h).
LONGEST_COMMAND = 990


def entry(job: TickJob) -> Entry:
    """Everything goes to the log, so that cron has nothing to mail; cron itself does not look at exit codes.

    Raises:
        ConfigError: the paths hold a line break, or the line is longer than cron reads.
    """
    run = shlex.join(job.command)
    place, state, log = (shlex.quote(str(path)) for path in (job.project, job.state, job.log))
    # Cron starts all its jobs in the first second of a minute: hence the sleep.
    # A folder made on a bare mount point would be taken for the state of a run: only a run that is to begin makes it.
    made = "" if job.existing else f"mkdir -p {state} && "
    shell = f"sleep {job.slots.second}; cd {place} && {made}{run} >> {log} 2>&1{crontab_mark(job.name)}"
    # Cron would end the command at a bare % and give what follows to it as its input.
    command = one_line(shell, "A path of this run").replace("%", "\\%")
    if len(command) > LONGEST_COMMAND:
        raise ConfigError(
            f"The crontab line would be {len(command)} characters long, and cron reads at most {LONGEST_COMMAND}.",
            safe="nothing was written",
            next_step="use shorter paths, or choose systemd",
        )
    hours = ",".join(map(str, job.slots.hours)) or "*"
    return Entry(
        name=job.name,
        crontab_line=f"{','.join(map(str, job.slots.minutes))} {hours} * * * {command}",
        words=f"""\
Cron runs one tick every {job.every}, also when you are logged out and again after a restart of the machine; while the
machine sleeps nothing runs, and the next tick after it wakes continues. What a tick prints is added to
{job.log}. `--remove` finds the line by the name at its end.""",
    )
