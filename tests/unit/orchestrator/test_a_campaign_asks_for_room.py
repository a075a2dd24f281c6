"""A campaign starts as many sessions as the platform has room for now, and none while that does not answer."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from small_trees import config_in

from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import Unavailable
from kaggle_manager.orchestrator.campaign import Campaign


class Manager:
    """Sessions never end; `rooms` is what the platform says one time after the other."""

    def __init__(self, *rooms: int | Exception) -> None:
        self.rooms, self.live = list(rooms), set[int]()

    def room_for(self, config: Any) -> int:
        if isinstance(room := self.rooms.pop(0), Exception):
            raise room
        return room

    def tick(self, config: Any, *, may_push: bool, shared: object = None) -> SimpleNamespace:
        self.live |= {id(config)} if may_push else set()
        state = "running" if id(config) in self.live else "waiting"
        own = SimpleNamespace(address="me/it", version=str(id(config)))
        return SimpleNamespace(state=state, step=0, waiting_until=None, in_line=False, sessions=(own,))


def test_room_is_asked_for_again_in_each_round(tmp_path: Path) -> None:
    manager, told = Manager(0, 1, Unavailable("no answer"), 3), io.StringIO()
    configs = [config_in(tmp_path) for _ in range(3)]
    campaign, live = Campaign(manager, configs, Reporter(told)), []  # type: ignore[arg-type]
    for _ in range(5):
        campaign.round()
        live.append(len(manager.live))
    assert live == [0, 1, 1, 3, 3], "and not where nothing waits"
    assert "nothing is started now: no answer" in told.getvalue()
