"""Pieces every part of the page is made of: tables that fold on a phone, facts, moments, progress. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from kaggle_manager.console.formatting import epoch, iso
from kaggle_manager.dashboard.markup import Child, Markup, h

NONE = "–"


def when(moment: str | float | None) -> Child:
    """A moment where the reader is, to the minute; an ISO text or seconds since the epoch."""
    if moment is None:
        return NONE
    seconds = epoch(moment) if isinstance(moment, str) else moment
    local = datetime.fromtimestamp(seconds, UTC).astimezone()
    return h("time", f"{local.day} {local:%b} {local:%H:%M}", datetime=iso(seconds))


def hours(seconds: float | None) -> str:
    """Accelerator time: `3.25 h`, or minutes and seconds below an hour."""
    if seconds is None:
        return NONE
    if seconds >= 3600:
        return f"{seconds / 3600:.2f} h"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s" if seconds >= 60 else f"{seconds:.0f} s"


def steps(count: int | None) -> str:
    return NONE if count is None else f"{count:,}"


def sha(digest: str | None) -> Child:
    """The beginning of a hash, the whole of it for whoever asks."""
    return h("code", digest[:10], title=digest) if digest else NONE


def facts(pairs: Sequence[tuple[str, Child]], *, class_: str = "facts") -> Markup:
    """Names with their values."""
    return h("dl", [h("div", h("dt", name), h("dd", value)) for name, value in pairs], class_=class_)


def table(
    caption: str, heads: Sequence[str], rows: Sequence[Sequence[Child]], *, numbers: Sequence[int] = ()
) -> Markup:
    """A table whose rows become blocks of names and values where there is no room. `numbers`: columns set right."""
    # The roles are said because a table displayed as blocks would lose them.
    names = [
        h("th", name, scope="col", role="columnheader", class_=_number(i, numbers)) for i, name in enumerate(heads)
    ]
    body = [
        h(
            "tr",
            [h("td", cell, role="cell", data_label=heads[i], class_=_number(i, numbers)) for i, cell in enumerate(row)],
            role="row",
        )
        for row in rows
    ]
    return h(
        "table",
        h("caption", caption),
        h("thead", h("tr", names, role="row"), role="rowgroup"),
        h("tbody", body, role="rowgroup"),
        role="table",
    )


def _number(index: int, numbers: Sequence[int]) -> str | None:
    return "number" if index in numbers else None


def legend(items: Sequence[tuple[str, str]]) -> Markup:
    """What the lines and marks of a chart mean: their classes, and words."""
    return h("ul", [h("li", h("i", class_=f"key {kind}"), words) for kind, words in items], class_="legend")


def progress(share: float, label: str) -> Markup:
    """A bar of `share`, 0 to 1, that says in words what it shows."""
    width = f"{100 * min(1.0, max(0.0, share)):.2f}%"
    return h(
        "svg",
        h("rect", x=0, y=0, width="100%", height="100%", class_="track"),
        h("rect", x=0, y=0, width=width, height="100%", class_="done"),
        class_="progress",
        role="img",
        aria_label=label,
    )


def folded(summary: str, content: Child, *, id_: str) -> Markup:
    """Something to open; the page keeps it open while it renews itself."""
    return h("details", h("summary", summary), content, id=id_)


def state_word(state: str, human: bool = False) -> Markup:
    """The state of a run or session, in a word; its colour only repeats it."""
    return h(
        "span", state, " – needs you" if human else None, class_=f"state {state} {'human' if human else ''}".strip()
    )
