"""What campaigns have found in the manager, each as the shortest history that shows it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from campaign import Campaign
from campaign_draw import BEGINNING, HOUR, Drawn
from campaign_stage import SECTION, stage
from simulated_record import Odds
from simulated_session import Trainer

from kaggle_manager.errors import AmbiguousPush, NotFound, PushMismatch, Unavailable
from kaggle_manager.notify.notifier import Occasion
from kaggle_manager.platforms.platform import Quota, SessionRef, SessionRequest, SessionStatus, StartedSession
from kaggle_manager.status.report import RunReport

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
    wrong_setting_from=float("inf"),
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
    assert mended.state in ("queued", "running")
    assert not mended.human_action_required


def test_a_person_is_still_asked_for_when_the_platform_has_trouble_as_well(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = Campaign(1, tmp_path, project, replace(RUN, person_comes=0.0))
    with stage(campaign.mortality):
        campaign.tick()
        campaign.kaggle.expire_token()
        campaign.tick()
        monkeypatch.setattr(campaign.kaggle, "odds", Odds(call_fails=1.0))
        campaign.kaggle.mend_token()
        campaign.tick()
        told = campaign.status()
    assert told is not None
    assert told.human_action_required
    assert "token" in told.why


def test_the_quota_a_session_is_planned_with_is_the_one_that_was_told(project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    asked: list[str] = []
    campaign.kaggle.tell = asked.append
    with stage(campaign.mortality):
        campaign.tick()
    pushed = asked.index("ASKED push")
    assert asked[:pushed].count("ASKED quota") == 1


def test_quota_that_others_give_back_is_used_within_the_hour(project: Path, tmp_path: Path) -> None:
    """By a `run` that sleeps, whether the wait was planned or the platform refused the push."""
    for name, planned in (("planned", True), ("refused", False)):
        back_at = BEGINNING + 0.8 * HOUR
        campaign = Campaign(1, tmp_path / name, project, replace(RUN, elsewhere=(30 * HOUR, back_at)))
        kaggle = campaign.kaggle
        kaggle.quota = kaggle.quota if planned else _no_quota_is_stated  # type: ignore[method-assign]
        with stage(campaign.mortality):
            _run(campaign, RUN.target)
        assert kaggle.sessions[0].pushed_at < back_at + HOUR
        assert kaggle.faults["no quota"] == (not planned)


def _run(campaign: Campaign, target: int) -> RunReport:
    """A `run`, which looks at a session every ten minutes here: each second of days would take too long."""
    manager = campaign.manager()
    look = manager._passes.watch_session

    def look_and_wait(*given: Any, **options: Any) -> SessionStatus:
        status = look(*given, **{**options, "until": 0.0})
        campaign.clock.sleep(600.0)
        return status

    manager._passes.watch_session = look_and_wait
    return manager.run_validation_section(SECTION, timesteps=target, session_limit=RUN.limit_s)


def _no_quota_is_stated(machine: str = "") -> Quota:
    raise Unavailable("the quota cannot be read")


def test_blips_at_hour_0_and_on_later_days_do_not_end_a_healthy_run(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = Campaign(1, tmp_path, project, replace(RUN, target=800_000, week_s=200 * HOUR))
    begins_at = [BEGINNING + hour * HOUR for hour in (0, 25, 50)]
    met, ask = set(), campaign.kaggle.status

    def status(version: SessionRef) -> SessionStatus:
        for blip in begins_at:
            if blip <= campaign.clock() < blip + 0.5 * HOUR:
                met.add(blip)
                raise Unavailable("a moment")
        return ask(version)

    monkeypatch.setattr(campaign.kaggle, "status", status)
    with stage(campaign.mortality):
        report = _run(campaign, 800_000)
    assert (report.state, len(met)) == ("finished", 3)
    assert not [text for occasion, text in campaign.mailbox.received if occasion is Occasion.PERSON_NEEDED]


@pytest.mark.parametrize("days", [-30, 30])
@pytest.mark.parametrize("odds", [Odds(busy=1.0), Odds(call_fails=1.0), Odds(death=1.0, fates=("killed",))])
def test_a_clock_that_is_wrong_by_a_month_while_a_wait_is_noted_holds_nothing_up(
    days: int, odds: Odds, project: Path, tmp_path: Path
) -> None:
    campaign = Campaign(1, tmp_path, project, replace(RUN, target=20_000))
    with stage(campaign.mortality):
        campaign.wrong_by_s, campaign.kaggle.odds = days * 24 * HOUR, odds
        for _ in range(3):
            campaign.tick()
            campaign.clock.sleep(HOUR)
        campaign.wrong_by_s, campaign.kaggle.odds = 0.0, Odds()
        assert campaign.run().outcome == "finished"
    assert campaign.clock() < BEGINNING + 24 * HOUR


def test_a_clock_that_jumps_ahead_while_a_live_session_is_denied_does_not_give_it_up(
    project: Path, tmp_path: Path
) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    ask = campaign.kaggle.status

    def denied(version: SessionRef) -> SessionStatus:
        raise NotFound("There is no such kernel.")

    with stage(campaign.mortality):
        campaign.tick()
        campaign.clock.sleep(HOUR)
        campaign.kaggle.status = denied  # type: ignore[method-assign]
        for days in (0, 30, 30, 0):
            campaign.wrong_by_s = days * 24 * HOUR
            campaign.tick()
            campaign.clock.sleep(0.2 * HOUR)
        campaign.kaggle.status = ask  # type: ignore[method-assign]
        assert campaign.run().outcome == "finished"
    assert len(campaign.kaggle.sessions) == 2


@pytest.mark.parametrize("deeds", range(0, 60, 6))
def test_a_manager_killed_at_any_deed_pushes_nothing_twice(deeds: int, project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    with stage(campaign.mortality):
        campaign.tick()
        campaign.clock.sleep(7 * HOUR)
        campaign.tick(deeds)
        assert campaign.run().outcome == "finished"
    assert len(campaign.kaggle.sessions) == 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_listing_that_lacks_files_loses_nothing_of_a_killed_session(seed: int, project: Path, tmp_path: Path) -> None:
    odds = Odds(partial=0.4, death=1.0, fates=("killed",))
    campaign = Campaign(seed, tmp_path, project, replace(RUN, target=20_000, odds=odds))
    with stage(campaign.mortality):
        while not campaign.result.outcome:
            campaign.tick()
            campaign.clock.sleep(2 * HOUR)
    assert campaign.kaggle.faults["partial listing"] > 0
    campaign.judge_end()


def test_what_a_killed_session_said_it_had_saved_is_asked_for_until_it_is_listed(project: Path, tmp_path: Path) -> None:
    odds = Odds(outputs_lag_s=2.5 * HOUR, death=1.0, fates=("killed",))
    campaign = Campaign(1, tmp_path, project, replace(RUN, odds=odds))
    with stage(campaign.mortality):
        while len(campaign.kaggle.sessions) < 3:  # the simulated Kaggle refuses a push that leaves something behind
            campaign.tick()
            campaign.clock.sleep(HOUR)
    assert any(session.ending and session.ending.saved for session in campaign.kaggle.sessions)


def test_what_is_never_listed_is_gone_and_the_run_goes_on_without_it(project: Path, tmp_path: Path) -> None:
    odds = Odds(death=1.0, fates=("nothing kept",))
    campaign = Campaign(1, tmp_path, project, replace(RUN, odds=odds, person_comes=0.0))
    with stage(campaign.mortality):
        campaign.run()
    told = campaign.status()
    assert told is not None
    assert len(told.sessions) == 4, "as many as a session without a result is worth trying"
    assert all(session.why.startswith("killed before it wrote its result") for session in told.sessions)


def deny_sessions(campaign: Campaign, for_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Kaggle know of no session for so long, while it shows their kernel."""
    until, ask = campaign.clock() + for_s, campaign.kaggle.status

    def status(version: SessionRef) -> SessionStatus:
        if campaign.clock() < until:
            raise NotFound(f"There is no kernel {version.ref}.", next_step="check its name")
        return ask(version)

    monkeypatch.setattr(campaign.kaggle, "status", status)


def test_a_session_denied_for_hours_is_not_given_up_while_its_kernel_is_shown(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    with stage(campaign.mortality):
        deny_sessions(campaign, 9 * HOUR, monkeypatch)
        assert campaign.run().outcome == "finished"
    assert len(campaign.kaggle.sessions) == 2, "nothing of the denied one was trained again"


def test_a_session_denied_for_more_than_a_day_is_given_up(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    with stage(campaign.mortality):
        campaign.tick()
        deny_sessions(campaign, 40 * HOUR, monkeypatch)
        outcomes = []
        for _ in range(30):
            campaign.clock.sleep(HOUR)
            with suppress(Unavailable):
                campaign.manager().tick("small", timesteps=RUN.target, may_push=False)
            told = campaign.status()
            assert told is not None
            outcomes.append(told.sessions[0].outcome)
    assert outcomes[:24] == [""] * 24
    assert outcomes[-1] == "gone"


@pytest.mark.parametrize("late_s", [0.0, 45.0])
def test_a_misfiled_push_without_an_answer_is_found_before_anything_is_repeated(
    late_s: float, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = Campaign(1, tmp_path, project, replace(RUN, odds=Odds(push_changed=1.0), person_comes=0.0))
    kaggle = campaign.kaggle
    push_kernel = kaggle.start

    def unanswered(push: SessionRequest) -> StartedSession:
        with pytest.raises(PushMismatch):
            push_kernel(push)
        kaggle.sessions[-1].visible_at += late_s
        raise AmbiguousPush("The answer never came.")

    monkeypatch.setattr(kaggle.rng, "choice", lambda options: options[0])  # misfiled, not dropped
    monkeypatch.setattr(kaggle, "start", unanswered)
    with stage(campaign.mortality):
        campaign.run()
    assert [session.is_misfiled for session in kaggle.sessions] == [True]
    assert "-other" in campaign.result.why
