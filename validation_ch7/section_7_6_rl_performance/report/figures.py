"""The figures of one scenario. Each is drawn from a `Result` alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from validation_ch7.section_7_6_rl_performance.comparison import Values, estimate, interquartile_mean
from validation_ch7.section_7_6_rl_performance.episodes import PARTS
from validation_ch7.section_7_6_rl_performance.report import intersection_picture
from validation_ch7.section_7_6_rl_performance.report.canvas import COLOURS, new_figure
from validation_ch7.section_7_6_rl_performance.report.results import REPORTED, Result
from validation_ch7.section_7_6_rl_performance.report.wording import Language, word

FAR_APART = 8.0
"""A metric whose largest value exceeds its median by more than this is drawn on a logarithmic axis."""

MARKS = {"latest": ("|", 16, "#d62728"), "best": ("*", 11, "#e69f00"), "final": ("s", 12, "black")}
"""Level of checkpoint -> marker, size, colour."""


def learning_curve(result: Result, language: Language) -> Figure:
    """Returns of training episodes and evaluations over all sessions and seeds; session boundaries."""
    figure = new_figure(2.9)
    axes = figure.axes[0]
    for number, run in enumerate(result.runs):
        label = word("episode", language) if number == 0 else None
        axes.plot(run.curves.episode_steps, run.curves.episode_returns, ".", ms=3, color="#bbbbbb", label=label)
        for position, end in enumerate(run.session_ends or ()):
            label = word("session", language) if number == position == 0 else None
            axes.axvline(end, color="#d62728", lw=0.7, ls="--", label=label)
    steps, units = _evaluations(result)
    if len(steps):
        found = [estimate(values, interquartile_mean, result.protocol) for values in units]
        axes.plot(steps, [each.value for each in found], "-o", ms=3, color=COLOURS[REPORTED],
                  label=word("evaluation", language))  # fmt: skip
        band = [(each.value if each.low is None else each.low, each.value if each.high is None else each.high)
                for each in found]  # fmt: skip
        axes.fill_between(steps, *np.transpose(band), alpha=0.2, color=COLOURS[REPORTED], lw=0)
    axes.set_xlabel(word("steps", language))
    axes.set_ylabel(word("return", language))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=7)
    return figure


def _evaluations(result: Result) -> tuple[Sequence[int], Sequence[Values]]:
    """Steps at which every training was evaluated, and at each the returns: of trainings, or of episodes of the one."""
    common = sorted(set.intersection(*(set(run.curves.evaluation_steps.tolist()) for run in result.runs)))
    units = []
    for step in common:
        rows = [run.curves.evaluation_returns[run.curves.evaluation_steps.tolist().index(step)] for run in result.runs]
        units.append(np.array([row.mean() for row in rows]) if len(rows) > 1 else rows[0])
    return common, units


def controllers(result: Result, language: Language) -> Figure:
    """Held-out episodes of every controller: delay, waiting and queue."""
    metrics: dict[str, str] = {"mean_delay_s": "delay", "mean_waiting_s": "waiting", "mean_queue": "mean_queue"}
    names = list(result.episodes)
    figure = new_figure(0.9 + 0.27 * len(names), 1, len(metrics))
    for number, (axes, (metric, label)) in enumerate(zip(figure.axes, metrics.items(), strict=True)):
        values = [
            [float(getattr(episode.metrics, metric)) for episodes in result.episodes[name] for episode in episodes]
            for name in names
        ]
        boxes = axes.boxplot(
            values,
            orientation="horizontal",
            widths=0.6,
            patch_artist=True,
            flierprops={"ms": 2},
            medianprops={"color": "black"},
        )
        for name, box in zip(names, boxes["boxes"], strict=True):
            box.set_facecolor(COLOURS[name])
        axes.plot([np.mean(each) for each in values], range(1, len(names) + 1), "D", ms=3, mfc="white", mec="black")
        everything = np.concatenate([np.asarray(each) for each in values])
        if everything.max() > FAR_APART * max(float(np.median(everything)), 1e-9):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(
                LogLocator(subs=(1, 2, 5) if everything.max() < 20 * everything.min() else (1,))
            )
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.invert_yaxis()
        axes.set_yticks(
            range(1, len(names) + 1), [word(name, language) for name in names] if number == 0 else [""] * len(names)
        )
        axes.set_xlabel(word(label, language))
    return figure


def over_the_episode(result: Result, language: Language) -> Figure:
    """Queue and delay through the window: fixed time, the best of the baselines, and the agent."""
    strongest = min(result.baselines, key=lambda name: result.summaries[name].mean.value)
    names = list(dict.fromkeys(["fixed_time", strongest, REPORTED]))
    figure = new_figure(2.6, 1, 2)
    minutes = result.times.window_s / 60
    for name in names:
        every = [episode for episodes in result.episodes[name] for episode in episodes]
        queues = np.array([episode.queue for episode in every], dtype=np.float64)
        parts = np.array([episode.delay_by_part_s for episode in every], dtype=np.float64)
        middles = (np.arange(PARTS) + 0.5) * minutes / PARTS
        # The mean of a minute's decisions: single ones flicker. A window of a few minutes is shown as it is.
        each = max(1, 60 // result.times.decision_s) if minutes > 5 else 1
        whole = queues.shape[1] // each
        queues = queues[:, : whole * each].reshape(len(every), whole, each).mean(axis=2)
        ends = (np.arange(whole) + 1) * each * result.times.decision_s / 60
        _banded(figure.axes[0], ends, queues, name, word(name, language))
        seen = ~np.isnan(parts).all(axis=0)
        _banded(figure.axes[1], middles[seen], parts[:, seen], name, word(name, language))
    for axes, x, y in zip(figure.axes, ("minutes", "due_minutes"), ("queue", "delay"), strict=True):
        axes.set_xlabel(word(x, language))
        axes.set_ylabel(word(y, language))
        axes.set_ylim(bottom=0)
    figure.axes[0].legend(fontsize=7)
    return figure


def _banded(axes: Axes, x: Values, rows: Values, name: str, label: str) -> None:
    """The median over episodes, and the band that holds four fifths of them."""
    low, middle, high = np.nanpercentile(rows, [10, 50, 90], axis=0)
    axes.plot(x, middle, color=COLOURS[name], lw=1.2, label=label)
    axes.fill_between(x, low, high, color=COLOURS[name], alpha=0.18, lw=0)


def checkpoints(result: Result, language: Language) -> Figure:
    """Where the evaluations and the three levels of checkpoints lie, for each training."""
    figure = new_figure(1.3 + 0.3 * len(result.runs))
    axes = figure.axes[0]
    every = [np.nanmean(run.curves.evaluation_returns, axis=1) for run in result.runs]
    scale = Normalize(min(map(np.min, every)), max(map(np.max, every))) if all(map(len, every)) else None
    for row, (run, scores) in enumerate(zip(result.runs, every, strict=True)):
        axes.scatter(run.curves.evaluation_steps, [row] * len(scores), c=scores, s=14, norm=scale, zorder=2)
        levels = [("latest", step) for step in run.latest_steps]
        levels += [(level, each.step) for level, each in run.levels.items()]
        for level, step in levels:
            marker, size, colour = MARKS[level]
            axes.plot(step, row, marker, ms=size, mfc="none", mec=colour, label=word(level, language))
    if scale is not None:
        figure.colorbar(ScalarMappable(scale), ax=axes, label=word("score", language))
    axes.set_yticks(range(len(result.runs)), [f"{word('seed', language)} {run.seed}" for run in result.runs])
    axes.set_ylim(-0.6, len(result.runs) - 0.4)
    axes.set_xlim(left=0)
    axes.set_xlabel(word("steps", language))
    shown = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(shown.values(), shown.keys(), loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=7)
    return figure


def intersection(result: Result, language: Language) -> Figure:
    """The lanes of the intersection and the movements of each green phase."""
    return intersection_picture.draw(result.site, language)


FIGURES: dict[str, Callable[[Result, Language], Figure]] = {
    "intersection": intersection,
    "learning_curve": learning_curve,
    "checkpoints": checkpoints,
    "controllers": controllers,
    "over_the_episode": over_the_episode,
}
