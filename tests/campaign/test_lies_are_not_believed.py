"""What campaigns have found in the manager, each as the shortest history that shows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from campaign import HOUR, Campaign, Drawn, stage
from simulated_kaggle import Odds
from simulated_session import Trainer

RUN = Drawn(
    target=100_000,
    limit_s=6 * HOUR,
    week_s=30 * HOUR,
    trainer=Trainer(steps_per_s=4.0, setup_s=300.0, save_every=5_000),
    odds=Odds(),
    tick_every_s=HOUR,
    kills=0.0,
    person_comes=1.0,
    auth_until=float("inf"),
)


def test_the_end_of_another_session_is_not_taken_for_this_ones(project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, replace(RUN, odds=Odds(wrong_version=1.0)))
    with stage(campaign.mortality):
        assert campaign.run().outcome == "finished"
    assert campaign.result.faults["another session's state"] > 0
    assert len(campaign.kaggle.sessions) == 2


def test_a_token_that_expired_shows_in_status_until_it_works_again(project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    with stage(campaign.mortality):
        campaign.tick()
        campaign.kaggle.expire_token()
        campaign.clock.sleep(HOUR)
        campaign.drawn = replace(RUN, person_comes=0.0)
        campaign.tick()
        told = campaign.status()
        assert told is not None
        assert told.human_action_required
        assert "token" in told.why
        campaign.kaggle.mend_token()
        campaign.tick()
        mended = campaign.status()
    assert mended is not None
    assert (mended.state, mended.human_action_required) == ("running", False)


def test_the_quota_a_session_is_planned_with_is_the_one_that_was_told(project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    asked: list[str] = []
    campaign.kaggle.tell = asked.append
    with stage(campaign.mortality):
        campaign.tick()
    pushed = asked.index("ASKED push")
    assert asked[:pushed].count("ASKED quota") == 1


@pytest.mark.parametrize("deeds", range(0, 60, 6))
def test_a_manager_killed_at_any_deed_pushes_nothing_twice(deeds: int, project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    with stage(campaign.mortality):
        campaign.tick()
        campaign.clock.sleep(7 * HOUR)
        campaign.tick(deeds)
        assert campaign.run().outcome == "finished"
    assert len(campaign.kaggle.sessions) == 2


@pytest.mark.parametrize("seed", range(3))
def test_a_listing_that_lacks_files_loses_nothing_of_a_killed_session(seed: int, project: Path, tmp_path: Path) -> None:
    odds = Odds(partial=0.4, death=1.0, fates=("killed",))
    campaign = Campaign(seed, tmp_path, project, replace(RUN, target=20_000, odds=odds))
    with stage(campaign.mortality):
        while not campaign.result.outcome:
            campaign.tick()
            campaign.clock.sleep(2 * HOUR)
    assert campaign.kaggle.faults["partial listing"] > 0
    campaign.judge_end()
