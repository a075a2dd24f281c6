"""`local-kaggle`: the local Kaggle, run by hand."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kaggle_manager.cli.common import JsonOption, group, print_json
from kaggle_manager.cli.selection import as_command

DEFAULT_ROOT = Path(".kaggle_manager/local_kaggle")
local_kaggle = group("local-kaggle", "Run the local Kaggle by hand.")


@local_kaggle.command()
@as_command
def serve(
    root: Annotated[Path, typer.Option(help="Folder of its state; made when missing.")] = DEFAULT_ROOT,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 lets the system choose.", min=0, max=65535)] = 0,
    faults: Annotated[Path | None, typer.Option(help="Plan of faults; see docs/local_kaggle.md.")] = None,
) -> None:
    """Serve the local Kaggle until Ctrl-C.

    Examples:

      km local-kaggle serve --port 18080 --root /tmp/kaggle

      km local-kaggle serve --port 18080 --root /tmp/kaggle --faults bad_day.toml
    """
    from kaggle_manager.local_kaggle.server import serve as serve_local_kaggle

    serve_local_kaggle(port=port, root=root, faults=faults)


@local_kaggle.command()
@as_command
def stop(root: Annotated[Path, typer.Option(help="Folder of its state.")] = DEFAULT_ROOT) -> None:
    """Stop a local Kaggle that runs in the background.

    Example:

      km local-kaggle stop --root /tmp/kaggle
    """
    from kaggle_manager.local_kaggle.launcher import stop as stop_local_kaggle

    stopped = stop_local_kaggle(root)
    print("stopped" if stopped else f"no local Kaggle is running in {root}")


@local_kaggle.command()
@as_command
def demo(as_json: JsonOption = False) -> None:
    """Show in seconds what it can do.

    The official `kaggle` command pushes a kernel to it and downloads its output.

    Example:

      km local-kaggle demo
    """
    from kaggle_manager.local_kaggle.demo import Shown
    from kaggle_manager.local_kaggle.demo import demo as show_local_kaggle

    def show(shown: Shown) -> None:
        print(f"$ {shown.command}\n{shown.printed}\n", file=sys.stderr if as_json else sys.stdout, flush=True)

    commands = show_local_kaggle(show)
    if as_json:
        print_json({"schema": 1, "commands": [asdict(shown) for shown in commands]})
