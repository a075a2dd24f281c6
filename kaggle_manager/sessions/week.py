"""What is left of the week for a run's next session: of the platform's quota, and of the hours that the user allows.

The user's own bound (`--quota-per-week`) is about a pool: the sessions of one account on machines of one kind, as this
journal knows them. It is counted as a quota of a platform is: a session that runs has taken all that it may last.
"""

from __future__ import annotations

from kaggle_manager.config import RunConfig
from kaggle_manager.runs import budget
from kaggle_manager.runs.budget import QuotaView
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.metrics import lasted
from kaggle_manager.system.accelerators import runs_on
from kaggle_manager.system.formatting import iso


def pool_of(config: RunConfig, platform: str, owner: str) -> str:
    """Whose room and quota a session takes: the platform, the account there, and the kind of its machine."""
    return f"{platform}/{owner}/{runs_on(config.section.kernel.accelerator)}"


def own_quota(
    config: RunConfig,
    journal: Journal,
    pool: str,
    platforms: QuotaView | None,
    now: float,
    *,
    beside: SessionRow | None = None,
) -> QuotaView | None:
    """What is left of the hours a week that the user allows; None without such a bound.

    Args:
        platforms: the platform's quota, whose week it is; None where it has none.
        beside: the session that is asked about is this one, which other runs have begun; None for one of its own.
    """
    if config.quota_per_week_s is None:
        return None
    ends = budget.week_ends(platforms.refresh_at if platforms else None, now)
    spans: dict[tuple[str, int], list[float]] = {}  # runs that share a session use its time once
    for session in journal.sessions_of(pool, since=iso(ends - budget.WEEK_S)):
        spans.setdefault(_led_by(session), []).extend(lasted(session))
    if beside is not None:
        spans.pop(_led_by(beside), None)
    return budget.own_quota(config.quota_per_week_s, [(min(span), max(span)) for span in spans.values()], ends)


def _led_by(session: SessionRow) -> tuple[str, int]:
    return session.led_by or (session.run_id, session.generation)
