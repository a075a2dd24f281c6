"""All runs and all groups as tables, with the boxes that set some of them side by side. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kaggle_manager.dashboard.components import (
    NONE,
    RUN_HEADS,
    Links,
    folded_table,
    lasted,
    run_cells,
    states_of,
    steps_of,
    table,
)
from kaggle_manager.dashboard.groups import Group
from kaggle_manager.dashboard.live import session_time
from kaggle_manager.dashboard.markup import Child, Markup, h, join
from kaggle_manager.status.report import RunReport
from kaggle_manager.system.formatting import count

# Later rows are collapsed.
RUNS_SHOWN = 15
COMPARE_FORM = "compare"


def runs_part(reports: Sequence[RunReport], links: Links, shown: str, beside: Collection[str]) -> Markup:
    """Every run, the most urgent first."""
    heads = ["Run", *RUN_HEADS]
    rows: list[list[Child]] = []
    for run in reports:
        name = [run.name, " ", h("code", run.run_id[:8])]
        row: list[Child] = [
            h("a", name, href=links.run(run), aria_current=_is_shown(run.run_id, links, shown)),
            *run_cells(run),
        ]
        rows.append([*row, *_box(run.run_id, f"{run.name} {run.run_id[:8]}", links, shown, beside)])
    heads += ["Compare"] * links.live
    numbers = (3, 5, 6, 7)
    first, rest = rows[:RUNS_SHOWN], rows[RUNS_SHOWN:]
    caption = f"{count(len(reports), 'run')}, the most urgent first"
    return join(
        h("h2", "Runs"),
        table(caption, heads, first, numbers=numbers),
        folded_table(count(len(rest), "more run"), "The other runs", heads, rest, numbers=numbers, id_="more-runs"),
        _button(links) if len(reports) > 1 else None,
    )


def groups_part(groups: Sequence[Group], links: Links, shown: str, beside: Collection[str]) -> Markup:
    """Every campaign and every sweep."""
    heads = ["Campaign or sweep", "Runs", "Steps", "Best", "Sessions", "Session time", "Lost"]
    rows: list[list[Child]] = []
    for group in groups:
        row: list[Child] = [
            h("a", group.name, href=links.group(group), aria_current=_is_shown(group.key, links, shown)),
            states_of(group) or NONE,
            steps_of(group.step, group.target),
            group.best or NONE,
            sum(len(run.sessions) for run in group.runs),
            lasted(session_time(group.runs)),
            lasted(sum(run.lost_s for run in group.runs)),
        ]
        rows.append([*row, *_box(group.key, f"{group.name} of {group.section}", links, shown, beside)])
    heads += ["Compare"] * links.live
    caption = "Runs that belong together: the seeds of a campaign, the trials of a sweep"
    return join(h("h2", "Campaigns and sweeps"), table(caption, heads, rows, numbers=(4, 5, 6)), _button(links))


def _is_shown(key: str, links: Links, shown: str) -> str | None:
    return "true" if key == shown and links.live else None


def _box(key: str, name: str, links: Links, shown: str, beside: Collection[str]) -> list[Child]:
    """What sets a run or a group beside the one that is shown; nothing in a file."""
    if not links.live:
        return []
    if key == shown:
        return ["shown"]
    told = f"Set {name} beside what is shown"
    on = key in beside
    return [h("input", type="checkbox", name="with", value=key, checked=on, aria_label=told, form=COMPARE_FORM)]


def _button(links: Links) -> Child:
    return h("button", "Set side by side", form=COMPARE_FORM) if links.live else None
