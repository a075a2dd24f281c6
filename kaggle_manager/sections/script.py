"""A scenario that is a script: any program that trains and keeps to the contract of docs/scripts.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, PositiveInt, StringConstraints

from kaggle_manager.sections.fields import Frozen, RelativePath, Scenario, StopWhen
from kaggle_manager.sections.imports import imported_files, imports_of
from kaggle_manager.sections.values import Refused

SAID = 'a file such as "train.py" or "train.ipynb", "-m package.module", or the words of a command such as '
SAID += '["torchrun", "--standalone", "train.py"]'
_SUFFIXES = (".py", ".ipynb")

Metric = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Unit = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z _-]{0,30}$")]


def _command(given: str | list[str]) -> str | list[str]:
    """The script, as section.toml has it."""
    if isinstance(given, list):
        if not given or not all(word and "\0" not in word for word in given):
            raise Refused("", given, SAID)
    elif given.startswith("-m "):
        if not all(part.isidentifier() for part in given[3:].strip().split(".")):
            raise Refused("", given, SAID)
    elif PurePosixPath(given).suffix not in _SUFFIXES or PurePosixPath(given).is_absolute() or ".." in given:
        raise Refused("", given, SAID)
    return given


class Best(Frozen):
    """By which metric of the script the best checkpoint is chosen, and whether a small or a large value is better."""

    metric: Metric
    mode: Literal["min", "max"] = "min"


class ScriptQuick(Frozen):
    """What `--quick` changes: it trains to `target`, with `arguments` where they are given."""

    target: PositiveInt = 2
    arguments: list[str] | None = None
    models: RelativePath


class ScriptScenario(Scenario):
    """A script that trains.

    `script` is a file relative to the section's folder or to the project, a module (`-m package.module`), or the words
    of a command; `arguments` come after it. It is done when it has saved `target` steps, which are called `unit`. What
    it imports of the project travels with it.
    """

    script: Annotated[str | list[str], AfterValidator(_command)]
    arguments: list[str] = []
    target: PositiveInt
    unit: Unit = "steps"
    best: Best | None = None
    stop_when: StopWhen = StopWhen()
    quick: ScriptQuick

    @property
    def save_every(self) -> None:
        """When to save is the script's."""
        return None

    @property
    def rollout(self) -> int:
        """Steps between two moments at which it can be saved, as far as the text says so."""
        return 1

    def overshoot(self, target: int) -> str:
        """As `ScenarioConfig.overshoot`: a script is told its target."""
        return ""

    @property
    def words(self) -> tuple[str, ...]:
        """The command, arguments included, as section.toml has it."""
        script = [self.script] if isinstance(self.script, str) else self.script
        return (*script, *self.arguments)

    @property
    def module(self) -> str:
        """The module that is run; '' for a file, or a command."""
        return self.script[3:].strip() if isinstance(self.script, str) and self.script.startswith("-m ") else ""

    def for_quick(self) -> ScriptScenario:
        """The scenario `--quick` trains: this one with its `quick` table applied. Idempotent."""
        quick = self.quick
        arguments = self.arguments if quick.arguments is None else quick.arguments
        return self.model_copy(
            update={"target": quick.target, "models": quick.models, "arguments": arguments, "stop_when": StopWhen()}
        )


def script_files(scenario: ScriptScenario, folder: Path, root: Path) -> list[str]:
    """Files of the project that the command names, and what these import of it; relative to `root`.

    Args:
        folder: the section's folder, where they are looked for first.
        root: the project.
    """
    if scenario.module:
        return imported_files(root, scenario.module)
    found: dict[str, None] = {}
    script = [scenario.script] if isinstance(scenario.script, str) else scenario.script
    for word in script:
        if (path := file_named(word, folder, root)) is not None:
            found[path.relative_to(root).as_posix()] = None
            found |= dict.fromkeys(_imported(path, root))
    return list(found)


def file_named(word: str, folder: Path, root: Path) -> Path | None:
    """The file of the project that a word of a command names; None for any other word."""
    path = PurePosixPath(word)
    if path.is_absolute() or ".." in path.parts or "\\" in word:
        return None
    return next((at / path for at in (folder, root) if path.parts and (at / path).is_file()), None)


def _imported(script: Path, root: Path) -> Sequence[str]:
    """What a script imports from beside itself, and from the project."""
    found: list[str] = []
    for module in imports_of(script):
        for place in dict.fromkeys((script.parent, root)):
            prefix = place.relative_to(root).as_posix()
            found += (file if prefix == "." else f"{prefix}/{file}" for file in imported_files(place, module))
    return found
