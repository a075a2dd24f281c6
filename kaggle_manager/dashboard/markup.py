"""HTML and SVG as values: every text and attribute is escaped where it goes in, so nothing can be forgotten. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

VOID = {"meta", "link", "input", "br", "hr"}


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Child = object
"""Markup, anything with a text, None for nothing, or an iterable of these."""


def h(tag: str, *children: Child, **attributes: object) -> Markup:
    """An element. `class_="x"` is class="x", `data_run="y"` data-run="y"; True is a bare attribute, None is none."""
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: Child) -> Markup:
    """Several children after each other."""
    return Markup("".join(map(_child, children)))


def _child(child: Child) -> str:
    if child is None or child is False:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, Iterable) and not isinstance(child, str | bytes):
        return join(*child)
    return escape(str(child))


def _attribute(name: str, value: object) -> str:
    name = name.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value), quote=True)}"'
