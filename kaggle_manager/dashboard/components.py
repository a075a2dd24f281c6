"""Components of every part of the page: tables that fold on a phone, facts, dates, progress bars. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from kaggle_manager.dashboard.groups import Group
from kaggle_manager.dashboard.markup import Child, Markup, h, join
from kaggle_manager.status.overview import ORDER
from kaggle_manager.status.report import RunReport
from kaggle_manager.system.formatting import duration, epoch, iso

NONE = "–"


@dataclass(frozen=True)
class Links:
    """Where links of the page lead: to a heading, of the live page with what is asked for."""

    live: bool

    def run(self, run: RunReport) -> str:
        return f"?run={run.run_id}" * self.live + f"#run-{run.run_id[:8]}"

    def group(self, group: Group) -> str:
        return f"?group={quote(group.key)}" * self.live + f"#group-{group.id}"


def when(moment: str | float | None) -> Child:
    """A date in local time, to the minute. `moment`: ISO 8601 or seconds since the epoch."""
    if moment is None:
        return NONE
    seconds = epoch(moment) if isinstance(moment, str) else moment
    local = datetime.fromtimestamp(seconds, UTC).astimezone()
    return h("time", f"{local.day} {local:%b} {local:%H:%M}", datetime=iso(seconds))


def lasted(seconds: float | None) -> str:
    """A duration that may be unknown."""
    return NONE if seconds is None else duration(seconds)


def steps(count: int | None) -> str:
    return NONE if count is None else f"{count:,}"


def score(value: float | None) -> str:
    return NONE if value is None else f"{value:.6g}"


def sha(digest: str | None) -> Child:
    """The beginning of a hash; all of it as its title."""
    return h("code", digest[:10], title=digest) if digest else NONE


def facts(pairs: Sequence[tuple[str, Child]]) -> Markup:
    """Names with their values."""
    return h("dl", [h("div", h("dt", name), h("dd", value)) for name, value in pairs], class_="facts")


def table(
    caption: str, heads: Sequence[str], rows: Sequence[Sequence[Child]], *, numbers: Sequence[int] = ()
) -> Markup:
    """A table whose rows become blocks of names and values where there is no room. `numbers`: columns set right."""
    # The roles are said because a table displayed as blocks would lose them.
    names = [
        h("th", name, scope="col", role="columnheader", class_=_number(i, numbers)) for i, name in enumerate(heads)
    ]
    body = [
        h(
            "tr",
            [h("td", cell, role="cell", data_label=heads[i], class_=_number(i, numbers)) for i, cell in enumerate(row)],
            role="row",
        )
        for row in rows
    ]
    return h(
        "table",
        h("caption", caption),
        h("thead", h("tr", names, role="row"), role="rowgroup"),
        h("tbody", body, role="rowgroup"),
        role="table",
    )


def _number(index: int, numbers: Sequence[int]) -> str | None:
    return "number" if index in numbers else None


def legend(items: Sequence[tuple[str, str]]) -> Markup:
    """The legend of a chart: (style class, meaning) of each line and mark."""
    return h("ul", [h("li", h("i", class_=f"key {kind}"), words) for kind, words in items], class_="legend")


def progress(share: float, label: str) -> Markup:
    """A progress bar of `share`, 0 to 1. `label`: the same for a screen reader."""
    width = f"{100 * min(1.0, max(0.0, share)):.2f}%"
    return h(
        "svg",
        h("rect", x=0, y=0, width="100%", height="100%", class_="track"),
        h("rect", x=0, y=0, width=width, height="100%", class_="done"),
        class_="progress",
        role="img",
        aria_label=label,
    )


def folded_table(
    summary: str,
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[Child]],
    *,
    id_: str,
    numbers: Sequence[int] = (),
) -> Child:
    """A collapsed table, nothing without rows; the page keeps it open while it renews itself."""
    return h("details", h("summary", summary), table(caption, heads, rows, numbers=numbers), id=id_) if rows else None


def state_word(state: str, human: bool = False) -> Markup:
    """The state of a run or session, in a word; its colour only repeats it."""
    return h(
        "span", state, " – needs you" if human else None, class_=f"state {state} {'human' if human else ''}".strip()
    )


def states(runs: Iterable[RunReport]) -> str:
    """How many runs are in which state, the most urgent one first: `1 failed, 3 running`."""
    found = Counter(run.state for run in runs)
    return ", ".join(f"{found[state]} {state}" for state in sorted(found, key=ORDER.index))


def states_of(group: Group) -> str:
    """The same of a group's runs; of a sweep's trials: what a sweep has paused is not ready to go on."""
    if group.sweep is None:
        return states(group.runs)
    trials = group.sweep.with_runs({run.scenario: run.state for run in group.runs}).trials
    return ", ".join(f"{number} {state}" for state, number in Counter(each.state for each in trials).most_common())


def steps_of(step: int, target: int) -> Markup:
    """How far something has come, as a bar and in numbers."""
    share = step / target if target else 0.0
    return join(progress(share, f"{step:,} of {target:,} steps saved"), f"{steps(step)} / {steps(target)}")


def exact_until(run: RunReport) -> Child:
    """A tag for a run whose bits are not, or not from its beginning, those of an uninterrupted training."""
    return h("span", run.exactness.partition(", ")[0].partition("; ")[0], class_="kind") if run.exactness else None


RUN_HEADS = ("State", "Steps", "Best", "Platform", "Sessions", "Session time", "Lost")


def run_cells(run: RunReport) -> list[Child]:
    """What a table says of a run, under `RUN_HEADS`."""
    return [
        [state_word(run.state, run.human_action_required), " ", exact_until(run)],
        steps_of(run.step, run.target),
        score(run.best_score),
        run.platform,
        len(run.sessions),
        lasted(run.accelerator_s),
        lasted(run.lost_s),
    ]
