"""Two or more runs side by side: their curves over each other, and what differs between them in words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from kaggle_manager.console.formatting import count
from kaggle_manager.dashboard.charts import Series, line_chart
from kaggle_manager.dashboard.components import folded_table, lasted, legend, score, steps, table
from kaggle_manager.dashboard.curves import smoothed, thinned
from kaggle_manager.dashboard.markup import Child, Markup, h, join
from kaggle_manager.dashboard.run_page import EVALUATIONS_LISTED
from kaggle_manager.dashboard.view import RunView
from kaggle_manager.errors import KaggleManagerError, NotFound
from kaggle_manager.trees.compare import Side, compare_sides, side_of

MOST_RUNS = 4
STYLES = ("main", "second", "third", "fourth")
_EPISODES = 10


def comparison(views: Sequence[RunView]) -> Markup:
    """The first of `views` held against each of the others. Pure but for the manifests and curves `side_of` reads."""
    views = views[:MOST_RUNS]
    if len(views) < 2:
        return Markup("")
    curves = [
        Series(label_of(view), thinned([(point.step, point.mean) for point in view.curve.evaluations]), style)
        for view, style in zip(views, STYLES, strict=False)
    ]
    training = [
        Series(label_of(view), smoothed(view.curve.returns, _EPISODES), style)
        for view, style in zip(views, STYLES, strict=False)
    ]
    rows = [
        (
            label_of(view),
            view.report.state,
            f"{steps(view.report.step)} of {steps(view.report.target)}",
            score(view.report.best_score),
            len(view.report.sessions),
            lasted(view.report.accelerator_s),
            lasted(view.report.lost_s),
        )
        for view in views
    ]
    heads = ("Run", "State", "Steps", "Best", "Sessions", "Session time", "Lost")
    return join(
        legend([(f"line {style}", label_of(view)) for view, style in zip(views, STYLES, strict=False)]),
        _chart("Evaluations", "Mean return of the evaluations", curves),
        _chart("Training return", f"Training return, mean of {_EPISODES} episodes", training),
        _values(views),
        table("Runs side by side", heads, rows, numbers=(4, 5, 6)),
        [_differences(views[0], other) for other in views[1:]],
    )


def label_of(view: RunView) -> str:
    """What to call a run beside others."""
    return f"{view.report.run_id[:8]} {view.report.name}"


def _chart(title: str, name: str, series: Sequence[Series]) -> Child:
    if not any(each.points for each in series):
        return h("p", f"{title}: none of these runs has any yet.", class_="empty")
    said = "; ".join(f"{each.name}: last {each.points[-1][1]:.4g}" for each in series if each.points)
    return h(
        "figure",
        h("figcaption", name),
        line_chart(f"{name}: {said}", series),
        h("p", class_="readout", aria_live="polite"),
    )


def _values(views: Sequence[RunView]) -> Child:
    """The evaluations of the chart as a table."""
    by_step = [{point.step: point.mean for point in view.curve.evaluations} for view in views]
    every = sorted({step for found in by_step for step in found}, reverse=True)[:EVALUATIONS_LISTED]
    rows = [(steps(step), *(score(found.get(step)) for found in by_step)) for step in every]
    heads = ("Step", *map(label_of, views))
    numbers = range(len(heads))
    caption = f"Mean return of the evaluations at the newest {count(len(rows), 'step')}"
    return folded_table("Evaluations as a table", caption, heads, rows, numbers=numbers, id_="evaluations-beside")


def _differences(first: RunView, other: RunView) -> Markup:
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


def _side(view: RunView) -> Side:
    if view.training_tree is None:
        raise NotFound(f"Nothing is left of the checkpoints of run {view.report.run_id[:8]}.")
    return side_of(view.training_tree, view.report.run_id[:8])
