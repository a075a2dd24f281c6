"""The charts, as SVG that fits any width without a script: lengths in percent, text in pixels. Pure.

Every chart names itself for a screen reader; its caller puts the same numbers in a table beside it. `data-series` holds
the points for the reader of values that `static/page.js` adds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from kaggle_manager.dashboard.axes import Scale, short
from kaggle_manager.dashboard.markup import Child, Markup, h

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        style: a class of the style sheet, such as `main`, `faint` or `live`.
        dots: mark each point.
        band: (x, lower, upper) around it, at some of its points.
        told: the reader of values tells it.
    """

    name: str
    points: Points
    style: str = "main"
    dots: bool = False
    band: Sequence[tuple[float, float, float]] = ()
    told: bool = True


@dataclass(frozen=True)
class Mark:
    """Something at one place of the x axis: a `session` boundary, a `checkpoint`, or the `best` model and its value."""

    x: float
    kind: str
    label: str
    value: float | None = None


def line_chart(
    name: str,
    series: Sequence[Series],
    *,
    marks: Sequence[Mark] = (),
) -> Markup:
    """Lines over a common axis. Empty series are left out.

    Args:
        name: what it shows, for a screen reader.
        series: the last is drawn on top.
        marks: drawn behind the lines, the best model before them.
    """
    series = [each for each in series if each.points]
    xs = [x for each in series for x, _ in each.points] + [mark.x for mark in marks]
    ys = [y for each in series for _, y in each.points] + [mark.value for mark in marks if mark.value is not None]
    across, up = Scale(0.0, max([*xs, 1.0]) * 1.02), Scale.around([*ys, *_limits(ys, series)] if ys else ys)
    data = [{"name": each.name, "points": _told(each)} for each in series if each.told]
    return h(
        "div",
        _y_axis(up),
        h(
            "svg",
            [_horizontal(up.percent(tick)) for tick in up.ticks()],
            [_mark(mark, across, up) for mark in marks if mark.kind != "best"],
            _lines(series, across, up),
            [_dots(each, across, up) for each in series if each.dots or len(each.points) == 1],
            [_mark(mark, across, up) for mark in marks if mark.kind == "best"],
            h("line", class_="cursor", x1=0, x2=0, y1="0%", y2="100%"),
            class_="area",
            role="img",
            aria_label=name,
            aria_description="The arrow keys, Home and End read its values.",
            tabindex=0,
            data_series=json.dumps(data),
            data_high=across.high,
        ),
        _x_axis(across),
        class_="plot",
    )


def figure(caption: str, chart: Child, *more: Child) -> Markup:
    """A chart under its caption, with the place where its values are read."""
    return h("figure", h("figcaption", caption), chart, h("p", class_="readout", aria_live="polite"), *more)


def _limits(ys: Sequence[float], series: Sequence[Series]) -> list[float]:
    """What the axis must show of the bands: they widen it by half at either end at most, so that lines stay lines."""
    low, high = min(ys), max(ys)
    room = (high - low) / 2
    return [min(high + room, max(low - room, limit)) for each in series for _, *both in each.band for limit in both]


def _told(each: Series) -> list[Sequence[float]]:
    """(x, y) of each point, and the limits of the band where it has one."""
    limits = {x: both for x, *both in each.band}
    return [(x, y, *limits.get(x, ())) for x, y in each.points]


def _lines(series: Sequence[Series], across: Scale, up: Scale) -> Markup:
    """The nested drawing is stretched to the place there is; its strokes are not."""
    return h(
        "svg",
        [h("polygon", points=_outline(each, across, up), class_=f"band {each.style}") for each in series if each.band],
        [
            h(
                "polyline",
                points=" ".join(f"{across.percent(x)},{100 - up.percent(y):.3f}" for x, y in each.points),
                class_=f"line {each.style}",
                vector_effect="non-scaling-stroke",
            )
            for each in series
            if len(each.points) > 1
        ],
        viewBox="0 0 100 100",
        preserveAspectRatio="none",
        width="100%",
        height="100%",
        aria_hidden="true",
    )


def _outline(each: Series, across: Scale, up: Scale) -> str:
    there = [(across.percent(x), 100 - up.percent(low), 100 - up.percent(high)) for x, low, high in each.band]
    along = [*((x, high) for x, _, high in there), *((x, low) for x, low, _ in reversed(there))]
    return " ".join(f"{x},{y:.3f}" for x, y in along)


def _dots(each: Series, across: Scale, up: Scale) -> Child:
    return [
        h("circle", cx=f"{across.percent(x)}%", cy=f"{100 - up.percent(y):.3f}%", r=3, class_=f"dot {each.style}")
        for x, y in each.points
    ]


def _mark(mark: Mark, across: Scale, up: Scale) -> Markup:
    x = f"{across.percent(mark.x)}%"
    title = h("title", mark.label)
    if mark.kind == "best" and mark.value is not None:
        return h("circle", title, cx=x, cy=f"{100 - up.percent(mark.value):.3f}%", r=7, class_="best")
    if mark.kind == "checkpoint":
        return h("line", title, x1=x, x2=x, y1="94%", y2="100%", class_="checkpoint")
    return h("line", title, x1=x, x2=x, y1="0%", y2="100%", class_="boundary")


def _horizontal(up: float) -> Markup:
    return h("line", x1="0%", x2="100%", y1=f"{100 - up:.3f}%", y2=f"{100 - up:.3f}%", class_="grid")


def _y_axis(up: Scale) -> Markup:
    ticks = [
        h("text", short(tick), x="100%", y=f"{100 - up.percent(tick):.3f}%", dy="0.32em", text_anchor="end")
        for tick in up.ticks()
    ]
    return h("svg", ticks, class_="y", aria_hidden="true")


def _x_axis(across: Scale) -> Markup:
    texts = []
    for tick in across.ticks():
        anchor = "start" if tick == 0 else "end" if across.percent(tick) > 95 else "middle"
        texts.append(h("text", short(tick), x=f"{across.percent(tick)}%", y="0.95em", text_anchor=anchor))
    return h("svg", texts, class_="x", aria_hidden="true")


@dataclass(frozen=True)
class Bar:
    """A stretch of time: seconds since the epoch, a style, what it says, and the share of its end that was lost."""

    begin: float
    end: float
    style: str
    label: str
    short: str = ""
    lost: float = 0.0


def timeline(name: str, bars: Sequence[Bar], begin: float, end: float, ticks: Sequence[tuple[float, str]]) -> Markup:
    """Stretches of time on one line. `ticks`: moments with their labels."""
    across = Scale(begin, max(end, begin + 1.0))
    places = [(f"{across.percent(moment)}%", label) for moment, label in ticks]
    labels = [
        h("text", label, x=x, y="0.95em", text_anchor="middle" if index else "start")
        for index, (x, label) in enumerate(places)
    ]
    return h(
        "div",
        h(
            "svg",
            [h("line", x1=x, x2=x, y1="0%", y2="100%", class_="grid") for x, _ in places],
            [_bar(bar, across) for bar in bars],
            class_="lane",
            role="img",
            aria_label=name,
        ),
        h("svg", labels, class_="x", aria_hidden="true"),
        class_="timeline",
    )


def _bar(bar: Bar, across: Scale) -> Child:
    begin, end = across.percent(bar.begin), across.percent(bar.end)
    width = max(0.0, end - begin)
    lost = width * min(1.0, max(0.0, bar.lost))
    return h(
        "g",
        h("title", bar.label),
        h("rect", x=f"{begin}%", width=f"{width:.3f}%", y="18%", height="64%", class_=f"bar {bar.style}"),
        h("rect", x=f"{begin + width - lost:.3f}%", width=f"{lost:.3f}%", y="18%", height="64%", class_="bar lost")
        if lost
        else None,
        h("text", bar.short, x=f"{begin + width / 2:.3f}%", y="50%", dy="0.35em", text_anchor="middle")
        if width > 2.6 and bar.short
        else None,
    )
