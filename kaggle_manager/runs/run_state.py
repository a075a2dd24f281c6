"""One run as a pass sees it: its rows, read once, and every write of them, which changes memory and file together.

The cost of a pass does not depend on how many sessions the run has had: only the newest are read, and what a decision
needs of its past is kept in columns of its row, which `consequences` derives from each event as it is noted. Only
`stop` writes to a run from another process; `refresh` sees that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.retry_policy import passed
from kaggle_manager.runs.rows import Published, RunRow, SessionRow, Trouble, Wait

# So many of the newest sessions are read: more than failures in a row, or speeds, are ever looked back at.
RECENT = 32
# Events after which an earlier trouble is over, and those after which an earlier wait is.
GOES_ON = ("continued", "pushed", "adopted", "ended", "downloaded", "closed", "finished", "recovered")
ENDS_A_WAIT = ("continued", "pushed", "adopted")


def consequences(run: RunRow, kind: str, generation: int | None, detail: Mapping[str, Any]) -> dict[str, Any]:
    """What an event changes in its run's row: columns and their new values. Pure."""
    changes: dict[str, Any] = {}
    if kind in GOES_ON:
        changes |= {"trouble": None, "told": ""}
    if kind in ENDS_A_WAIT:
        changes["wait"] = None
    if kind in ("pushed", "adopted"):
        changes["published"] = None  # a session has taken it
    match kind:
        case "continued":
            changes["seen_to"] = generation or 0
            if run.published and run.published.failed:
                changes["published"] = None
        case "recovered":
            changes["wait"] = replace(run.wait, tries={}) if run.wait else None
        case "closed":
            changes["wait"] = replace(run.wait, tries={}) if run.wait else None
            changes["counts"] = dict(Counter(run.counts) + Counter(detail.get("counts", {})))
        case "waits":
            tries = dict(run.wait.tries) if run.wait else {}
            tries[detail["cause"]] = tries.get(detail["cause"], 0) + 1
            since = detail["since"]
            changes["wait"] = Wait(detail["cause"], detail["why"], since, detail["until"] - since, tries)
        case "submitting":
            changes["published"] = Published(**detail)
        case "submitted":
            changes["published"] = replace(run.published, accepted=True) if run.published else None
        case "processing":
            if sent := run.published:
                waited_s = sent.waited_s + passed(sent.looked_at, detail["looked_at"])
                changes["published"] = replace(sent, looked_at=detail["looked_at"], waited_s=waited_s)
        case "publication_failed":
            changes["published"] = replace(run.published, failed=True) if run.published else None
        case "not_published":
            changes["published"] = None
        case "forecast":
            changes["forecast"] = {**detail, "told": run.forecast.get("told")}
        case "stopped":
            changes["trouble"] = Trouble("stopped", detail["why"], detail.get("next", ""))
        case "error":
            known, met_at = run.trouble, detail["met_at"]
            lasted_s = known.lasted_s + passed(known.met_at, met_at) if known and known.retryable else 0.0
            trouble = Trouble(detail["type"], detail["message"], detail["next"], detail["retryable"], met_at, lasted_s)
            # A stop stays until the user runs it again; what needs the user is not hidden by what passes.
            if known is None or known.retryable or not (known.is_stop or trouble.retryable):
                changes["trouble"] = trouble
    return changes


class RunState:
    """A run's row, its newest sessions, and the totals of all of them.

    Args:
        journal: where they were read, and are written.
    """

    def __init__(self, journal: Journal, row: RunRow) -> None:
        self.journal, self.row = journal, row
        self.sessions = journal.sessions(row.run_id, newest=RECENT)
        self.totals = journal.totals(row.run_id)

    @property
    def newest(self) -> SessionRow | None:
        return self.sessions[-1] if self.sessions else None

    @property
    def what_is_done(self) -> str:
        """Of a finished run, in words."""
        if why := self._why_early:
            return f"{self.totals.step:,} of {self.row.target:,} {self.row.unit} are done, and enough: {why}"
        return f"{self.row.target:,} {self.row.unit} are done"

    @property
    def finished_at_step(self) -> int:
        """Of a finished run, how many steps its tree holds at least."""
        return min(self.totals.step, self.row.target) if self._why_early else self.row.target

    @property
    def _why_early(self) -> str:
        """Why it was over before its target; '' of any other."""
        early = self.newest.facts.get("early") if self.newest else None
        return str(early["why"]) if early and early["target"] == self.row.target else ""

    def refresh(self) -> None:
        """Read the row again: a stop may have been asked for by another process."""
        self.row = self.journal.run(self.row.run_id)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written inside is written at once; an error inside leaves memory as the file is."""
        before = self.row, list(self.sessions), self.totals
        try:
            with self.journal.together():
                yield
        except BaseException:
            self.row, self.sessions, self.totals = before
            raise

    def change(self, **columns: Any) -> None:
        if columns:
            self.journal.change_run(self.row.run_id, **columns)
            self.row = replace(self.row, **columns)

    def change_settings(self, **settings: Any) -> None:
        self.journal.change_settings(self.row.run_id, **settings)
        self.refresh()

    def note(self, kind: str, generation: int | None, at: str, **detail: Any) -> None:
        """Append an event, and change the row by its consequences."""
        with self.together():
            self.journal.note(self.row.run_id, generation, kind, at, **detail)
            self.change(**consequences(self.row, kind, generation, detail))

    def note_error(self, error: KaggleManagerError, at: str, met_at: float) -> None:
        """Note what ended a command, or holds a pass up, at this moment in both notations."""
        detail = {"type": type(error).__name__, "message": error.message, "next": error.next_step}
        self.note("error", None, at, **detail, retryable=error.retryable, met_at=met_at)

    def add_session(self, session: SessionRow) -> None:
        self.journal.add_session(session)
        self.sessions.append(session)
        self.totals = self.journal.totals(self.row.run_id)

    def update_session(self, session: SessionRow, **changes: Any) -> SessionRow:
        return self._now(self.journal.update_session(session, **changes))

    def add_facts(self, session: SessionRow, **facts: Any) -> SessionRow:
        return self._now(self.journal.add_facts(session, **facts))

    def drop_intent(self, session: SessionRow) -> None:
        self.journal.drop_intent(session)
        self.sessions = [known for known in self.sessions if known.generation != session.generation]
        self.totals = self.journal.totals(self.row.run_id)

    def _now(self, session: SessionRow) -> SessionRow:
        self.sessions = [session if known.generation == session.generation else known for known in self.sessions]
        self.totals = replace(self.totals, step=max(self.totals.step, session.step or 0))
        return session
