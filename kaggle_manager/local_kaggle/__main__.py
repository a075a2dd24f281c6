"""`python -m kaggle_manager.local_kaggle serve --root DIR [--port N] [--faults FILE]` and `... stop --root DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.local_kaggle import launcher, server


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kaggle_manager.local_kaggle", description="The local Kaggle.")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="serve in the foreground")
    serving.add_argument("--port", type=int, default=0, help="TCP port; 0: the one used last, or a free one")
    serving.add_argument("--faults", type=Path, help="a plan of faults to play, see docs/local_kaggle.md")
    serving.add_argument(
        "--idle-exit", type=float, default=None, help="end after this many idle seconds (default: never)"
    )
    stopping = commands.add_parser("stop", help="end the server of a folder; running sessions continue")
    for command in (serving, stopping):
        command.add_argument("--root", type=Path, required=True, help="the folder of its state")
    arguments = parser.parse_args()
    try:
        if arguments.command == "serve":
            server.serve(arguments.port, arguments.root, faults=arguments.faults, idle_exit_s=arguments.idle_exit)
        elif not launcher.stop(arguments.root):
            print(f"No local Kaggle serves {arguments.root}.")
    except KaggleManagerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
