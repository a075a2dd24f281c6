"""`kaggle-manager` (short `km`): the command line. One module a group of commands; `common` is what they share.

Here is only what a console script calls: everything else is imported inside it, so that Ctrl-C meanwhile ends in a line
and not in a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console scripts; exits with the code of the command."""
    try:
        from kaggle_manager.cli.commands import call

        code = call(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)
