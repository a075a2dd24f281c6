#!/usr/bin/env python3
"""docs/api.md, made from the signatures and docstrings of the public names: `kaggle_manager.__all__`.

python scripts/make_api_reference.py              # writes docs/api.md
python scripts/make_api_reference.py --check      # ends with 1 when it is not what the code says
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kaggle_manager
from kaggle_manager import KaggleManagerError

PAGE = Path(__file__).resolve().parents[1] / "docs/api.md"
INTRODUCTION = """\
# Python API

The public names of `kaggle_manager`. This page is made from the code by `python scripts/make_api_reference.py`; a test
fails when it is not what the code says. Any other name in the package may change without notice; the other commands
are for the [command line](cli.md), where `--json` gives [documents with a schema](json.md).

A public name is imported when it is first used. None of them imports torch or Stable-Baselines3, and
`import kaggle_manager` alone imports nothing.

Train a section to its target; run this in the folder of a project, such as a checkout of this repository:

```python
from pathlib import Path

from kaggle_manager import KaggleManagerError, ValidationKaggleManager

manager = ValidationKaggleManager(platform="local", workdir=Path("runs"))
try:
    report = manager.run_validation_section("section_7_6_rl_performance", quick=True)
except KaggleManagerError as error:
    raise SystemExit(f"{error}\\n(exit code {error.exit_code})")
print(report.state, report.step, [session.why for session in report.sessions])
```

Find what it left, without asking any platform:

```python
from pathlib import Path

from kaggle_manager import build_config, find_latest_checkpoint

config = build_config("section_7_6_rl_performance", workdir=Path("runs"), quick=True)
checkpoint = find_latest_checkpoint(config.tree, config.scenario_name)
if checkpoint is not None:
    print(checkpoint.step, checkpoint.model_path)  # `DQN.load(checkpoint.model_path)` opens it
```
"""
ERRORS = """\
## Errors

Every error raised on purpose is a `KaggleManagerError`. The message says what happened; `safe` and `next_step` say what
was not lost and what to do next. Errors of one kind share an [exit code](cli.md#exit-codes). *Try again* marks those
that time alone may help (`retryable`).
"""


def page() -> str:
    """The whole page."""
    things = {name: getattr(kaggle_manager, name) for name in kaggle_manager.__all__ if name != "__version__"}
    errors = [each for each in tree(KaggleManagerError) if things.get(each.__name__) is each]
    parts = [INTRODUCTION]
    for name, thing in things.items():
        if thing not in errors:
            parts += described(name, thing)
    parts += [ERRORS, "| error | a kind of | exit code | try again | |\n|---|---|---|---|---|"]
    parts += map(error_row, errors)
    parts.append("")
    for each in errors:
        if "__init__" in vars(each):  # it carries more than its base does
            parts += described(each.__name__, each, level=3)
    return "\n".join(parts)


def tree(error: type[KaggleManagerError]) -> Iterator[type[KaggleManagerError]]:
    """An error and every kind of it, each before its own kinds."""
    yield error
    for each in error.__subclasses__():
        yield from tree(each)


def error_row(error: type[KaggleManagerError]) -> str:
    first_line = (error.__doc__ or "").splitlines()[0]
    cells = (
        f"`{error.__name__}`",
        f"`{error.__base__.__name__}`",
        error.exit_code,
        "yes" * error.retryable,
        first_line,
    )
    return f"| {' | '.join(map(str, cells))} |"


def described(name: str, thing: Any, level: int = 2) -> Iterator[str]:
    """Heading, signature and docstring; of a class, its documented properties and methods as well."""
    mark = "#" * level
    yield f"{mark} {name}\n"
    yield f"```python\n{signature(name, thing)}\n```\n"
    yield from explained(thing)
    if not inspect.isclass(thing):
        return
    public = {member: value for member, value in vars(thing).items() if not member.startswith("_")}
    properties = {member: each for member, each in public.items() if isinstance(each, property) and each.__doc__}
    if properties:
        yield "\n".join(f"- `.{member}`: {first_sentence(each)}" for member, each in properties.items()) + "\n"
    for member, function in public.items():
        # What is only inherited or made by a decorator has no docstring of its own here.
        if inspect.isfunction(function) and function.__doc__:
            yield f"{mark}# {name}.{member}\n\n```python\n{signature(member, function)}\n```\n"
            yield from explained(function)


def first_sentence(documented: Any) -> str:
    return " ".join(inspect.cleandoc(documented.__doc__).split("\n\n")[0].split())


def explained(thing: Any) -> Iterator[str]:
    """A docstring: its sentences as sentences; arguments, attributes and errors as they stand."""
    paragraphs = inspect.cleandoc(thing.__doc__).split("\n\n")
    is_list = [bool(re.match(r"\w+:\n ", each)) for each in paragraphs]
    prose = is_list.index(True) if True in is_list else len(paragraphs)
    for each in paragraphs[:prose]:
        yield f"{' '.join(each.split())}\n"
    if paragraphs[prose:]:
        yield "```text\n" + "\n\n".join(paragraphs[prose:]) + "\n```\n"


def signature(name: str, thing: Any) -> str:
    given = inspect.signature(thing)
    parameters = [each for each in given.parameters.values() if each.name != "self"]
    returns = "" if inspect.isclass(thing) or given.return_annotation is inspect.Signature.empty else returned(given)
    shown = ", ".join(_parameters(parameters))
    if len(name + shown + returns) > 100 and parameters:
        shown = "\n" + "".join(f"    {each},\n" for each in _parameters(parameters))
    return f"{'class ' * inspect.isclass(thing)}{name}({shown}){returns}"


def returned(given: inspect.Signature) -> str:
    return f" -> {_in_words(given.return_annotation)}"


def _parameters(parameters: list[inspect.Parameter]) -> Iterator[str]:
    starred = False
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY and not starred:
            yield "*"
        starred = starred or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        mark = "*" if each.kind is each.VAR_POSITIONAL else "**" if each.kind is each.VAR_KEYWORD else ""
        annotation = "" if each.annotation is each.empty else f": {_in_words(each.annotation)}"
        default = "" if each.default is each.empty else f" = {_default(each.default)}"
        yield f"{mark}{each.name}{annotation}{default}"


def _in_words(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _default(value: Any) -> str:
    """A default as it is written, without addresses or folders of this machine."""
    if inspect.isroutine(value):
        return "..." if value.__name__ == "<lambda>" else value.__name__
    if value is None or isinstance(value, bool | int | float | str | tuple):
        return repr(value)
    return "..."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when the page is stale")
    options = parser.parse_args()
    if options.check:
        return int(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
