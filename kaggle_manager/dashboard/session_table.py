"""The sessions of a run on the page: a timeline of when each ran, and a table of why it ended. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from kaggle_manager.dashboard.charts import Bar, timeline
from kaggle_manager.dashboard.components import NONE, folded_table, lasted, legend, table, when
from kaggle_manager.dashboard.markup import Child, Markup, h, join
from kaggle_manager.dashboard.view import RunView
from kaggle_manager.status.report import SessionSummary
from kaggle_manager.system.formatting import count, duration, epoch

# Earlier sessions than these are collapsed.
SESSIONS_SHOWN = 12
STAGES = {"intended": "being pushed", "pushed": "queued or running", "ended": "ended"}
GOOD_ENDS = ("completed", "interrupted", "stopped")
BARS = {"good": "as planned", "bad": "failed or cut", "lost": "lost", "wait": "waited", "running": "running"}


def sessions_part(view: RunView) -> Markup:
    """When each session ran and why it ended, as a timeline and as a table."""
    report = view.report
    if not report.sessions:
        return join(h("h3", "Sessions"), h("p", "None was started yet.", class_="empty"))
    heads = ("No.", "Began", "Ran", "Why it ended", "Gained", "Lost")
    rows = [_session_row(session, report.why) for session in reversed(report.sessions)]
    shown, older = rows[:SESSIONS_SHOWN], rows[SESSIONS_SHOWN:]
    numbers = (0, 2, 4, 5)
    return join(
        h("h3", "Sessions"),
        _timeline(view),
        table("Sessions, newest first", heads, shown, numbers=numbers),
        folded_table(
            count(len(older), "earlier session"),
            "Earlier sessions",
            heads,
            older,
            numbers=numbers,
            id_=f"older-{report.run_id[:8]}",
        ),
    )


def _session_row(session: SessionSummary, why_running: str) -> list[Child]:
    tag = session.kind if session.stage == "closed" else STAGES.get(session.stage, session.stage)
    why: list[Child] = [session.why if session.stage == "closed" else session.why or why_running]
    if session.lane:
        lane = session.lane.replace("_", " ")
        why.append(h("span", f" {lane} of a session that runs share: {session.address}", class_="about"))
    if session.caution:
        why.append(h("span", f" It left {session.caution}.", class_="about"))
    return [
        session.generation,
        when(session.running_since or session.started_at),
        lasted(session.ran_s),
        join(h("span", tag, class_="kind"), " ", why) if tag else why,
        NONE if session.gained is None else f"+{session.gained:,}",
        lasted(session.lost_s),
    ]


def _timeline(view: RunView) -> Markup:
    report = view.report
    begin = epoch(report.sessions[0].started_at)
    end = epoch(view.finished_at) if view.finished_at else view.now
    bars = [
        Bar(wait.since, min(wait.until, end), "wait", f"waited: {wait.why}") for wait in view.waits if wait.since < end
    ]
    for session in report.sessions:
        until = epoch(session.ended_at) if session.ended_at else end
        running = session.ended_at is None and session.stage != "closed"
        style = "running" if running else "good" if not session.kind and session.outcome in GOOD_ENDS else "bad"
        began = epoch(session.started_at)
        if session.running_since is not None and epoch(session.running_since) > began:
            label = f"session {session.generation} waited in the queue"
            bars.append(Bar(began, began := epoch(session.running_since), "wait", label))
        style = "wait" if running and report.state == "queued" else style
        took = max(1.0, until - began)
        why = report.why if running else session.why
        label = f"session {session.generation}, {duration(took)}: {why}"
        share = (session.lost_s or 0.0) / took
        bars.append(Bar(began, until, style, label, str(session.generation), share))
    moments = [begin + (end - begin) * part / 4 for part in range(4)]
    name = f"{count(len(report.sessions), 'session')} over {duration(end - begin)}; the table below says why each ended"
    there = {bar.style for bar in bars} | {"lost" for bar in bars if bar.lost}
    return join(
        timeline(name, bars, begin, end, [(moment, _tick(moment, end - begin)) for moment in moments]),
        legend([(f"bar {style}", words) for style, words in BARS.items() if style in there]),
    )


def _tick(moment: float, span: float) -> str:
    """A tick label in local time, as fine as a span of that many seconds needs."""
    local = datetime.fromtimestamp(moment, UTC).astimezone()
    if span > 36 * 3600:
        return f"{local.day} {local:%b}"
    return f"{local:%H:%M}" if span > 1200 else f"{local:%H:%M:%S}"
