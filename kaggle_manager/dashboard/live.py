"""What runs now and where: live sessions with the runs that share them, and the platforms' accounts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kaggle_manager.runs.budget import WEEK_S
from kaggle_manager.status.report import LIVE, RunReport, SessionSummary
from kaggle_manager.system.formatting import epoch


@dataclass(frozen=True)
class QuotaAsked:
    """Accelerator time left of the week, in seconds, when it was last asked for."""

    asked_at: str
    left_s: float
    total_s: float
    refresh_at: float | None

    def refresh_after(self, now: float) -> float | None:
        """When the next week begins, seconds since the epoch; None where the platform has not said."""
        if self.refresh_at is None or self.refresh_at > now:
            return self.refresh_at
        return self.refresh_at + WEEK_S * (1 + (now - self.refresh_at) // WEEK_S)


@dataclass(frozen=True)
class Account:
    """What the runs here have on one account of a platform.

    Attributes:
        live: sessions that are queued or running.
        week_s: time of the sessions that began in the last seven days and have ended, in seconds.
        quota: None where the platform has none, or it was not asked for yet.
    """

    platform: str
    owner: str
    live: int
    week_s: float
    quota: QuotaAsked | None


def live_sessions(reports: Iterable[RunReport]) -> list[list[RunReport]]:
    """The runs of each live session; several where they share its lanes, in the order of these."""
    found: dict[tuple[str, ...], list[RunReport]] = {}
    for run in reports:
        if run.state in LIVE and run.sessions:
            found.setdefault(_session_key(run, run.sessions[-1]), []).append(run)
    return [sorted(runs, key=lambda run: run.sessions[-1].lane) for runs in found.values()]


def session_time(reports: Iterable[RunReport], since: float = 0.0) -> float:
    """Seconds that the sessions of these runs have lasted which began after `since`; a shared one counts once."""
    lasted: dict[tuple[str, ...], float] = {}
    for run in reports:
        for session in run.sessions:
            if session.ran_s and epoch(session.started_at) > since:
                key = _session_key(run, session)
                lasted[key] = max(session.ran_s, lasted.get(key, 0.0))
    return sum(lasted.values())


def _session_key(run: RunReport, session: SessionSummary) -> tuple[str, ...]:
    if session.lane and session.version:
        return run.platform, session.address, session.version
    return run.run_id, str(session.generation)


def accounts(
    reports: Sequence[RunReport], owners: Mapping[str, str], quotas: Mapping[str, QuotaAsked], now: float
) -> list[Account]:
    """The accounts that these runs train on.

    Args:
        owners, quotas: by run id; the account of a run, and what it was told last of the quota there.
    """
    found = []
    for platform, owner in sorted({(run.platform, owners[run.run_id]) for run in reports}):
        own = [run for run in reports if (run.platform, owners[run.run_id]) == (platform, owner)]
        told = [quotas[run.run_id] for run in own if run.run_id in quotas]
        newest = max(told, key=lambda quota: epoch(quota.asked_at), default=None)
        found.append(Account(platform, owner, len(live_sessions(own)), session_time(own, now - WEEK_S), newest))
    return found
