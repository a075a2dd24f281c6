"""A state folder with two runs, the page served over real HTTP, and a real Chromium where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dashboard_world as world
import pytest
from chromium_pipe import Chromium, Page, find_chromium
from dashboard_world import dashboard_of, served

from kaggle_manager.dashboard.view import Dashboard


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return world.build(tmp_path / "state")


@pytest.fixture
def dashboard(state: Path) -> Dashboard:
    return dashboard_of(state)


@pytest.fixture
def address(dashboard: Dashboard) -> Iterator[str]:
    with served(dashboard) as address:
        yield address


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on this machine; docs/dashboard.md says how to install one")
    with Chromium(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Both runs of a state folder that does not change, for tests that only look; loading it takes seconds."""
    state = world.build(tmp_path_factory.mktemp("looked_at") / "state")
    with (
        served(dashboard_of(state)) as address,
        chromium.page(f"{address}/?run={world.RUNNING}&with={world.FINISHED}") as page,
    ):
        yield page
