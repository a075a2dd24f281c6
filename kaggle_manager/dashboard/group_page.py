"""A campaign or a sweep as parts of the page: all its runs on one axis, and each run in a row. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kaggle_manager.dashboard.charts import Mark, Series, figure, line_chart
from kaggle_manager.dashboard.components import (
    NONE,
    RUN_HEADS,
    Links,
    exact_until,
    facts,
    folded_table,
    lasted,
    legend,
    progress,
    run_cells,
    score,
    state_word,
    states_of,
    steps,
    steps_of,
    table,
    when,
)
from kaggle_manager.dashboard.curves import Points
from kaggle_manager.dashboard.groups import Group, GroupView
from kaggle_manager.dashboard.live import session_time
from kaggle_manager.dashboard.markup import Child, Markup, h, join
from kaggle_manager.dashboard.means import FEWEST_FOR_INTERVAL, Mean, means_of
from kaggle_manager.status.report import RunReport
from kaggle_manager.sweeps.report import SweepReport, TrialReport
from kaggle_manager.system.formatting import count, epoch

# Of a sweep, the best trials by their own colours.
TRIALS_TOLD = 5
# A sweep of more values than this has them in one column.
MOST_COLUMNS = 6


def group_parts(view: GroupView, links: Links) -> dict[str, Markup]:
    """The parts of a group by name, in the order they stand in."""
    members = _campaign_table(view, links)
    if view.group.sweep:
        members = _trials_table(view, view.group.sweep, links)
    return {"facts": _facts(view), "curve": _curves(view), "members": members}


def mean_series(name: str, curves: Mapping[str, Points], style: str) -> Series:
    """The mean over the runs of a campaign, with its interval as a band."""
    means = means_of(curves.values())
    band = [(mean.step, *mean.interval) for mean in means if mean.interval]
    return Series(name, [(mean.step, mean.value) for mean in means], style, band=band)


def _facts(view: GroupView) -> Markup:
    group = view.group
    share = group.step / group.target if group.target else 0.0
    sessions = sum(len(run.sessions) for run in group.runs)
    lost_s = sum(run.lost_s for run in group.runs)
    ends = [run.forecast["done_at"] for run in group.runs if run.forecast.get("done_at")]
    pairs: list[tuple[str, Child]] = [
        ("Steps saved", join(h("b", steps(group.step)), f" of {steps(group.target)} ({100 * share:.0f} %)")),
        ("Best score" if group.sweep else "Best scores", h("b", group.best or "none yet")),
        *_newest_mean(view),
        ("Session time", join(h("b", lasted(session_time(group.runs))), f" in {count(sessions, 'session')}")),
        ("Lost", join(h("b", lasted(lost_s)), " to be trained again" if lost_s else "")),
    ]
    if group.sweep:
        judged = f"{group.sweep.direction} {group.sweep.metric}, at " + ", ".join(map(steps, group.sweep.rungs))
        pairs.append(("Judged by", judged))
    if ends:
        pairs.append(("All targets reached", join("about ", when(max(ends, key=epoch)))))
    pairs.append(("Platform", ", ".join(sorted({run.platform for run in group.runs})) or NONE))
    broken = sum(bool(run.exactness) for run in group.runs)
    pairs.append(("Exactness", f"not throughout in {count(broken, 'run')}" if broken else "no break recorded"))
    return join(
        h("p", states_of(group) or "no run yet", class_="why"),
        progress(share, f"{group.step:,} of {group.target:,} steps saved"),
        facts(pairs),
        h("p", group.sweep.halted, class_="problem", role="status") if group.sweep and group.sweep.halted else None,
        h("p", "Next: ", h("code", group.next), class_="next") if group.next else None,
    )


def _newest_mean(view: GroupView) -> list[tuple[str, Child]]:
    """The mean at the newest step that most runs have come to."""
    if view.group.sweep or not view.quantities:
        return []
    means = means_of(next(iter(view.quantities.values())).values())
    if not means:
        return []
    newest = max(means, key=lambda mean: (mean.runs, mean.step))
    return [("Newest mean", join(h("b", score(newest.value)), f" at step {steps(newest.step)}, {_sureness(newest)}"))]


def _sureness(mean: Mean) -> str:
    of = count(mean.runs, "run")
    return f"95 % {mean.interval[0]:.4g} to {mean.interval[1]:.4g}, {of}" if mean.interval else of


def _curves(view: GroupView) -> Markup:
    if not view.quantities:
        return join(h("h3", "Learning curves"), h("p", "No evaluation and no metric yet.", class_="empty"))
    draw = _trials_figure if view.group.sweep else _campaign_figure
    return join(h("h3", "Learning curves"), [draw(view, name, curves) for name, curves in view.quantities.items()])


def _campaign_figure(view: GroupView, name: str, curves: Mapping[str, Points]) -> Markup:
    means = means_of(curves.values())
    own = [Series("", points, "faint", told=False) for points in curves.values()]
    mean = mean_series("mean", curves, "c1")
    said = f"; newest mean {means[-1].value:.4g} over {count(means[-1].runs, 'run')}" if means else ""
    rows = [
        (
            steps(mean.step),
            score(mean.value),
            f"{mean.interval[0]:.4g} to {mean.interval[1]:.4g}" if mean.interval else NONE,
            mean.runs,
        )
        for mean in reversed(means)
    ]
    keys = [("line c1", "mean over the runs"), ("line faint", "each run")]
    keys += [("band c1", f"95 % interval of the mean, from {FEWEST_FOR_INTERVAL} runs on")] if mean.band else []
    return figure(
        name,
        [legend(keys), line_chart(f"{name} of {view.group.name}{said}", [*own, mean])],
        folded_table(
            "Means as a table",
            f"{name}, newest first",
            ("Step", "Mean", "95 % interval", "Runs"),
            rows,
            numbers=(0, 1, 2, 3),
            id_=f"means-{view.group.id}-{list(view.quantities).index(name)}",
        ),
    )


def _trials_figure(view: GroupView, name: str, curves: Mapping[str, Points]) -> Markup:
    group, sweep = view.group, view.group.sweep
    assert sweep is not None
    by_scenario = {run.scenario: curves[run.run_id] for run in group.runs if run.run_id in curves}
    best = [sweep.trial(number) for number in sweep.best[:TRIALS_TOLD]]
    told = [
        Series(f"trial {trial.number}", by_scenario[trial.scenario], f"c{place}")
        for place, trial in enumerate(best, start=1)
        if trial.scenario in by_scenario
    ]
    ranked = {trial.scenario for trial in best}
    others = [Series("", points, "faint", told=False) for trial, points in by_scenario.items() if trial not in ranked]
    marks = [Mark(rung, "session", f"judged at step {rung:,}") for rung in sweep.rungs]
    keys = [(f"line {series.style}", series.name) for series in told]
    keys += [("line faint", "other trials")] * bool(others) + [("boundary", "trials are judged")]
    shown = [*others, *reversed(told)]
    label = f"{name} of {group.name}; best: " + (", ".join(series.name for series in told) or "none yet")
    return figure(name, [legend(keys), line_chart(label, shown, marks=marks)])


def _campaign_table(view: GroupView, links: Links) -> Markup:
    heads = ("Seed", *RUN_HEADS, "Now")
    rows = [
        [
            h("a", view.group.name_of(run), " ", h("code", run.run_id[:8]), href=links.run(run)),
            *run_cells(run),
            run.why,
        ]
        for run in view.group.runs
    ]
    return join(h("h3", "Runs"), table("The runs of this campaign", heads, rows, numbers=(3, 5, 6, 7)))


def _trials_table(view: GroupView, sweep: SweepReport, links: Links) -> Markup:
    """Every trial with its values, the best first."""
    runs = {run.scenario: run for run in view.group.runs}
    place = {number: rank for rank, number in enumerate(sweep.best, start=1)}
    trials = sorted(sweep.trials, key=lambda trial: (place.get(trial.number, len(place) + 1), trial.number))
    keys = list(dict.fromkeys(key for trial in sweep.trials for key in trial.values))
    columns = keys if len(keys) <= MOST_COLUMNS else []
    short = {key: key.rpartition(".")[2] for key in keys}
    named = [short[key] if list(short.values()).count(short[key]) == 1 else key for key in columns]
    heads = ["Trial", "State", "Steps", "Score", *(named or ["Values"]), "Scores before"]
    rows = [
        [
            *_trial_cells(trial, runs.get(trial.scenario), view.group, links),
            *([_value(trial, key) for key in columns] or [", ".join(f"{key} = {_value(trial, key)}" for key in keys)]),
            _earlier(trial),
        ]
        for trial in trials
    ]
    return join(h("h3", "Trials"), table("Trials, the best first", heads, rows, numbers=(3,)))


def _trial_cells(trial: TrialReport, run: RunReport | None, group: Group, links: Links) -> Sequence[Child]:
    state = run.state if run and trial.state == "running" else trial.state
    return [
        h("a", group.name_of(run), href=links.run(run)) if run else f"trial {trial.number}",
        [state_word(state), " ", exact_until(run) if run else None],
        steps_of(run.step, run.target) if run else NONE,
        score(trial.scores[-1]) if trial.scores else trial.failure or NONE,
    ]


def _value(trial: TrialReport, key: str) -> str:
    value = trial.values.get(key, NONE)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _earlier(trial: TrialReport) -> str:
    came = zip(trial.steps[:-1], trial.scores[:-1], strict=True)
    return ", ".join(f"{value:.6g} at {step:,}" for step, value in came) or NONE
