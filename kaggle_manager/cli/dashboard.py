"""`dashboard`: the runs as a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaggle_manager.cli.common import JsonOption, WorkdirOption, answer
from kaggle_manager.cli.selection import as_command
from kaggle_manager.errors import ConfigError


@as_command
def dashboard(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 0,
    html: Annotated[Path | None, typer.Option(help="Write the page into this one file instead of serving it.")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address and open nothing.")] = False,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the runs as a web page on this machine.

    The page updates itself; --html writes it to one file to keep or to send.

    Examples:

      km dashboard

      km dashboard --port 8765 --no-browser

      km dashboard --html runs.html
    """
    from kaggle_manager.config import state_folder
    from kaggle_manager.dashboard import serve, write_html

    if as_json and html is None:
        raise ConfigError("--json goes with --html alone.", next_step="give --html FILE, or read `status --json`")
    state = state_folder(workdir)
    if html is None:
        serve(state, port=port, open_browser=not no_browser)
    else:
        write_html(state, html)
        size = html.stat().st_size
        document = {"schema": 1, "file": str(html), "bytes": size}
        answer(document, [f"wrote {html} ({size:,} bytes)"], as_json=as_json)
