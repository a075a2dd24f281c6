"""The commands that messages name, each made here, so that it runs when it is typed and is about the tree it means.

Standard library only: this module travels into the session. Which options a command takes is held by a test to what
the command line accepts.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

PROGRAM = "km"
# Commands about a state folder and not about one tree of it, and those about a section with options of its own.
_OF_THE_FOLDER = ("status", "history", "dashboard")
_OF_A_SECTION = ("preflight", "report")


def quoted(argument: object) -> str:
    """An argument, such as a path with blanks, as a command line of this machine takes it."""
    text = str(argument)
    return subprocess.list2cmdline([text]) if os.name == "nt" else shlex.quote(text)


def command(name: str, *words: object, workdir: Path | None = None) -> str:
    """A command that is about no training tree: `command("init", "my_robot")`.

    Args:
        name: as it is typed, `checkpoints ls` for one of a group.
        words: its arguments and options; each is quoted where it must be.
        workdir: the folder whose runs it looks at; None: the project's own.
    """
    where = ["--workdir", workdir] if workdir else []
    return " ".join([PROGRAM, name, *map(quoted, (*words, *where))])


@dataclass(frozen=True)
class WhichTree:
    """The options by which a command is about one training tree.

    Attributes:
        scenario: None: the section's default.
        seed: of the training; None: the scenario's own.
        quick: the quick run's tree.
        workdir: below which the tree lies; None: the project itself.
    """

    section: str
    scenario: str | None = None
    seed: int | None = None
    quick: bool = False
    workdir: Path | None = None

    @property
    def words(self) -> str:
        """The same for a sentence: `cartpole, scenario balance, seed 3, quick`."""
        parts = [self.section, f"scenario {self.scenario}" if self.scenario else "", "quick" if self.quick else ""]
        return ", ".join(filter(None, [*parts[:2], "" if self.seed is None else f"seed {self.seed}", parts[2]]))

    def command(self, name: str, *words: object) -> str:
        """The command `name` about this tree; see `command`."""
        group = name.partition(" ")[0]
        if group in _OF_THE_FOLDER:
            return command(name, *words, workdir=self.workdir)
        options = self._options(with_tree=group not in _OF_A_SECTION)
        where = ["--workdir", self.workdir] if self.workdir else []
        return command(name, self.section, *options, *where, *words)

    def options(self, *, beside: WhichTree) -> str:
        """The options that name this tree where those of `beside`, of the same section, name that one."""
        its = replace(self, scenario=None) if self.scenario == beside.scenario else self
        return " ".join(map(quoted, its._options(with_tree=True)))

    def _options(self, *, with_tree: bool) -> list[object]:
        options: list[object] = ["--scenario", self.scenario] if self.scenario else []
        if with_tree:
            options += ["--seed", self.seed] if self.seed is not None else []
            options += ["--quick"] if self.quick else []
        return options
