"""Runs and groups side by side: their curves over each other, and what differs between them in words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from kaggle_manager.dashboard.charts import Series, figure, line_chart
from kaggle_manager.dashboard.components import folded_table, lasted, legend, score, states_of, steps, table
from kaggle_manager.dashboard.curves import Points, smoothed
from kaggle_manager.dashboard.group_page import mean_series
from kaggle_manager.dashboard.groups import GroupView
from kaggle_manager.dashboard.live import session_time
from kaggle_manager.dashboard.markup import Child, Markup, h, join
from kaggle_manager.dashboard.run_page import EVALUATIONS_LISTED, SMOOTHED_EPISODES
from kaggle_manager.dashboard.view import RunView
from kaggle_manager.errors import KaggleManagerError, NotFound
from kaggle_manager.system.formatting import count
from kaggle_manager.trees.compare import Side, compare_sides, side_of

# As many as the style sheet has colours and dashes for.
MOST_BESIDE = 8


def comparison(views: Sequence[RunView | GroupView]) -> Markup:
    """The first of `views` compared with each of the others. Pure but for the manifests and curves `side_of` reads."""
    views = views[:MOST_BESIDE]
    if len(views) < 2:
        return Markup("")
    names = list(dict.fromkeys(name for view in views for name in _quantities(view)))
    returns = [
        Series(label_of(view), smoothed(view.curve.returns, SMOOTHED_EPISODES), _style(number))
        for number, view in enumerate(views)
        if isinstance(view, RunView)
    ]
    heads = ("Run", "State", "Steps", "Best", "Sessions", "Session time", "Lost")
    return join(
        legend([(f"line {_style(number)}", label_of(view)) for number, view in enumerate(views)]),
        [_quantity(views, name, number) for number, name in enumerate(names)],
        h("p", "None of these has an evaluation or a metric yet.", class_="empty") if not names else None,
        _chart(f"Training return, mean of {SMOOTHED_EPISODES} episodes", returns),
        table("Side by side", heads, [_row(view) for view in views], numbers=(4, 5, 6)),
        [_differences(views[0], other) for other in views[1:]],
    )


def label_of(view: RunView | GroupView) -> str:
    """What to call a run or a group beside others."""
    if isinstance(view, GroupView):
        return f"{view.group.section}: {view.group.name}"
    return f"{view.report.run_id[:8]} {view.report.name}"


def _style(number: int) -> str:
    return f"c{number + 1}"


def _quantities(view: RunView | GroupView) -> Sequence[str]:
    return list(view.quantities if isinstance(view, GroupView) else view.curve.quantities)


def _line(view: RunView | GroupView, name: str, style: str) -> Series:
    """The curve of a run, the mean of a campaign with its band, or the best trial of a sweep."""
    if isinstance(view, RunView):
        return Series(label_of(view), view.curve.quantities.get(name, ()), style)
    curves, sweep = view.quantities.get(name, {}), view.group.sweep
    if sweep is None:
        return mean_series(f"{label_of(view)}, mean", curves, style)
    scenario = sweep.trial(sweep.best[0]).scenario if sweep.best else ""
    best: Points = next(
        (curves[run.run_id] for run in view.group.runs if run.scenario == scenario and run.run_id in curves), ()
    )
    return Series(f"{label_of(view)}, best trial", best, style)


def _quantity(views: Sequence[RunView | GroupView], name: str, number: int) -> Markup:
    series = [_line(view, name, _style(place)) for place, view in enumerate(views)]
    by_step = [dict(each.points) for each in series]
    every = sorted({step for found in by_step for step in found}, reverse=True)[:EVALUATIONS_LISTED]
    rows = [(f"{step:,.0f}", *(score(found.get(step)) for found in by_step)) for step in every]
    return join(
        _chart(name, series),
        folded_table(
            f"{name} as a table",
            f"{name} at the newest {count(len(rows), 'step')}",
            ("Step", *(each.name for each in series)),
            rows,
            numbers=range(len(series) + 1),
            id_=f"beside-{number}",
        ),
    )


def _chart(name: str, series: Sequence[Series]) -> Child:
    if not any(each.points for each in series):
        return None
    said = "; ".join(f"{each.name}: last {each.points[-1][1]:.4g}" for each in series if each.points)
    return figure(name, line_chart(f"{name}: {said}", series))


def _row(view: RunView | GroupView) -> Sequence[Child]:
    if isinstance(view, GroupView):
        group = view.group
        return (
            label_of(view),
            states_of(group),
            f"{steps(group.step)} of {steps(group.target)}",
            group.best,
            sum(len(run.sessions) for run in group.runs),
            lasted(session_time(group.runs)),
            lasted(sum(run.lost_s for run in group.runs)),
        )
    report = view.report
    return (
        label_of(view),
        report.state,
        f"{steps(report.step)} of {steps(report.target)}",
        score(report.best_score),
        len(report.sessions),
        lasted(report.accelerator_s),
        lasted(report.lost_s),
    )


def _differences(first: RunView | GroupView, other: RunView | GroupView) -> Markup:
    head = h("h3", f"What differs: {label_of(first)} and {label_of(other)}")
    try:
        differences = compare_sides(_side(first), _side(other))
    except KaggleManagerError as error:
        return join(head, h("p", error.message, class_="problem"))
    topics = [
        join(h("h4", topic), h("ul", [h("li", each.words) for each in found], class_="words"))
        for topic, found in groupby(differences, key=lambda each: each.topic)
    ]
    return join(head, topics or h("p", "Nothing: the two say the same of everything."))


def _side(view: RunView | GroupView) -> Side:
    """Of a group, the first run that something is left of: what all have alike is said there."""
    if view.training_tree is None:
        raise NotFound(f"Nothing is left of the checkpoints of {label_of(view)}.")
    label = view.report.run_id[:8] if isinstance(view, RunView) else f"a run of {view.group.name}"
    return side_of(view.training_tree, label)
