"""A run stays in the docker image it began in while it can be had, and leaves it once, in words, or on purpose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from campaign import Campaign
from campaign_draw import HOUR
from campaign_stage import SECTION, stage
from simulated_pushes import image_number
from simulated_record import Odds
from test_lies_are_not_believed import RUN

from kaggle_manager.errors import ConfigError, KaggleManagerError, Unavailable
from kaggle_manager.platforms.platform import SessionRef, SessionRequest
from kaggle_manager.runs.journal import Journal
from kaggle_manager.status.history import History
from kaggle_manager.status.report import RunReport

LONG = replace(RUN, target=300_000, week_s=100 * HOUR, odds=Odds(image_moves=1.0))


def played(campaign: Campaign) -> list[str]:
    """What was said while it went its way to the target."""
    said: list[str] = []
    campaign.reporter.listen = said.append
    with stage(campaign.mortality):
        assert campaign.run().outcome == "finished"
    return said


def images(campaign: Campaign) -> list[int]:
    """Of each session, by their numbers in the order they came out."""
    known = {image_number(number): number for number in range(20)}
    return [known[session.image] for session in campaign.kaggle.sessions]


def report_of(campaign: Campaign) -> RunReport:
    with stage(campaign.mortality):
        report = campaign.status()
    assert report is not None
    return report


def test_every_session_runs_in_the_first_ones_image_however_often_the_newest_moves(
    project: Path, tmp_path: Path
) -> None:
    campaign = Campaign(1, tmp_path, project, LONG)
    played(campaign)
    assert images(campaign) == [1] * 4
    report = report_of(campaign)
    assert [session.image for session in report.sessions] == [image_number(1)] * 4
    assert report.image == image_number(1)
    orders = [session.order["image"] for session in campaign.kaggle.sessions]
    assert orders == ["", *[image_number(1)] * 3], "what a session is told goes into its manifests"


def test_an_image_that_is_gone_is_left_once_in_words_and_the_next_one_is_kept(project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, LONG)
    leave = iter([False, True, False, False])
    push = campaign.kaggle._image_of

    def once_gone(pushed: Any) -> str:
        if pushed.image and next(leave):
            del campaign.kaggle._images[:-1]
        return push(pushed)

    campaign.kaggle._image_of = once_gone  # type: ignore[method-assign]
    said = [line for line in played(campaign) if "can no longer be had" in line]
    first, second, third, fourth = images(campaign)
    assert first == second
    assert third > second
    assert fourth == third
    assert len(said) == 1
    assert "session 3 runs in the newest one" in said[0]
    assert campaign.kaggle.sessions[2].order["image"] == "", "it is not told that it runs in what was refused"


LATER = "An unexpected error occurred. Please try again later."


@pytest.mark.parametrize("times", [1, 99], ids=["once", "again"])
def test_a_refusal_that_does_not_name_the_image_moves_the_run_only_when_it_comes_again_after_a_wait(
    times: int, project: Path, tmp_path: Path
) -> None:
    campaign = Campaign(1, tmp_path, project, LONG)
    push, refused_at = campaign.kaggle._image_of, []

    def refusing(pushed: SessionRequest) -> str:
        if pushed.image == image_number(1) and len(refused_at) < times:
            refused_at.append(campaign.clock())
            campaign.kaggle.moves_asked += len(refused_at) == 2
            raise ConfigError(f"Kaggle refused to start {pushed.owner}/{pushed.slug}: {LATER}", next_step="read it")
        return push(pushed)

    campaign.kaggle._image_of = refusing  # type: ignore[method-assign]
    said = [line for line in played(campaign) if "can no longer be had" in line]
    if times == 1:
        assert (images(campaign), len(said)) == ([1] * 4, 0)
        return
    first, second, third, fourth = images(campaign)
    assert first == 1 < second == third == fourth
    assert len(said) == 1
    assert LATER.rstrip(".") in said[0]
    earlier, later = refused_at
    assert later - earlier >= 600 - 1


def test_latest_moves_once_and_the_sessions_after_it_stay(project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, LONG)
    with stage(campaign.mortality):
        campaign.tick()
        campaign.kaggle.moves_asked += 1
        campaign.manager().go_on(SECTION, timesteps=LONG.target, session_limit=LONG.limit_s, image="latest")
        while len(campaign.kaggle.sessions) < 4:
            campaign.clock.sleep(HOUR)
            campaign.tick()
    first, second, third, fourth = images(campaign)
    assert (first, third, fourth) == (1, second, second)
    assert second > first


def test_a_platform_that_does_not_say_costs_nothing_and_is_asked_again(project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, LONG)
    answer, asked = campaign.kaggle.image_of, 0

    def silent_at_first(version: SessionRef) -> str:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise Unavailable("GetKernel: 500")
        return answer(version)

    campaign.kaggle.image_of = silent_at_first  # type: ignore[method-assign]
    played(campaign)
    first, second, third, fourth = images(campaign)
    assert second > first, "there was nothing to ask for"
    assert (third, fourth) == (second, second)


def test_a_journal_that_was_lost_costs_no_image(project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, LONG)
    with stage(campaign.mortality):
        campaign.tick()
        while report_of(campaign).sessions[-1].stage != "closed":
            campaign.clock.sleep(HOUR)
            campaign.manager().tick(campaign.config, may_push=False)
    for file in campaign.config.journal.parent.glob(f"{campaign.config.journal.name}*"):
        file.unlink()
    played(campaign)
    assert set(images(campaign)) == {1}


def test_history_shows_what_a_session_ran_on_where_it_is_another(project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, LONG)
    played(campaign)
    journal = Journal(campaign.config.journal)
    row = journal.runs()[0]
    versions = {"python": "3.12.13", "torch": "2.10.0+cu128", "numpy": "2.0.2", "cuda": "12.8", "driver": "550.54.15"}
    first, second, third, _ = journal.sessions(row.run_id)
    for session in (first, second):
        journal.add_facts(session, versions=versions)
    journal.add_facts(third, versions=versions | {"numpy": "2.1.3"})
    journal.close()
    report = report_of(campaign)
    shown = [line.strip() for line in History((report,)).lines() if "NumPy" in line]
    digest = image_number(1).rpartition(":")[2][:12]
    assert shown == [
        f"image {digest}, Python 3.12.13, torch 2.10.0+cu128, NumPy 2.0.2, CUDA 12.8, driver 550.54.15",
        "NumPy 2.1.3",
    ], "of the second session nothing is new"
    assert report.as_json()["sessions"][1]["versions"] == versions
    assert report.as_json()["sessions"][3]["versions"] == {}


@pytest.mark.parametrize("image", ["newest", "gcr.io/kaggle-images/python@sha256:" + "0" * 64, ""])
def test_no_other_image_is_taken_for_latest(image: str, project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, LONG)
    with pytest.raises(KaggleManagerError, match="accepted: latest"):
        campaign.manager().go_on(SECTION, image=image)
