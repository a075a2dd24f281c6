"""A session that several runs share is started once, whatever its start ends with."""

from __future__ import annotations

from typing import Any

import pytest

from kaggle_manager.errors import Unavailable
from kaggle_manager.orchestrator import start


@pytest.mark.parametrize("error", [ValueError("of a library"), Unavailable("no answer"), KeyboardInterrupt()])
def test_every_run_hears_what_the_first_start_ended_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    started = []

    def start_session(asks: Any) -> None:
        started.append(len(asks))
        raise error  # after the platform may have accepted it

    monkeypatch.setattr(start, "start_session", start_session)
    shared, ask = start.SharedSession([]), object()
    for _ in range(2):
        with pytest.raises(type(error)):
            shared.start(ask)  # type: ignore[arg-type]
    assert started == [1]
