"""`schedule`: a run that continues by itself, also after a restart of the machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kaggle_manager.cli.common import JsonOption, print_json
from kaggle_manager.cli.schedule.means import ACCEPTED_EVERY, DEFAULT_EVERY, Means
from kaggle_manager.cli.selection import Training, as_command
from kaggle_manager.errors import ConfigError

if TYPE_CHECKING:
    from kaggle_manager.cli.schedule.entry import Entry
    from kaggle_manager.cli.schedule.job import TickJob


@as_command
def schedule(
    means: Annotated[Means, typer.Argument(help="Who calls `tick`: cron, systemd, windows or github.")],
    every: Annotated[str, typer.Option(help=f"Time between ticks: {ACCEPTED_EVERY}.")] = DEFAULT_EVERY,
    write: Annotated[bool, typer.Option("--write", help="Write it; without this it is only shown.")] = False,
    take_out: Annotated[bool, typer.Option("--remove", help="Remove what --write wrote.")] = False,
    package: Annotated[
        str | None,
        typer.Option(
            help="github: what the workflow installs this program from, as for pip: git+https://...@TAG, or . for a "
            "repository that contains it."
        ),
    ] = None,
    *,
    of: Training,
    as_json: JsonOption = False,
) -> None:
    """Call `tick` regularly from cron, systemd or GitHub Actions.

    Shows, writes or removes a schedule, also for the Windows task scheduler. Once the target is reached, a tick does
    nothing.

    Examples:

      km schedule section_7_6_rl_performance cron

      km schedule section_7_6_rl_performance systemd --every 30m --write

      km schedule section_7_6_rl_performance github --package git+https://HOST/OWNER/REPOSITORY@TAG --write

      km schedule section_7_6_rl_performance cron --remove
    """
    from kaggle_manager.cli.schedule.entry import install, remove
    from kaggle_manager.cli.schedule.job import tick_job
    from kaggle_manager.trees.current_run import is_begun

    if write and take_out:
        raise ConfigError("--write and --remove exclude each other.", next_step="give one of them")
    if package is not None and means is not Means.GITHUB:
        raise ConfigError("--package goes with github alone.", safe="nothing was written", next_step="leave it out")
    if package is None and means is Means.GITHUB and not take_out:
        raise ConfigError(
            "A runner of GitHub starts empty: --package must say what it installs this program from.",
            safe="nothing was written",
            next_step="add --package git+https://...@TAG, a wheel's path in the repository, or . where it holds "
            "this program",
        )
    existing = not take_out and any(is_begun(config) for config in of.members())
    job = tick_job(of.config(), every, seeds=of.seeds, max_sessions=of.max_sessions, existing=existing, package=package)
    entry = entry_for(job, means)
    changed = install(entry) if write else remove(entry) if take_out else []
    cautions = () if take_out or means is Means.GITHUB else job.cautions
    run_next = entry.deactivate if take_out else entry.activate
    for caution in cautions:
        print(f"caution: {caution}", file=sys.stderr)
    texts = {
        str(path): content.decode("utf-16" if path.suffix == ".xml" else "utf-8")
        for path, content in entry.files.items()
    }
    if as_json:
        print_json(
            {
                "schema": 1,
                "name": entry.name,
                "means": means.value,
                "crontab_line": entry.crontab_line,
                "files": texts,
                "changed": changed,
                "run_next": list(run_next),
                "words": entry.words,
                "cautions": list(cautions),
            }
        )
        return
    if take_out:
        print(f"removed: {', '.join(changed)}" if changed else f"nothing of {entry.name} was there")
    elif write:
        print(f"written: {', '.join(changed)}" if changed else "all of it was there already")
    else:
        _show(entry.crontab_line, texts)
    if not take_out:
        print(f"\n{entry.words}\nOnce the target is reached a tick does nothing and ends with 0.")
        if not existing and means is not Means.GITHUB:
            print(
                "There is no run yet: the first tick starts it. Once the run has started, run this command again so "
                "that ticks only continue it."
            )
    if run_next and (changed or not take_out):
        print("\nThen run:" if write or take_out else "\nAfter --write, run:")
        for line in run_next:
            print(f"  {line}")
    if not (write or take_out):
        print("\nNothing was written; --write does it.")


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


def _show(crontab_line: str, texts: dict[str, str]) -> None:
    if crontab_line:
        print(crontab_line)
    for path, text in texts.items():
        print(f"--- {path}\n{text}")
