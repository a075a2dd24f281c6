"""`logs` prints what there is and ends; --follow goes on until the session ends, --tail prints the last lines."""

from __future__ import annotations

import io
import queue
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import KaggleManagerError, Unavailable
from kaggle_manager.platforms.platform import LogLine, SessionState, SessionStatus
from kaggle_manager.protocol.events import ProgressEvent, format_event, session_tag
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.sessions.stored_log import LOG_FILE
from kaggle_manager.status import session_log as module
from kaggle_manager.status.session_log import session_log

AT = "2026-11-22T00:00:00+00:00"


def away(config: RunConfig) -> Connection:
    raise Unavailable("the platform was asked")


@pytest.mark.parametrize(("stage", "is_live"), [(Stage.PUSHED, True), (Stage.ENDED, False), (Stage.CLOSED, False)])
def test_the_copy_is_taken_for_the_log_only_when_the_session_is_over(
    tmp_path: Path, stage: Stage, is_live: bool
) -> None:
    config = build_config("section_7_6_rl_performance", workdir=tmp_path)
    copy = config.downloads / "r" / "generation_1" / LOG_FILE
    copy.parent.mkdir(parents=True)
    tag = session_tag("r", 1)
    copy.write_text("so\n\nfar\n" + format_event(ProgressEvent(step=1, target=2), tag))
    with closing(Journal(config.journal)) as journal:
        journal.add_run(RunRow("r", "section", "walk", 30, False, str(config.tree), "local", "o", "s", AT))
        journal.add_session(SessionRow("r", 1, stage, None, 0, "b", "", AT, "1"))
        lines = session_log(config, journal, None, connect_to=away, reporter=Reporter(io.StringIO()))
        if is_live:
            with pytest.raises(Unavailable, match="was asked"):
                list(lines)
        else:
            *printed, event = lines
            assert printed == ["so", "", "far"], "the user's lines, and no empty one that an event made"
            assert event == "step 1/2"


# --- a session that runs ----------------------------------------------------------------------------------------------

SILENCE = "nothing comes for a while"


class Printed:
    """In place of `LogReader`: what comes is drawn up in advance, and `SILENCE` is a wait that nothing ended."""

    script: Iterable[str | None] = ()
    trouble: KaggleManagerError | None = None

    def __init__(self, *_: object, **__: object) -> None:
        self.left, self.lines = list(self.script), self

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def is_alive(self) -> bool:
        return True

    def get(self, timeout: float) -> LogLine | None:
        if not self.left:
            raise AssertionError("it waits for ever")
        came = self.left.pop(0)
        if came == SILENCE:
            raise queue.Empty
        return None if came is None else LogLine(0, "stdout", 0.0, came)


class Running:
    def __init__(self, state: SessionState = SessionState.RUNNING) -> None:
        self.state = state

    def status(self, version: object) -> SessionStatus:
        return SessionStatus(self.state, "", self.state.name)


def printed(
    tmp_path: Path, script: Iterable[str | None], *, state: SessionState = SessionState.RUNNING, **asked: Any
) -> list[str]:
    config = build_config("section_7_6_rl_performance", workdir=tmp_path)
    reached = Connection(Running(state), "o", "local", "it was asked for")  # type: ignore[arg-type]
    with closing(Journal(config.journal)) as journal, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Printed, "script", script)
        patch.setattr(module, "LogReader", Printed)
        journal.add_run(RunRow("r", "section", "walk", 30, False, str(config.tree), "local", "o", "s", AT))
        journal.add_session(SessionRow("r", 1, Stage.PUSHED, None, 0, "b", "", AT, "1"))
        said = Reporter(io.StringIO())
        return list(session_log(config, journal, None, connect_to=lambda _: reached, reporter=said, **asked))


def test_what_a_running_session_has_printed_is_shown_and_the_command_ends(tmp_path: Path) -> None:
    assert printed(tmp_path, ["a", "b", "c", SILENCE]) == ["a", "b", "c"]


def test_its_end_alone_is_shown_where_that_is_asked_for(tmp_path: Path) -> None:
    assert printed(tmp_path, ["a", "b", "c", SILENCE], tail=2) == ["b", "c"]


def test_what_comes_later_is_followed_until_the_session_ends(tmp_path: Path) -> None:
    script = ["a", "b", SILENCE, SILENCE, "c", SILENCE, "d", None]
    assert printed(tmp_path, script, follow=True, tail=1) == ["b", "c", "d"]


def test_a_session_in_the_queue_has_no_log_yet(tmp_path: Path) -> None:
    assert printed(tmp_path, [], state=SessionState.QUEUED) == []


def test_a_log_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Printed, "trouble", Unavailable("no answer"))
    with pytest.raises(Unavailable, match="no answer"):
        printed(tmp_path, [SILENCE])
