"""Which image the next session asks for: the run's own, until there is a reason to move."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.runs.session_image import image_to_ask_for, moved_after, short

A, B = (f"gcr.io/kaggle-images/python@sha256:{digit * 64}" for digit in "ab")


def sessions(*images: str | None) -> list[SessionRow]:
    """The sessions of a run, each in an image that is known, or not."""
    return [
        SessionRow("run", number, Stage.CLOSED, None, 0, "", "", "", facts={} if image is None else {"image": image})
        for number, image in enumerate(images, 1)
    ]


@pytest.mark.parametrize(
    ("known", "settings", "asked"),
    [
        ([], {}, ""),
        ([None], {}, ""),
        ([A], {}, A),
        ([A, None, None], {}, A),
        ([A, B], {}, B),
        ([A], {"image_refused": A}, ""),
        ([A, A], {"image_refused": A}, ""),
        ([A, B], {"image_refused": A}, B),
        ([A, B], moved_after(2), ""),
        ([A, B, A], moved_after(2), A),
        ([A, B, None], moved_after(2), ""),
    ],
)
def test_the_newest_known_image_is_asked_for_unless_it_is_gone_or_left(
    known: list[str | None], settings: dict[str, Any], asked: str
) -> None:
    assert image_to_ask_for(sessions(*known), settings) == asked


def test_a_run_that_moves_to_another_platform_leaves_its_image_there(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        run = RunRow("run", "s", "walk", 4, False, str(tmp_path), "local", "me", "km-walk", "2026-11-29T00:00:00+00:00")
        journal.add_run(run)
        for session in sessions(A, A):
            journal.add_session(replace(session, started_at=run.created_at))
        journal.move_run("run", "local", "you")
        assert image_to_ask_for(journal.sessions("run"), journal.run("run").settings) == A
        journal.move_run("run", "kaggle", "you")
        assert image_to_ask_for(journal.sessions("run"), journal.run("run").settings) == ""


def test_an_image_is_called_by_the_beginning_of_its_digest() -> None:
    assert short(A) == "a" * 12
