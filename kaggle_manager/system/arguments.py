"""Options of the programs that a command passes them on to: an invalid one is reported as by every command."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from kaggle_manager.errors import ConfigError


class ArgumentParser(argparse.ArgumentParser):
    """`argparse`'s, with what is wrong, what is safe and the next command instead of the usage; options are whole."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        wrong = ConfigError(
            f"{message[:1].upper()}{message[1:]}.", safe="nothing was started", next_step=f"{self.prog} --help"
        )
        print(f"error: {wrong}", file=sys.stderr)
        self.exit(wrong.exit_code)
