"""No more trainings share a session than fit its memory, as far as a preflight has measured one."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_trees import config_in

from kaggle_manager.platforms.platform import Limits
from kaggle_manager.sessions.preflight import lanes_that_fit, remember_passed


@pytest.mark.parametrize(("takes", "there", "fits"), [(4, 10, 2), (11, 10, 1), (0, 10, None), (4, None, None)])
def test_as_many_as_fit_and_one_at_least(takes: int, there: int | None, fits: int | None, tmp_path: Path) -> None:
    config, limits = config_in(tmp_path), Limits(3600.0, {}, 10**6, memory_bytes=there)
    unbounded = lanes_that_fit(config, limits)
    assert unbounded > 10**6, "nothing was measured"
    other = {"name": "another: fits", "ok": True, "detail": "", "lane_bytes": 100}
    own = {"name": f"{config.scenario_in_section}: how", "ok": True, "detail": "", "lane_bytes": takes}
    remember_passed(config, [other, own, {"name": f"{config.scenario_in_section}: else", "ok": True, "detail": ""}])
    assert lanes_that_fit(config, limits) == (fits or unbounded)
    remember_passed(config)
    assert lanes_that_fit(config, limits) == (fits or unbounded), "what was measured is not forgotten"
