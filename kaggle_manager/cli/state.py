"""Commands that look: `status`, `history`, `forecast`, `logs`. They start nothing and change nothing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kaggle_manager.cli.common import AnySection, JsonOption, QuotaOption, SessionOption, WorkdirOption, answer
from kaggle_manager.cli.other_trees import another_tree_may_be_meant
from kaggle_manager.cli.selection import RunOf, as_command
from kaggle_manager.errors import NotFound
from kaggle_manager.system.command_line import command

if TYPE_CHECKING:
    from kaggle_manager.runs.journal import Journal
    from kaggle_manager.status.report import RunReport


@as_command
def status(
    section: AnySection = None,
    scenario: Annotated[str | None, typer.Option("--scenario", help="Scenario; all of them when absent.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Training seed; all of them when absent.", min=0)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Quick runs only, finished ones included.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Include quick runs that are finished.")] = False,
    watch: Annotated[float | None, typer.Option(help="Print it again every N seconds.", min=1.0)] = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where the runs stand and what comes next.

    Works offline: it reads the journal and the manifests of the checkpoints; `checkpoints verify` reads every byte. A
    finished quick run is left out if there is another run to show.

    Examples:

      km status

      km status section_7_6_rl_performance --quick

      km status --json --watch 60
    """
    from kaggle_manager.status.overview import overview

    while True:
        with _journal(workdir) as journal:
            seen = overview(journal, section, time.time())
        _known(section, seen.runs)
        seen = seen.only(scenario=scenario, seed=seed, quick=quick)
        if not (quick or every):
            seen = seen.without_old_quick_runs()
        if as_json:
            print(json.dumps(seen.as_json(), indent=None if watch else 2), flush=True)
        else:
            print("\n".join(seen.lines()), flush=True)
        if watch is None:
            return
        time.sleep(watch)


@as_command
def history(
    section: AnySection = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option(help="Two run ids (or their beginnings): what differs between them.")
    ] = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List every session: why it ended, what it gained and cost.

    Examples:

      km history

      km history --compare 54e9ec 8a01bc
    """
    from kaggle_manager.status.history import Comparison, History
    from kaggle_manager.status.run_status import describe_all

    seen: Comparison | History
    with _journal(workdir) as journal:
        runs = [run for run in describe_all(journal, time.time()) if section in (None, run.section)]
        _known(section, runs)
        seen = History(tuple(runs))
        if compare is not None:
            seen = Comparison.of(*(_by_id(runs, run_id, journal.path.parent) for run_id in compare))
        answer(seen.as_json(), seen.lines(), as_json=as_json)


@as_command
def forecast(
    timesteps: Annotated[
        int | None, typer.Option(help="Another target than the run's own. [env var: KM_TIMESTEPS]")
    ] = None,
    session_limit: Annotated[
        str | None, typer.Option(help="Longest session, e.g. 60s, 90m, 11h30m. [env var: KM_SESSION_LIMIT]")
    ] = None,
    quota_per_week: QuotaOption = None,
    *,
    of: RunOf,
    as_json: JsonOption = False,
) -> None:
    """Forecast when the target will be reached.

    Computed from the speed of earlier sessions and the quota, with the length of the next session. Starts nothing.

    Example:

      km forecast --timesteps 5000000
    """
    from kaggle_manager.runs.journal import Journal
    from kaggle_manager.sessions.connection import connect
    from kaggle_manager.status.forecast import forecast_run

    config = of.config(timesteps=timesteps, session_limit=session_limit, quota_per_week=quota_per_week)
    with closing(Journal.to_read(config.journal)) as journal:
        seen = forecast_run(config, connect, journal, time.time())
    answer(seen.as_json(), seen.lines(), as_json=as_json)


@as_command
def logs(
    session: SessionOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep printing what comes, until the session ends.")
    ] = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", help="Only the last N lines.", min=0)] = None,
    *,
    of: RunOf,
) -> None:
    """Print the log of a session.

    For a running session, what it has printed so far, read from the platform; for one that ended, the log
    downloaded with its output.

    Examples:

      km logs --tail 50

      km logs --follow

      km logs --session 3
    """
    from kaggle_manager.console.reporter import Reporter
    from kaggle_manager.runs.journal import Journal
    from kaggle_manager.sessions.connection import connect
    from kaggle_manager.status.session_log import session_log

    with Reporter(sys.stderr) as shown:
        config = of.config()
        with closing(Journal.to_read(config.journal)) as journal, another_tree_may_be_meant(of):
            found = session_log(config, journal, session, follow=follow, tail=tail, connect_to=connect, reporter=shown)
            for line in found:
                print(line, flush=True)


def _known(section: str | None, runs: Sequence[RunReport]) -> None:
    """Refuse the name of a section that never ran here and does not exist; runs outlive the folder of theirs."""
    if section is not None and not runs:
        from kaggle_manager.sections.project import find_project, get_section

        get_section(find_project(Path.cwd(), section), section)


def _by_id(runs: list[RunReport], given: str, state: Path) -> RunReport:
    from kaggle_manager.config import workdir_of

    found = [run for run in runs if run.run_id.startswith(given)]
    if len(found) != 1:
        raise NotFound(
            f"{len(found) or 'No'} run{'s' * (len(found) != 1)} of this folder begin with {given!r}.",
            next_step=f"choose from: {command('history', workdir=workdir_of(state))}",
        )
    return found[0]


@contextmanager
def _journal(workdir: Path | None) -> Iterator[Journal]:
    from kaggle_manager.config import state_folder
    from kaggle_manager.runs.journal import Journal

    with closing(Journal.to_read(state_folder(workdir) / "journal.sqlite")) as journal:
        yield journal
