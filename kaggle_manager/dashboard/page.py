"""The whole page: the runs there are, one of them (or all) in full, and some of them side by side.

Promises: the page is complete without a script; its parts, by name, are what the script renews.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kaggle_manager.console.formatting import count
from kaggle_manager.dashboard.comparison import MOST_RUNS, comparison
from kaggle_manager.dashboard.components import lasted, progress, score, state_word, steps, table, when
from kaggle_manager.dashboard.markup import Child, Markup, h, join
from kaggle_manager.dashboard.run_page import run_parts
from kaggle_manager.dashboard.view import Dashboard
from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.status.report import RunReport
from kaggle_manager.system.command_line import WhichTree

# Folder of the style sheet and the script.
STATIC = Path(__file__).with_name("static")
TITLE = "Kaggle Manager"
FIRST_RUN = WhichTree("section_7_6_rl_performance", quick=True).command("run")


@dataclass(frozen=True)
class Asked:
    """What an address asks to see: one run in full (the most urgent when it is not named), some beside it."""

    run: str = ""
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Content:
    """What is on the page.

    Attributes:
        parts: the markup of every part, by its id.
        headings: the heading of each run in full, by the first part that follows it.
    """

    at: float
    state: Path
    parts: Mapping[str, Markup]
    shown: tuple[RunReport, ...] = ()
    comparing: bool = False
    problem: str = ""
    run_part_ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def look(dashboard: Dashboard, asked: Asked, *, everything: bool = False) -> Content:
    """Everything the page says now; what goes wrong is said on it.

    Args:
        everything: every run in full, the first of them side by side, the bytes of checkpoints read now: for a file.
    """
    at = dashboard.clock()
    try:
        reports = dashboard.overview().runs
        known = {report.run_id for report in reports}
        chosen = asked.run if asked.run in known else reports[0].run_id if reports else ""
        in_full = [report.run_id for report in reports] if everything else [chosen] if chosen else []
        beside = tuple(each for each in asked.beside if each in known and each != chosen)
        if everything and len(reports) > 1:
            beside = tuple(report.run_id for report in reports[1:])
        views = {run_id: dashboard.run(run_id, verify=everything) for run_id in (*in_full, *beside[: MOST_RUNS - 1])}
    except KaggleManagerError as error:
        problem = Markup(h("p", error.message, " ", error.next_step, class_="problem", role="alert"))
        return Content(at, dashboard.state, {"runs": problem}, problem=error.message)
    parts = {"runs": _runs(reports, chosen, beside, links=not everything)}
    ids: dict[str, tuple[str, ...]] = {}
    for run_id in in_full:
        own = {f"{name}-{run_id[:8]}": markup for name, markup in run_parts(views[run_id]).items()}
        ids[run_id] = tuple(own)
        parts |= own
    if beside:
        parts["comparison"] = comparison([views[each] for each in (chosen, *beside) if each in views])
    shown = tuple(report for report in reports if report.run_id in in_full)
    return Content(at, dashboard.state, parts, shown, bool(beside), run_part_ids=ids)


def document(content: Content, head: Child, *, live: bool) -> str:
    """The page as HTML. `head`: where style and script come from. `live`: whether it renews itself."""
    main = [_part("runs", content.parts["runs"], "section", aria_label="Runs")]
    main += [_article(report, content) for report in content.shown]
    if content.comparing:
        side = _part("comparison", content.parts["comparison"], "div")
        main.append(h("section", h("h2", "Side by side", id="side-by-side"), side, aria_labelledby="side-by-side"))
    newest = h("span", "as of ", when(content.at), id="as-of")
    note = "A copy of one moment; it does not change." if not live else "Renews itself while this page is open."
    body = join(
        h("a", "Skip to the runs", href="#content", class_="skip"),
        h("header", h("h1", TITLE), h("p", h("span", str(content.state), class_="folder"), " · ", newest)),
        h("main", main, id="content", tabindex="-1"),
        h("footer", h("p", note, " Read-only: from the journal and the training trees, asking no platform.")),
        h("p", id="announcer", class_="unseen", role="status", aria_live="polite"),
    )
    page = h(
        "html",
        h(
            "head",
            h("meta", charset="utf-8"),
            head,
            h("meta", name="viewport", content="width=device-width, initial-scale=1"),
            h("meta", name="color-scheme", content="light dark"),
            h("link", rel="icon", href="data:,"),
            h("title", TITLE),
        ),
        h("body", body, data_live=live),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


def _part(name: str, markup: Markup, tag: str = "section", **attributes: object) -> Markup:
    return h(tag, markup, id=name, data_part=True, class_=f"part {name.partition('-')[0]}", **attributes)


def _article(report: RunReport, content: Content) -> Markup:
    name = f"run-{report.run_id[:8]}"
    title = h("h2", report.name, " ", h("small", report.section, " · ", h("code", report.run_id[:8])), id=name)
    parts = [_part(each, content.parts[each], "div") for each in content.run_part_ids[report.run_id]]
    return h("article", title, parts, aria_labelledby=name)


def _runs(reports: Sequence[RunReport], chosen: str, beside: Sequence[str], *, links: bool) -> Markup:
    if not reports:
        return join(
            h("h2", "No run yet"),
            h("p", "Nothing was started in this folder. The quickest start, two short sessions on this machine:"),
            h("p", h("code", FIRST_RUN), class_="next"),
            h("p", "It appears here by itself.") if links else None,
        )
    rows = []
    for report in reports:
        share = f"{report.step:,} of {report.target:,} steps saved"
        text = [report.name, " ", h("code", report.run_id[:8])]
        current = "true" if report.run_id == chosen and links else None
        target = f"?run={report.run_id}" if links else f"#run-{report.run_id[:8]}"
        row: list[Child] = [
            h("a", text, href=target, aria_current=current),
            state_word(report.state, report.human_action_required),
            join(progress(report.step / report.target, share), f"{steps(report.step)} / {steps(report.target)}"),
            score(report.best_score),
            len(report.sessions),
            lasted(report.accelerator_s),
            lasted(report.lost_s),
        ]
        if links and len(reports) > 1:
            box = None
            if report.run_id != chosen:
                name = f"Set {report.name} {report.run_id[:8]} beside the chosen run"
                on = report.run_id in beside
                box = h("input", type="checkbox", name="with", value=report.run_id, checked=on, aria_label=name)
            row.append(box or "chosen")
        rows.append(row)
    heads = ["Run", "State", "Steps", "Best", "Sessions", "Session time", "Lost"]
    heads += ["Compare"] if links and len(reports) > 1 else []
    listed = table(f"{count(len(reports), 'run')}, the most urgent first", heads, rows, numbers=(3, 4, 5, 6))
    if not links or len(reports) < 2:
        return listed
    chosen_too = h("input", type="hidden", name="run", value=chosen)
    return h("form", chosen_too, listed, h("button", "Set side by side"), method="get", action="/")
