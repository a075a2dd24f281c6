"""Empty figures, and figures as bytes: the same drawing gives the same bytes, and names where its numbers come from."""

from __future__ import annotations

import io
import textwrap
from contextlib import AbstractContextManager
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure

COLOURS = {
    "fixed_time": "#7f7f7f",
    "webster": "#bcbd22",
    "actuated": "#17becf",
    "delay_based": "#9467bd",
    "greedy_queue": "#ff7f0e",
    "max_pressure": "#2ca02c",
    "random": "#c7c7c7",
    "best": "#1f4fa0",
    "final": "#8fb3e8",
}
_FORMATS: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
}
_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "provenance",
}


def style() -> AbstractContextManager[None]:
    """The look of every figure, for everything that is drawn within."""
    return mpl.rc_context(_STYLE)


def new_figure(height: float, rows: int = 1, columns: int = 1) -> Figure:
    """A figure as wide as a page of text, with its axes."""
    figure = Figure(figsize=(6.3, height), layout="constrained")
    figure.subplots(rows, columns, squeeze=False)
    return figure


def as_bytes(figure: Figure, kind: Literal["pdf", "png"], provenance: str, size: float = 4.5) -> bytes:
    """The figure with its provenance in small print, of `size` points, below it."""
    note = "\n".join(textwrap.wrap(provenance, 185))
    figure.supxlabel(note, fontsize=size, color="#555555", x=0.01, ha="left")
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=160, metadata=_FORMATS[kind])
    return stream.getvalue()
