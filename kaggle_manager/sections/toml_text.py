"""Values as section.toml writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def text_of(value: Any) -> str:
    """One value, on one line.

    Raises:
        TypeError: TOML has no such value; None is one.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:_}"
        case float():
            return _number(value)
        case str():
            return json.dumps(value, ensure_ascii=False)
        case list() | tuple():
            return f"[{', '.join(map(text_of, value))}]"
        case Mapping():
            inner = ", ".join(f"{_key(name)} = {text_of(part)}" for name, part in value.items())
            return f"{{ {inner} }}" if inner else "{}"
    raise TypeError(f"{value!r} is nothing that TOML can say")


def lines_of(table: Mapping[str, Any]) -> str:
    """A table, one line for each key."""
    return "".join(f"{_key(name)} = {text_of(value)}\n" for name, value in table.items())


def is_sayable(value: Any) -> bool:
    """Whether TOML has such a value."""
    try:
        text_of(value)
    except TypeError:
        return False
    return True


def _key(name: object) -> str:
    return str(name) if _BARE.fullmatch(str(name)) else json.dumps(str(name), ensure_ascii=False)


def _number(value: float) -> str:
    """The shorter one of its two forms: 0.99, 3e-4."""
    plain = repr(value)
    if "e" not in plain and "." not in plain:
        return plain  # inf, nan
    digits, _, exponent = f"{value:e}".partition("e")
    for places in range(18):
        digits = f"{value:.{places}e}".partition("e")[0]
        if float(f"{digits}e{exponent}") == value:
            break
    return min(plain, f"{digits}e{int(exponent)}", key=len)
