"""What the real command line makes of a line, without doing it."""

from __future__ import annotations

from functools import cache
from typing import Any

import typer


@cache
def _whole() -> Any:
    from kaggle_manager.cli.commands import app  # only where a command is looked at

    return typer.main.get_command(app)


def leaf_commands(node: Any = None, name: str = "") -> dict[str, Any]:
    """Every command by its name, those of groups as well."""
    node = node or _whole()
    below = getattr(node, "commands", None)
    found = {name: node} if below is None or node.invoke_without_command else {}
    for each, child in (below or {}).items():
        found |= leaf_commands(child, f"{name} {each}".strip())
    return found


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The command of a line, and the values of its options; raises what the command line would end with."""
    node, context = _whole(), _whole().make_context(words[0], words[1:])
    names: list[str] = []
    while getattr(node, "commands", None) and (rest := [*context._protected_args, *context.args]):
        name, node, rest = node.resolve_command(context, rest)
        names.append(name)
        context = node.make_context(name, list(rest), parent=context)
    return " ".join(names), context.params
