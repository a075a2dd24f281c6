"""The figures of one site. Each is drawn from a `SiteResult` alone."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from validation_ch7.section_7_6_rl_performance.episodes import PARTS
from validation_ch7.section_7_6_rl_performance.observation import VEHICLE_M
from validation_ch7.section_7_6_rl_performance.report.canvas import new_figure
from validation_ch7.section_7_6_rl_performance.report.wording import Language
from validation_ch7.section_7_6_rl_performance.second_study.environment import SignalEnv
from validation_ch7.section_7_6_rl_performance.second_study.episodes import Episode
from validation_ch7.section_7_6_rl_performance.second_study.judging.crossed_bootstrap import Values
from validation_ch7.section_7_6_rl_performance.second_study.junction import read_junction
from validation_ch7.section_7_6_rl_performance.second_study.kept.playing import AS_TRAINED
from validation_ch7.section_7_6_rl_performance.second_study.report import junction_picture
from validation_ch7.section_7_6_rl_performance.second_study.report.results import MAIN, SiteResult
from validation_ch7.section_7_6_rl_performance.second_study.report.wording import word

COLOURS = {
    "fixed_time": "#9a9a9a",
    "fixed_time_tuned": "#5f5f5f",
    "actuated": "#17becf",
    "sotl": "#9467bd",
    "longest_queue": "#e377c2",
    "greedy_queue": "#ff7f0e",
    "max_pressure": "#2ca02c",
    "advanced_max_pressure": "#8c6d31",
    "random": "#c7c7c7",
    "second": "#56b4e9",
    "main": "#1f4fa0",
}
GRIDLOCK = "#d62728"
UNTRAINED = ("random",)
"""Baselines so far from the others that they would set the axis of a curve."""


def junction(result: SiteResult, language: Language) -> Figure:
    """The intersection: roads, metres, and the movements of each green."""
    return junction_picture.draw(result.site, language)


def learning_curves(result: SiteResult, language: Language) -> Figure:
    """Delay in the episodes of each training, as the reward tells it; baselines; ends of sessions."""
    agents = [agent for agent, kept in result.trainings.items() if kept]
    figure = new_figure(2.6, 1, max(1, len(agents)))
    lines = {name: each.delay.value for name, each in result.summaries.items()
             if name not in (*result.agents, *UNTRAINED) and not math.isnan(each.delay.value)}  # fmt: skip
    strongest = sorted(lines, key=lines.__getitem__)[:3]
    for axes, agent in zip(figure.axes, agents, strict=False):
        _curves(axes, result, agent, language)
        for number, name in enumerate(strongest):
            axes.axhline(
                lines[name], color=COLOURS[name], lw=0.9, ls=("-", "--", ":")[number], label=word(name, language)
            )
        axes.set_title(word(agent, language), fontsize=8)
        axes.set_xlabel(word("steps", language))
        axes.set_xlim(left=0)
        axes.set_ylim(0.8 * lines[strongest[0]], 2.2 * lines[strongest[-1]])
        axes.legend(fontsize=6, loc="upper right", frameon=True, framealpha=1, edgecolor="none")
    figure.axes[0].set_ylabel(word("delay", language))
    return figure


def _curves(axes: Axes, result: SiteResult, agent: str, language: Language) -> None:
    """The delay of every training episode, each training smoothed over ten, and their median."""
    factor = seconds_of_return(result, agent)
    smoothed: list[tuple[Values, Values]] = []
    for number, training in enumerate(result.trainings[agent]):
        steps = np.asarray(training["curves"]["episode_steps"], dtype=np.float64) / 1000
        delays = -factor * np.asarray(training["curves"]["episode_returns"], dtype=np.float64)
        width = min(10, max(1, len(delays)))
        line = np.convolve(delays, np.full(width, 1 / width), mode="valid")
        smoothed.append((steps[width - 1 :], line))
        label = word("training", language) if number == 0 else None
        axes.plot(*smoothed[-1], color=COLOURS[agent], lw=0.5, alpha=0.45, label=label)
        again = result.session_ends.get(training["seed"], ()) if agent == MAIN else ()  # the same training, bit for bit
        for position, end in enumerate(training["session_ends"] or again):
            label = word("session", language) if number == position == 0 else None
            axes.axvline(end / 1000, color=GRIDLOCK, lw=0.6, ls="--", label=label)
    if smoothed and (most := min(len(line) for _, line in smoothed)):
        median = np.median([line[:most] for _, line in smoothed], axis=0)
        axes.plot(smoothed[0][0][:most], median, color=COLOURS[agent], lw=1.6, label=word("median_training", language))


def seconds_of_return(result: SiteResult, agent: str) -> float:
    """Seconds of mean delay for each unit of the return that is lost; see `reward.py`."""
    given = result.agents[agent].environment_kwargs
    declared = inspect.signature(SignalEnv).parameters
    reach_m, decision_s = (given.get(name, declared[name].default) for name in ("detection_m", "decision_s"))
    places = sum(read_junction(result.site, reach_m).places(reach_m, VEHICLE_M))
    episodes = next(iter(result.episodes[MAIN].values()))
    return float(decision_s * places / np.mean([episode.demand for episode in episodes]))


def strips(result: SiteResult, language: Language) -> Figure:
    """Every held-out episode of every controller as a point; those that gridlocked are marked."""
    names = list(result.episodes)
    figure = new_figure(0.9 + 0.3 * len(names))
    axes = figure.axes[0]
    for row, name in enumerate(names):
        every = _every(result.episodes[name])
        delays = np.array([episode.mean_delay_s for episode in every])
        jammed = np.array([episode.gridlock_onset_s is not None for episode in every])
        heights = row + 0.32 * np.sin(1.0 + 2.4 * np.arange(len(every)))  # spread, the same at every drawing
        first = row == 0
        axes.plot(delays[~jammed], heights[~jammed], ".", ms=1.8, mew=0, color=COLOURS[name], alpha=0.6)
        axes.plot(delays[jammed], heights[jammed], "x", ms=4, mew=1.0, color=GRIDLOCK,
                  label=word("gridlocked", language) if first else None)  # fmt: skip
        axes.plot([np.median(delays)] * 2, [row - 0.4, row + 0.4], color="black", lw=1.2,
                  label=word("median", language) if first else None)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks([10, 20, 30, 50, 100, 200, 500, 1000])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    every_delay = [episode.mean_delay_s for each in result.episodes.values() for episode in _every(each)]
    axes.set_xlim(0.85 * min(every_delay), 1.15 * max(every_delay))
    axes.set_yticks(range(len(names)), [word(name, language) for name in names])
    axes.invert_yaxis()
    axes.set_xlabel(word("delay", language))
    axes.legend(fontsize=7, loc="lower right")
    return figure


def over_the_episode(result: SiteResult, language: Language) -> Figure:
    """Delay by the time of planned entry: each gridlocked episode on its own, the median of the others."""
    strongest = min(result.comparisons, key=lambda each: _or_last(result, each.other)).other
    names = list(dict.fromkeys([strongest, MAIN]))
    figure = new_figure(2.5, 1, len(names))
    minutes = result.site.duration_s / 60
    middles = (np.arange(PARTS) + 0.5) * minutes / PARTS
    top = 1.0
    for axes, name in zip(figure.axes, names, strict=True):
        every = _every(result.episodes[name])
        rows = np.array([episode.delay_by_part_s for episode in every], dtype=np.float64)
        jammed = np.array([episode.gridlock_onset_s is not None for episode in every])
        if (~jammed).any():
            low, middle, high = np.nanpercentile(rows[~jammed], [0, 50, 100], axis=0)
            axes.fill_between(middles, low, high, color=COLOURS[name], alpha=0.18, lw=0)
            axes.plot(middles, middle, color=COLOURS[name], lw=1.4)
            top = max(top, float(np.nanmax(high)))
        for episode, row in zip(np.array(every, dtype=object)[jammed], rows[jammed], strict=True):
            axes.plot(middles, row, color=GRIDLOCK, lw=0.7, alpha=0.7)
            axes.axvline(episode.gridlock_onset_s / 60, color=GRIDLOCK, lw=0.7, ls=":")
        axes.set_title(word(name, language), fontsize=8)
        axes.set_xlabel(word("due_minutes", language))
        axes.set_xlim(0, minutes)
    for axes in figure.axes:
        axes.set_ylim(0, 1.3 * top)
    figure.axes[0].set_ylabel(word("delay", language))
    return figure


def conditions(result: SiteResult, language: Language) -> Figure:
    """Delay under conditions that nobody was trained or tuned for; a number below a point counts gridlocks."""
    by_condition: dict[str, Mapping[str, Any]] = {AS_TRAINED: result.summaries, **result.shifted}
    names = [name for name in result.summaries if name not in UNTRAINED]
    figure = new_figure(1.0 + 0.42 * len(by_condition))
    axes = figure.axes[0]
    places = np.linspace(-0.33, 0.33, len(names))
    for offset, name in zip(places, names, strict=True):
        for row, (condition, summaries) in enumerate(by_condition.items()):
            if name not in summaries:
                continue
            each = summaries[name]
            label = word(name, language) if condition == AS_TRAINED else None
            marker = "D" if name in result.agents else "o"
            axes.plot(each.delay_of_all.value, row + offset, marker, ms=3.5, color=COLOURS[name], label=label, ls="")
            if each.gridlocked:
                axes.annotate(
                    f"{each.gridlocked}/{each.episodes}", (each.delay_of_all.value, row + offset), xytext=(0, -3),
                    textcoords="offset points", fontsize=5, color=GRIDLOCK, ha="center", va="top",
                )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks([20, 30, 50, 100, 200, 500])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(by_condition)), [word(condition, language) for condition in by_condition])
    axes.invert_yaxis()
    axes.set_xlabel(word("delay", language))
    figure.legend(fontsize=6, ncols=4, loc="outside upper center")
    return figure


def _or_last(result: SiteResult, controller: str) -> float:
    """Its delay; of one whose every episode gridlocked, more than any."""
    delay_s = result.summaries[controller].delay.value
    return math.inf if math.isnan(delay_s) else delay_s


def _every(trainings: Mapping[int | None, Sequence[Episode]]) -> list[Episode]:
    return [episode for episodes in trainings.values() for episode in episodes]


FIGURES: dict[str, Callable[[SiteResult, Language], Figure]] = {
    "junction": junction,
    "learning_curves": learning_curves,
    "strips": strips,
    "over_the_episode": over_the_episode,
    "conditions": conditions,
}
