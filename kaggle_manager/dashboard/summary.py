"""The top of the page: what needs the user, what runs now and where. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from kaggle_manager.dashboard.components import NONE, Links, lasted, state_word, states, steps, table, when
from kaggle_manager.dashboard.groups import Group
from kaggle_manager.dashboard.live import Account, live_sessions
from kaggle_manager.dashboard.markup import Child, Markup, h, join
from kaggle_manager.status.report import RunReport
from kaggle_manager.system.formatting import count, epoch


def waiting_for_user(reports: Sequence[RunReport], groups: Sequence[Group]) -> str:
    """The heading of the page: how much needs the user."""
    halted = [group for group in groups if group.sweep and group.sweep.halted]
    runs = sum(run.human_action_required for run in reports)
    what = [count(runs, "run")] * bool(runs) + [count(len(halted), "sweep")] * bool(halted)
    return f"Action required: {' and '.join(what)}" if what else "No action required"


def attention_part(
    reports: Sequence[RunReport], groups: Sequence[Group], problems: Sequence[str], links: Links
) -> Markup:
    """What needs the user, with the command that helps; runs that need the same stand together."""
    needing = sorted((run for run in reports if run.human_action_required), key=_need)
    items = [_item(list(runs), links) for _, runs in groupby(needing, key=_need)]
    items += [_halted(group, links) for group in groups if group.sweep and group.sweep.halted]
    return join(
        h("h2", waiting_for_user(reports, groups)),
        h("ul", items, class_="todo") if items else None,
        [h("p", problem, class_="problem") for problem in problems],
        h("p", f"{count(len(reports), 'run')}: {states(reports)}.", class_="about"),
    )


def _need(run: RunReport) -> tuple[str, str]:
    return run.state, run.why


def _item(runs: Sequence[RunReport], links: Links) -> Markup:
    names = [[h("a", run.name, " ", h("code", run.run_id[:8]), href=links.run(run)), " "] for run in runs]
    commands = dict.fromkeys(run.next for run in runs if run.next)
    return h(
        "li",
        h("p", state_word(runs[0].state, human=True), " ", names),
        h("p", runs[0].why, class_="why"),
        [h("p", "Next: ", h("code", command), class_="next") for command in commands],
    )


def _halted(group: Group, links: Links) -> Markup:
    assert group.sweep is not None
    return h(
        "li",
        h("p", state_word("stopped", human=True), " ", h("a", group.name, href=links.group(group))),
        h("p", group.sweep.halted, class_="why"),
        h("p", "Next: ", h("code", group.next), class_="next"),
    )


def live_part(reports: Sequence[RunReport], accounts: Sequence[Account], links: Links) -> Markup:
    """The sessions that are queued or running, the runs that wait, and the accounts of the platforms."""
    sessions = live_sessions(reports)
    rows = [_live_row(run, links) for runs in sessions for run in runs]
    heads = ("Session", "Run", "State", "Since", "Step", "Speed", "Target about")
    return join(
        h("h2", "Live sessions"),
        table(f"{count(len(sessions), 'session')}, with the runs in each", heads, rows, numbers=(4, 5))
        if rows
        else h("p", "No session is live.", class_="empty"),
        _waiting([run for run in reports if run.waiting_until]),
        _accounts(accounts),
    )


def _live_row(run: RunReport, links: Links) -> list[Child]:
    session, seen = run.sessions[-1], run.progress
    speed = seen.get("steps_per_s")
    lane = h("span", session.lane.replace("_", " "), class_="kind") if session.lane else None
    return [
        [run.platform, " ", h("code", session.version, title=session.address) if session.version else None, " ", lane],
        h("a", f"{run.name}, session {session.generation}", href=links.run(run)),
        state_word(run.state),
        when(session.running_since or session.started_at),
        f"{steps(seen.get('step') or run.step)} / {steps(run.target)}",
        f"{speed:.3g}/s" if speed else NONE,
        when(run.forecast.get("done_at")),
    ]


def _waiting(runs: Sequence[RunReport]) -> Child:
    if not runs:
        return None
    first = min(runs, key=lambda run: epoch(run.waiting_until or ""))
    what = f"{count(len(runs), 'run')} waiting, the first until "
    return h("p", what, when(first.waiting_until), f": {first.name}, {first.why}", class_="about")


def _accounts(accounts: Sequence[Account]) -> Child:
    if not accounts:
        return None
    platforms = [account.platform for account in accounts]
    rows = []
    for account in accounts:
        name = account.platform if platforms.count(account.platform) == 1 else f"{account.platform} ({account.owner})"
        quota = account.quota
        left = f"{lasted(quota.left_s)} of {lasted(quota.total_s)}" if quota else NONE
        rows.append((name, account.live, lasted(account.week_s), left, when(quota.asked_at if quota else None)))
    heads = ("Platform", "Live", "Session time, 7 days", "Left of the week", "Asked")
    return table("Platforms", heads, rows, numbers=(1, 2))
