"""Commands that carry a run on or end it: `run`, `tick`, `stop`, `download`, `adopt`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from kaggle_manager.cli.common import AcceptOption, JsonOption, SessionOption, TrustOption, print_json, reporter
from kaggle_manager.cli.other_trees import another_tree_may_be_meant
from kaggle_manager.cli.selection import RunOf, Training, as_command
from kaggle_manager.errors import ConfigError, NotFinished, NotFound
from kaggle_manager.status.report import REPORT_SCHEMA
from kaggle_manager.system.formatting import count

if TYPE_CHECKING:
    from kaggle_manager.config import RunConfig
    from kaggle_manager.console.reporter import Reporter
    from kaggle_manager.orchestrator.campaign import Campaign


@dataclass(frozen=True)
class Asked(Training):
    """What `run` and `tick` train."""

    quick: Annotated[
        bool,
        typer.Option("--quick", help="Smoke test: a few timesteps over two sessions, in a separate directory."),
    ] = False
    trust: TrustOption = False
    accept_changes: AcceptOption = False
    image: Annotated[
        str | None,
        typer.Option("--image", help="latest: use the newest docker image from the next session on."),
    ] = None

    def settings_told(self, shown: Reporter) -> AbstractContextManager[None]:
        """Read the settings inside: what cannot be read is told where a run depends on it."""
        from kaggle_manager.notify.notifier import Notifier
        from kaggle_manager.orchestrator.command import settings_told

        return settings_told(self.section, self.workdir, Notifier.from_environment(warn=shown.warn), about=repr(self))

    def campaign(self, shown: Reporter) -> Campaign:
        """The first `seeds` training seeds as one campaign."""
        from kaggle_manager.orchestrator.campaign import Campaign

        return Campaign(self.manager(shown), self.members(), shown, self.max_sessions)


@as_command
def run(
    demo: Annotated[
        bool, typer.Option("--demo", help="Run the section's demonstration over short sessions, with its report.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start from zero; the old checkpoints are archived.")] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write the section's report once the target is reached.")
    ] = True,
    *,
    of: Asked,
    as_json: JsonOption = False,
) -> None:
    """Train a section to its target, or resume its run.

    It takes as many sessions as needed: each one is pushed, watched, downloaded and verified; the next continues.
    Run the same command again to resume after any interruption. An unfinished run keeps the target and session limit it
    was started with, unless an option, a variable or a changed section.toml says otherwise.

    Examples:

      km run --quick

      km run --timesteps 3000 --session-limit 60s --platform local

      km run section_7_6_rl_performance --seeds 5
    """
    from kaggle_manager.orchestrator.demo import demonstrate
    from kaggle_manager.orchestrator.final_report import write_final_report

    with reporter(as_json) as shown:
        if demo:
            _check_demo_alone(of, fresh)
            done = demonstrate(of.section, shown, platform=of.platform, workdir=of.workdir)
            if as_json:
                print_json(done.as_json())
            return
        with of.settings_told(shown):
            config = of.config(fresh=fresh)
            if of.seeds is not None and fresh:
                raise ConfigError(
                    "--seeds and --fresh exclude each other.", safe="nothing was started", next_step="give one of them"
                )
            campaign = of.campaign(shown) if of.seeds is not None else None
        if campaign is not None:
            document = campaign.run().as_json()
        else:
            document = of.manager(shown).run_validation_section(config).as_json()
        if as_json:
            print_json(document)
        if report and not of.quick:
            write_final_report(config, shown)


def _check_demo_alone(of: Asked, fresh: bool) -> None:
    """Refuse what would change the demonstration that the section declares."""
    settings = ("timesteps", "session_limit", "quota_per_week", "seed", "seeds", "image")
    values = {name: getattr(of, name) for name in ("quick", "scenario", *settings)} | {"fresh": fresh}
    given = [name for name, value in values.items() if value is not None and value is not False]  # a seed may be 0
    if given:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(
            f"--demo does not go with {options}: the section declares what it trains.",
            safe="nothing was started",
            next_step="give one or the other",
        )


@as_command
def tick(
    existing: Annotated[
        bool,
        typer.Option("--existing", help="Only continue a run; never start one. What a schedule uses."),
    ] = False,
    *,
    of: Asked,
    as_json: JsonOption = False,
) -> None:
    """Do what can be done for a run now, without waiting.

    For cron and other schedulers. Exits with 0 when the target is reached and 8 when it is not yet; 5 and 6 when the
    quota or the platform must be waited for, 10 when another command is working on the run; anything else needs you.
    With --existing, 9 says that there is no run here, for example because the disk of --workdir is not mounted.

    Examples:

      km tick

      km tick section_7_6_rl_performance --json
    """
    with reporter(as_json) as shown:
        with of.settings_told(shown):
            config = of.config()
            campaign = of.campaign(shown) if of.seeds is not None else None
        if existing:
            _check_begun(of.members())
        if campaign is not None:
            campaign.round()
            document, finished = campaign.overview().as_json(), campaign.is_finished()
        else:
            report = of.manager(shown).tick(config)
            shown.line(f"{report.state}: {report.why}")
            document, finished = report.as_json(), report.state == "finished"
        if as_json:
            print_json(document)
    if not finished:
        raise typer.Exit(NotFinished.exit_code)


def _check_begun(configs: Sequence[RunConfig]) -> None:
    """Refuse to begin a run, before anything is made: a folder on a bare mount point would hide that its disk is away.

    Raises:
        NotFound: the journal knows a run of none of these trees, or is not there.
    """
    from kaggle_manager.trees.current_run import is_begun

    if not any(is_begun(config) for config in configs):
        config = configs[0]
        raise NotFound(
            f"There is no run of {config.tree} to continue: the journal {config.journal} "
            + ("knows none." if config.journal.is_file() else "is not there."),
            safe="nothing was made and nothing was started",
            next_step=f"check that the disk of {config.state} is mounted; to start a run: {config.command('run')}",
        )


@as_command
def stop(
    delete: Annotated[bool, typer.Option("--delete", help="Delete its sessions on the platform as well.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without this, only show what would be deleted.")] = False,
    *,
    of: RunOf,
    as_json: JsonOption = False,
) -> None:
    """Stop a run: start no further session, end the running one.

    The running session is ended where the platform can do that. `run` resumes the run later.

    Examples:

      km stop

      km stop section_7_6_rl_performance --delete --yes
    """
    from kaggle_manager.orchestrator.stop import journal_to_stop, stop_run
    from kaggle_manager.sessions.connection import connect

    with reporter(as_json) as shown:
        config = of.config()
        with journal_to_stop(config.journal) as (journal, refused), another_tree_may_be_meant(of):
            stopped = stop_run(config, connect, journal, shown, time.time(), delete=delete and yes, refused=refused)
        if as_json:
            print_json({"schema": REPORT_SCHEMA, **asdict(stopped)})
        shown.line(f"run {stopped.run_id} is stopped: {stopped.words}")
        if delete and not yes:
            shown.line("its sessions on the platform, with every output, are deleted with --delete --yes")


@as_command
def download(
    session: SessionOption = None,
    run: Annotated[str | None, typer.Option(help="Id of a run that was given up, for example by --fresh.")] = None,
    *,
    of: RunOf,
    as_json: JsonOption = False,
) -> None:
    """Download and verify a session's output again.

    The checkpoints here are not touched: the output is kept in the state folder.

    Example:

      km download --session 2
    """
    with reporter(as_json) as shown:
        with another_tree_may_be_meant(of):
            downloaded = of.manager(shown).download_outputs(of.config(), session, run_id=run)
        folder = downloaded.folder
        files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        if as_json:
            print_json({"schema": REPORT_SCHEMA, "folder": str(folder), "files": files})
        shown.line(f"{count(len(files), 'file')} in {folder}, verified")


@as_command
def adopt(
    run_id: Annotated[str, typer.Argument(help="Id of the run, as `status` or the log of a session shows it.")],
    *,
    of: RunOf,
    as_json: JsonOption = False,
) -> None:
    """Adopt a run that another machine started.

    The credentials and the run's id are enough. Nothing is started; `run` or `tick` resumes it here.

    Example:

      km adopt section_7_6_rl_performance 54e9ec588cf649eea9a33149a339b284
    """
    with reporter(as_json) as shown:
        adopted = of.manager(shown).adopt(of.config(), run_id)
        if as_json:
            print_json({"schema": REPORT_SCHEMA, **asdict(adopted)})
