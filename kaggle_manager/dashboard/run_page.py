"""One run as parts of the page; each can be renewed by itself. Pure: from a `RunView` alone."""

from __future__ import annotations

from collections.abc import Mapping

from kaggle_manager.dashboard.charts import Mark, Series, figure, line_chart
from kaggle_manager.dashboard.components import (
    NONE,
    Links,
    facts,
    folded_table,
    lasted,
    legend,
    progress,
    score,
    sha,
    state_word,
    steps,
    table,
    when,
)
from kaggle_manager.dashboard.curves import smoothed, thinned
from kaggle_manager.dashboard.markup import Child, Markup, h, join
from kaggle_manager.dashboard.session_table import sessions_part
from kaggle_manager.dashboard.view import RunView
from kaggle_manager.system.command_line import quoted
from kaggle_manager.system.formatting import count, duration, epoch, size
from kaggle_manager.trees.inspect import CheckpointView

# Beyond these numbers dots hide their line, and a table is too long to read: `/api/runs/ID` has them all.
MOST_DOTS, EVALUATIONS_LISTED = 120, 200
SMOOTHED_EPISODES = 10


def run_parts(view: RunView, links: Links) -> dict[str, Markup]:
    """The parts of a run by name, in the order they stand in."""
    return {
        "facts": _facts(view, links),
        "curve": _curve(view),
        "sessions": sessions_part(view),
        "forecast": _forecast(view),
        "lineage": _lineage(view),
        "experiment": _experiment(view),
        "log": _log(view),
    }


def _facts(view: RunView, links: Links) -> Markup:
    report, forecast, seen = view.report, view.report.forecast, view.report.progress
    share = report.step / report.target
    best = "none yet" if report.best_score is None else score(report.best_score)
    best_at = "" if report.best_step is None else f" at step {steps(report.best_step)}"
    pairs: list[tuple[str, Child]] = [
        ("Steps saved", join(h("b", steps(report.step)), f" of {steps(report.target)} ({100 * share:.0f} %)")),
        ("Best score", join(h("b", best), best_at)),
        ("Session time", join(h("b", lasted(report.accelerator_s)), f" in {count(len(report.sessions), 'session')}")),
        ("Lost", join(h("b", lasted(report.lost_s)), " to be trained again" if report.lost_s else "")),
    ]
    if forecast.get("done_at"):
        more = count(forecast["sessions"], "session")
        pairs.append(("Target reached", join("about ", when(forecast["done_at"]), f", {more} more")))
    if seen.get("step") is not None:
        speed = f", {seen['steps_per_s']:.3g} steps/s" if seen.get("steps_per_s") else ""
        reward = (
            f", {seen.get('metric') or 'mean return'} {seen['reward']:.4g}" if seen.get("reward") is not None else ""
        )
        pairs.append(("This session", f"at step {seen['step']:,}{speed}{reward}"))
    if view.group:
        pairs.append(("Part of", h("a", view.group.name, href=links.group(view.group))))
    pairs.append(("Platform", report.platform))
    if report.step:
        pairs.append(("Exactness", report.exactness or "no break recorded"))
    return join(
        h("p", state_word(report.state, report.human_action_required), " ", report.why, class_="why"),
        progress(share, f"{report.step:,} of {report.target:,} steps saved"),
        facts(pairs),
        h("p", "Next: ", h("code", report.next), class_="next") if report.next else None,
        [h("p", problem, class_="problem", role="status") for problem in view.problems],
    )


def _curve(view: RunView) -> Markup:
    curve, report = view.curve, view.report
    evaluations = thinned([(point.step, point.mean) for point in curve.evaluations])
    last = evaluations[-1][0] if evaluations else -1
    live = [(step, value) for step, value in view.log.evaluations if step > last]
    live = [*evaluations[-1:], *live] if live else []
    told = [(step, value) for step, value in view.log.progress if step > report.step]
    series = [
        Series("training return", smoothed(curve.returns, SMOOTHED_EPISODES), "faint"),
        Series("training return, this session's log", told, "faint live"),
        Series("evaluation, this session's log", live, "main live", dots=True),
        Series("evaluation", evaluations, "main", dots=len(evaluations) <= MOST_DOTS),
    ]
    if not any(each.points for each in series[2:]) and curve.metrics:
        return _metrics(view)
    if not any(each.points for each in series):
        return join(h("h3", "Learning curve"), h("p", "No evaluation and no episode yet.", class_="empty"))
    marks = _session_marks(view)
    marks += [
        Mark(each.manifest.step, "checkpoint", f"{each.level} checkpoint at step {each.manifest.step:,}")
        for each in view.looked.checkpoints
        if each.manifest and each.level != "best"
    ]
    if report.best_step is not None and report.best_score is not None:
        label = f"best: {report.best_score:.6g} at step {report.best_step:,}"
        marks.append(Mark(report.best_step, "best", label, report.best_score))
    extent = f"{count(len(curve.evaluations), 'evaluation')}, {count(curve.episodes, 'episode')}"
    rows = [(steps(p.step), f"{p.mean:.6g}", p.episodes) for p in reversed(curve.evaluations[-EVALUATIONS_LISTED:])]
    return join(
        h("h3", "Learning curve"),
        legend(
            [
                ("line main", "evaluation"),
                ("line faint", f"training return, mean of {SMOOTHED_EPISODES} episodes"),
                *([("line main live", "from the running session's log")] if told or live else []),
                ("best", "best model"),
                ("boundary", "session begins"),
                ("checkpoint", "checkpoint"),
            ]
        ),
        line_chart(f"Learning curve of {report.name}: {extent}", series, marks=marks),
        h("p", class_="readout", aria_live="polite"),
        folded_table(
            "Evaluations as a table",
            f"Mean return of the newest {count(len(rows), 'evaluation')}",
            ("Step", "Mean return", "Episodes"),
            rows,
            numbers=(0, 1, 2),
            id_=f"evaluations-{report.run_id[:8]}",
        ),
        h("p", "Losses and more: ", h("code", f"tensorboard --logdir {quoted(curve.tensorboard)}"), class_="about")
        if curve.tensorboard
        else None,
    )


def _metrics(view: RunView) -> Markup:
    """What a script tells, a chart for each of its metrics."""
    marks = _session_marks(view)
    charts = [
        figure(
            name,
            line_chart(f"{name} of {view.report.name}", [Series(name, points, "main")], marks=marks),
            folded_table(
                f"{name} as a table",
                f"{name} at the newest {count(len(points[-EVALUATIONS_LISTED:]), 'step')}",
                ("Step", name),
                [(steps(step), score(value)) for step, value in reversed(points[-EVALUATIONS_LISTED:])],
                numbers=(0, 1),
                id_=f"metric-{view.report.run_id[:8]}-{number}",
            ),
        )
        for number, (name, points) in enumerate(view.curve.metrics)
    ]
    return join(h("h3", "Metrics"), charts)


def _session_marks(view: RunView) -> list[Mark]:
    return [
        Mark(session.first_step, "session", f"session {session.number} starts at step {session.first_step:,}")
        for session in view.lineage
        if session.first_step
    ]


def _forecast(view: RunView) -> Markup:
    rest, error, parts = view.report.forecast, view.forecast_error, [_quota(view)]
    if rest:
        needs = f" after {count(rest['sessions'], 'more session')} and {lasted(rest['accelerator_s'])} of session time."
        parts.append(h("p", "Target reached about ", when(rest["done_at"]), needs))
    if error is not None:
        more = "more" if error >= 0 else "fewer"
        parts.append(h("p", f"Sessions gained {abs(error):.0%} {more} steps than foreseen (median of all so far)."))
    rows = []
    for each in reversed(view.forecasts):
        expected, gained, off = each.expected_steps, each.gained, NONE
        if expected and gained is not None:
            off = f"{(gained - expected) / expected:+.0%}"
        end_off = _off(each.done_at, view.finished_at)
        rows.append((each.generation, steps(expected), steps(gained), off, when(each.done_at), end_off))
    earlier = folded_table(
        "How wrong earlier forecasts were",
        "Forecasts, newest first",
        ("Session", "Steps foreseen", "Gained", "Off by", "End foreseen", "Off by, in time"),
        rows,
        numbers=(0, 1, 2, 3),
        id_=f"forecasts-{view.report.run_id[:8]}",
    )
    none = h("p", "No forecast yet: it needs one session's speed.", class_="empty")
    return join(h("h3", "Quota and forecast"), parts, earlier or none)


def _quota(view: RunView) -> Markup:
    quota = view.quota
    if quota is None:
        none = "No weekly quota is known: it is asked for before each session on an accelerator."
        return h("p", none, class_="empty")
    label = f"{lasted(quota.left_s)} of {lasted(quota.total_s)} accelerator time left this week"
    refresh = quota.refresh_after(view.now)
    renewed = [", renewed ", when(refresh)] if refresh else None
    return join(
        progress(quota.left_s / quota.total_s if quota.total_s else 0.0, label),
        h("p", label, "; asked ", when(quota.asked_at), renewed, "."),
    )


def _off(done_at: str, finished_at: str | None) -> str:
    if finished_at is None:
        return "not known yet"
    late = epoch(finished_at) - epoch(done_at)
    return f"{duration(abs(late))} {'too early' if late > 0 else 'too late'}"


def _lineage(view: RunView) -> Markup:
    rows = []
    for each in view.looked.checkpoints:
        m, replay = each.manifest, f" + {size(each.replay_size)} replay" if each.replay_size else ""
        made_by = (m.lineage.generation, sha(m.lineage.parent_sha256)) if m else (NONE, NONE)
        step = steps(m.step if m else None)
        rows.append((each.level, step, size(each.size) + replay, hash_words(each, view), *made_by))
    links = [
        (
            each.number,
            sha(each.parent_sha256) if each.parent_sha256 else "from zero",
            f"{steps(each.first_step)} → {steps(each.last_step)}",
            size(each.size) if each.size is not None else "nothing here",
            ["verified ", when(each.verified_at)] if each.verified_at else "not downloaded",
            sha(each.bundle_sha256),
        )
        for each in reversed(view.lineage)
    ]
    return join(
        h("h3", "Checkpoints and lineage"),
        table(
            "Checkpoints in the training tree",
            ("Level", "Step", "Size", "Hashes", "Session", "Continues"),
            rows,
            numbers=(1, 2, 4),
        )
        if rows
        else h("p", "No checkpoint yet.", class_="empty"),
        folded_table(
            "Lineage: what each session continued and left",
            "Sessions, newest first",
            ("No.", "Continues", "Steps", "Left", "Outputs", "Code"),
            links,
            numbers=(0,),
            id_=f"links-{view.report.run_id[:8]}",
        ),
    )


def hash_words(checkpoint: CheckpointView, view: RunView) -> Child:
    """What reading the bytes of a checkpoint showed."""
    if checkpoint.hash_state == "verified":
        return ["verified ", when(view.looked.verified_at)]
    if checkpoint.problem:
        return h("span", f"cannot be used: {checkpoint.problem}", class_="problem")
    return "not verified yet"


def _experiment(view: RunView) -> Markup:
    return join(
        folded_table(
            "Hyperparameters and fingerprints",
            "What the newest checkpoint says it trains",
            ("Name", "Value"),
            flat(view.identity),
            id_=f"identity-{view.report.run_id[:8]}",
        )
    )


def flat(value: object, prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as names with dots, and texts."""
    if not isinstance(value, Mapping):
        return [(prefix, str(value))]
    return [pair for name, inner in value.items() for pair in flat(inner, f"{prefix}.{name}" if prefix else str(name))]


def _log(view: RunView) -> Markup:
    log = view.log
    if log.generation is None:
        return join(h("h3", "Log"), h("p", "No line of a log is here yet.", class_="empty"))
    what = f"Session {log.generation}, {'running' if log.running else 'ended'}"
    what += "" if log.whole else f"; its last {count(len(log.lines), 'line')}"
    name = f"Log of session {log.generation}"
    return join(
        h("h3", "Log"),
        h("p", what, class_="about"),
        h("pre", "\n".join(log.lines), class_="log", tabindex=0, role="log", aria_label=name, aria_live="off"),
    )
