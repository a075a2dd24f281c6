"""The evaluations of a training as one picture, in SVG: mean, and a band of one standard deviation. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from xml.sax.saxutils import escape

from kaggle_manager.trees.evaluations import Evaluation

_WIDTH, _HEIGHT, _LEFT, _BELOW, _ABOVE = 720, 360, 70, 45, 25


def curve_svg(evaluations: Sequence[Evaluation], unit: str) -> bytes:
    """The picture; b"" where there are no two evaluations to draw a line between.

    Args:
        unit: what the steps are called.
    """
    points = [each for each in evaluations if math.isfinite(each.mean) and math.isfinite(each.std)]
    if len(points) < 2:
        return b""
    low = min(each.mean - each.std for each in points)
    high = max(each.mean + each.std for each in points)
    last, span = points[-1].step or 1, (high - low) or 1.0

    def place(step: float, value: float) -> str:
        across = _LEFT + (_WIDTH - _LEFT - 15) * step / last
        down = _ABOVE + (_HEIGHT - _ABOVE - _BELOW) * (high - value) / span
        return f"{across:.1f},{down:.1f}"

    mean = " ".join(place(each.step, each.mean) for each in points)
    band = [place(each.step, each.mean + each.std) for each in points]
    band += [place(each.step, each.mean - each.std) for each in reversed(points)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        *_grid([low + span * share / 4 for share in range(5)], [last * share / 4 for share in range(5)], place),
        f'<polygon points="{" ".join(band)}" fill="#1f77b4" fill-opacity="0.2"/>',
        f'<polyline points="{mean}" fill="none" stroke="#1f77b4" stroke-width="2"/>',
        f'<text x="{_LEFT}" y="16">mean return of an evaluation, and its standard deviation</text>',
        f'<text x="{_WIDTH - 15}" y="{_HEIGHT - 6}" text-anchor="end">{escape(unit)}</text>',
        "</svg>",
    ]
    return ("\n".join(parts) + "\n").encode()


def _grid(values: Sequence[float], steps: Sequence[float], place: Callable[[float, float], str]) -> Iterator[str]:
    for value in values:
        across, down = place(0, value).split(",")
        yield f'<line x1="{across}" y1="{down}" x2="{_WIDTH - 15}" y2="{down}" stroke="#dddddd"/>'
        yield f'<text x="{_LEFT - 6}" y="{float(down) + 4:.1f}" text-anchor="end">{value:.4g}</text>'
    for step in steps:
        across, _ = place(step, values[0]).split(",")
        yield f'<text x="{across}" y="{_HEIGHT - _BELOW + 18}" text-anchor="middle">{step:,.0f}</text>'
