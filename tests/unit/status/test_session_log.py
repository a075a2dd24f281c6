"""`logs` follows a session that runs, although a copy of what a watch has read so far lies on the disk."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path

import pytest

from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import Unavailable
from kaggle_manager.protocol.events import ProgressEvent, format_event, session_tag
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.sessions.stored_log import LOG_FILE
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
