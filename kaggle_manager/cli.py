"""`kaggle-manager` (short `km`): the command line.

Data goes to stdout, everything else to stderr when `--json` is given. Every error of the tree in `errors.py` becomes
its message and its exit code; a traceback is shown only for a defect of this program.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from kaggle_manager import __version__
from kaggle_manager.errors import ConfigError, KaggleManagerError
from kaggle_manager.progress import Reporter
from kaggle_manager.report import error_as_json

app = typer.Typer(
    name="kaggle-manager",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train a Stable-Baselines3 agent to N timesteps over any number of Kaggle sessions, with nothing lost.",
)
local_kaggle = typer.Typer(no_args_is_help=True, help="The Kaggle that runs on this machine.")
app.add_typer(local_kaggle, name="local-kaggle")
checkpoints = typer.Typer(no_args_is_help=True, help="What to do with checkpoints.")
app.add_typer(checkpoints, name="checkpoints")
selftest = typer.Typer(no_args_is_help=True, help="Proofs that run on this machine.")
app.add_typer(selftest, name="selftest")

EXCHANGE = "kernels.rl_training.sb3_exchange"
Section = Annotated[str, typer.Option(help="Section whose training it is.")]
Workdir = Annotated[
    Path | None, typer.Option(help="Everything the run writes goes below this folder.", envvar="KM_WORKDIR")
]


@app.command()
def run(
    section: Annotated[str, typer.Argument(help="Section to train, e.g. section_7_6_rl_performance.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="2 timesteps over two sessions: the whole circle, in a tree of its own.")
    ] = False,
    scenario: Annotated[str | None, typer.Option(help="Scenario; the section's default when absent.")] = None,
    timesteps: Annotated[int | None, typer.Option(help="Timesteps in all, over every session.")] = None,
    session_limit: Annotated[str | None, typer.Option(help="Longest session: 60s, 90m, 11h30m. [default: 12h]")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start from zero; the old tree is set aside.")] = False,
    platform: Annotated[
        str | None, typer.Option(help="auto (Kaggle when credentials are there), local or kaggle.")
    ] = None,
    workdir: Workdir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON on stdout, progress on stderr.")] = False,
) -> None:
    """Train a section to its target, session after session.

    Examples:

      kaggle-manager run section_7_6_rl_performance --quick

      kaggle-manager run section_7_6_rl_performance --timesteps 3000 --session-limit 60s --platform local
    """
    from kaggle_manager.manager import ValidationKaggleManager

    with _errors_as_messages(as_json=as_json), Reporter(sys.stderr if as_json else sys.stdout) as reporter:
        manager = ValidationKaggleManager(platform=platform, workdir=workdir, reporter=reporter)
        report = manager.run_validation_section(
            section, scenario=scenario, timesteps=timesteps, quick=quick, session_limit=session_limit, fresh=fresh
        )
    if as_json:
        print(report.to_json())


@app.command()
def restore(
    section: Annotated[str, typer.Argument(help="Section whose training tree is put back.")],
    source: Annotated[Path, typer.Option("--from", help="The copy: a downloaded, replaced or archived tree.")],
    scenario: Annotated[str | None, typer.Option(help="Scenario; the section's default when absent.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The quick run's tree, not the production one.")] = False,
    workdir: Workdir = None,
) -> None:
    """Put a kept copy of a training tree in its place again; what is there is archived.

    Example:

      kaggle-manager restore section_7_6_rl_performance --from .kaggle_manager/archive/<tree>
    """
    from kaggle_manager.manager import ValidationKaggleManager

    with _errors_as_messages(), Reporter() as reporter:
        manager = ValidationKaggleManager(workdir=workdir, reporter=reporter)
        manager.restore_copy(section, source, scenario=scenario, quick=quick)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def report(
    context: typer.Context,
    section: Annotated[str, typer.Argument(help="Section to report, e.g. section_7_6_rl_performance.")],
) -> None:
    """Write a section's report from its run's own data: figures, tables, LaTeX. Options are the section's.

    Examples:

      kaggle-manager report section_7_6_rl_performance --lang en

      kaggle-manager report section_7_6_rl_performance --check
    """
    from kaggle_manager.config import PROJECT_ROOT
    from kaggle_manager.section import SECTIONS_FOLDER, get_section

    with _errors_as_messages():
        get_section(PROJECT_ROOT, section)  # an unknown one lists those there are
        module = f"{SECTIONS_FOLDER}.{section}.report.__main__"
        _run_module(module, context.args, needed_for=f"the report of {section}")


@selftest.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def exactness(context: typer.Context) -> None:
    """Prove on this machine that a training killed at random moments ends with the bits of one never cut.

    Examples:

      kaggle-manager selftest exactness

      kaggle-manager selftest exactness --algo dqn ppo --kills 3
    """
    with _errors_as_messages():
        _run_module("kernels.rl_training.selftest", context.args, needed_for="the self-test")


@checkpoints.command("export-sb3")
def export_sb3(
    which: Annotated[str, typer.Argument(help="Timesteps of a checkpoint, or `latest`.")],
    folder: Annotated[Path, typer.Argument(help="Where the two files are written.")],
    section: Section = "section_7_6_rl_performance",
    scenario: Annotated[str | None, typer.Option(help="Scenario; the section's default when absent.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The quick run's tree, not the production one.")] = False,
    workdir: Workdir = None,
) -> None:
    """Write a checkpoint as a model and a replay buffer that stock Stable-Baselines3 loads.

    Example:

      kaggle-manager checkpoints export-sb3 latest exported
    """
    from kaggle_manager.config import build_config

    with _errors_as_messages():
        if which != "latest" and not which.isdecimal():
            raise ConfigError(f"{which!r} is no checkpoint; timesteps such as 45000, or latest, are accepted.")
        config = build_config(section, scenario=scenario, quick=quick, workdir=workdir)
        step = [] if which == "latest" else ["--step", which]
        tree = ["--tree", str(config.tree), "--scenario", config.scenario_name]
        _run_module(EXCHANGE, ["export", str(folder), *tree, *step], needed_for="the export")


@checkpoints.command("import-sb3")
def import_sb3(
    model: Annotated[Path, typer.Argument(help="Model saved by stock Stable-Baselines3.")],
    replay_buffer: Annotated[Path | None, typer.Option(help="Its replay buffer, as stock saves it.")] = None,
    section: Section = "section_7_6_rl_performance",
    scenario: Annotated[str | None, typer.Option(help="Scenario; the section's default when absent.")] = None,
    workdir: Workdir = None,
) -> None:
    """Begin a training tree from such files, saying what exactness they do not hold.

    Example:

      kaggle-manager checkpoints import-sb3 model.zip --replay-buffer buffer.pkl --workdir elsewhere
    """
    options = {"--replay-buffer": replay_buffer, "--section": section, "--scenario": scenario, "--workdir": workdir}
    given = [text for name, value in options.items() if value is not None for text in (name, str(value))]
    with _errors_as_messages():
        _run_module(EXCHANGE, ["import", str(model), *given], needed_for="the import")


def _run_module(name: str, arguments: list[str], *, needed_for: str) -> None:
    """Call `main(arguments)` of a module that the core installation may lack, or lack the libraries of."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{needed_for[0].upper()}{needed_for[1:]} needs {error.name}, which is not here.",
            next_step="install the training libraries: pip install 'kaggle-manager[train]'",
        ) from error
    raise typer.Exit(module.main(arguments))


@local_kaggle.command()
def serve(
    root: Annotated[Path, typer.Option(help="Folder of its state; made when missing.")] = Path(
        ".kaggle_manager/local_kaggle"
    ),
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 lets the system choose.", min=0, max=65535)] = 0,
    faults: Annotated[Path | None, typer.Option(help="Plan of faults; see docs/local_kaggle.md.")] = None,
) -> None:
    """Serve the local Kaggle in the foreground until Ctrl-C.

    Examples:

      kaggle-manager local-kaggle serve --port 18080 --root /tmp/kaggle

      kaggle-manager local-kaggle serve --port 18080 --root /tmp/kaggle --faults bad_day.toml
    """
    from kaggle_manager.local_kaggle.server import serve as serve_local_kaggle

    with _errors_as_messages():
        serve_local_kaggle(port=port, root=root, faults=faults)


@local_kaggle.command()
def stop(
    root: Annotated[Path, typer.Option(help="Folder of its state.")] = Path(".kaggle_manager/local_kaggle"),
) -> None:
    """Stop a local Kaggle that was started in the background.

    Example:

      kaggle-manager local-kaggle stop --root /tmp/kaggle
    """
    from kaggle_manager.local_kaggle.launcher import stop as stop_local_kaggle

    with _errors_as_messages():
        stopped = stop_local_kaggle(root)
        print("stopped" if stopped else f"no local Kaggle is running in {root}")


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@contextlib.contextmanager
def _errors_as_messages(*, as_json: bool = False) -> Iterator[None]:
    try:
        yield
    except KaggleManagerError as error:
        if as_json:
            print(error_as_json(error))
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(130) from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console scripts; exits with the code of the command."""
    for stream in (sys.stdout, sys.stderr):
        # A Windows console must not turn a character of a log into an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    app(args=list(arguments) if arguments is not None else None)


if __name__ == "__main__":
    main()
