"""A generation is pushed once, whatever the answer to the push was; waiting for room costs nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from small_project import Bench

from kaggle_manager.errors import AmbiguousPush, CapacityReached, ConfigError, PushMismatch, QuotaError
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.platform import PublishedInputs, Quota, SessionRequest, StartedSession
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sessions import launch, reconcile

pytestmark = pytest.mark.slow


def scripted(*turns: Any) -> type[KaggleClient]:
    """A client whose first pushes go as told: a function of (push, really push it); later ones are real."""
    left = list(turns)

    class Client(KaggleClient):
        def start(self, push: SessionRequest) -> StartedSession:
            really = super().start
            return left.pop(0)(push, really) if left else really(push)  # type: ignore[no-any-return]

    return Client


def lost_answer(push: SessionRequest, really: Any) -> StartedSession:
    really(push)
    raise AmbiguousPush("the connection broke after the push")


def lost_push(push: SessionRequest, really: Any) -> StartedSession:
    raise AmbiguousPush("the connection broke before the push")


def no_room(push: SessionRequest, really: Any) -> StartedSession:
    raise CapacityReached("Maximum batch GPU session count of 2 reached.")


def no_quota(push: SessionRequest, really: Any) -> StartedSession:
    raise QuotaError("Maximum weekly GPU quota of 30.00 hours reached.", next_step="wait for the weekly reset")


def versions(bench: Bench) -> int:
    """How many sessions of this run's kernel its Kaggle has started."""
    with_journal = Journal(bench.workdir / "journal.sqlite")
    row = with_journal.runs()[-1]
    with_journal.close()
    with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:
        newest = client.newest(row.owner, row.slug)
    return int(newest[0].id) if newest else 0


def test_a_push_whose_answer_was_lost_is_found_and_not_repeated(bench: Bench) -> None:
    bench.make_client = scripted(lost_answer)
    report = bench.run()
    assert "had been accepted" in bench.output
    assert (report.step, len(report.sessions), versions(bench)) == (4, 2, 2)


def test_a_push_that_never_arrived_is_repeated_under_the_same_generation(bench: Bench) -> None:
    bench.make_client = scripted(lost_push)
    report = bench.run(timesteps=2)
    assert [session.generation for session in report.sessions] == [1]
    assert versions(bench) == 1


def test_pushes_that_are_not_answered_are_tried_again_ever_more_slowly(bench: Bench) -> None:
    bench.make_client = scripted(lost_push, lost_push, lost_push)
    report = bench.run(timesteps=2)
    assert [session.generation for session in report.sessions] == [1]
    assert versions(bench) == 1
    assert sum(bench.slept) >= 30 + 60 + 120 - 3
    assert bench.output.count("costs no attempt") == 3


def test_a_push_accepted_after_it_was_given_up_is_adopted(bench: Bench) -> None:
    underway: list[tuple[SessionRequest, Any]] = []
    looks = 0

    def late(push: SessionRequest, really: Any) -> StartedSession:
        underway.append((push, really))
        raise AmbiguousPush("a gateway timed out")

    class Client(scripted(late)):  # type: ignore[misc]
        def newest(self, owner: str, slug: str) -> Any:
            nonlocal looks
            looks += bool(underway)
            if looks > reconcile.LOOKS and underway:  # every look for it was in vain, and now it arrives
                push, really = underway.pop()
                really(push)
            return super().newest(owner, slug)

    bench.make_client = Client
    report = bench.run(timesteps=2)
    assert "adopted" in bench.output
    assert (report.step, len(report.sessions), versions(bench)) == (2, 1, 1)


def test_waiting_for_room_costs_no_generation_and_uploads_nothing_again(bench: Bench) -> None:
    bench.run(timesteps=2)
    bench.make_client = scripted(no_room, no_room, no_room)
    report = bench.run(timesteps=4)
    assert [session.generation for session in report.sessions] == [1, 2]
    assert sum(bench.slept) >= 30 + 60 + 120 - 3
    assert bench.output.count("goes in as dataset") == 1
    assert "which costs no attempt" in bench.output


def test_a_quota_refusal_is_waited_out_and_costs_no_generation(bench: Bench) -> None:
    bench.run(timesteps=2)
    bench.slept.clear()
    bench.make_client = scripted(no_quota)
    report = bench.run(timesteps=4)
    assert [session.generation for session in report.sessions] == [1, 2]
    assert 3590 < sum(bench.slept) <= 3600, "an hour: what others reserve comes back before the reset"


def test_quota_that_other_sessions_hold_is_asked_for_again_each_hour_not_at_the_reset_of_the_week(bench: Bench) -> None:
    told: list[float] = []

    class Client(KaggleClient):
        def quota(self, machine: str = "") -> Quota:
            reset, hour = datetime.now(UTC) + timedelta(days=6), 3600.0
            told.append(left := [0.0, 0.05 * hour, 30 * hour][min(len(told), 2)])
            return Quota(used_s=0.0, reserved_s=30 * hour - left, total_s=30 * hour, refresh_time=reset)

    bench.make_client = Client
    assert bench.run(timesteps=2).step == 2
    assert told[:3] == [0.0, 180.0, 108_000.0]
    assert 2 * 3500 < sum(bench.slept) <= 2 * 3600


def test_a_tick_without_quota_exits_5_with_nothing_started_and_the_next_ones_wait(bench: Bench) -> None:
    bench.make_client = scripted(no_quota)
    for _ in range(2):
        with pytest.raises(QuotaError) as caught:
            bench.manager().tick("small", timesteps=2)
        assert caught.value.exit_code == 5
    assert versions(bench) == 0
    assert "a tick after" in caught.value.next_step


@pytest.mark.slow
def test_a_session_started_without_its_input_refuses_itself_and_the_next_one_goes_on(bench: Bench) -> None:
    def without_input(push: SessionRequest, really: Any) -> StartedSession:
        return really(replace(push, inputs=("local/no-such-dataset",)))  # type: ignore[no-any-return]

    bench.run(timesteps=2)
    bench.make_client = scripted(without_input)
    report = bench.run(timesteps=4)
    assert [session.outcome for session in report.sessions] == ["completed", "refused", "completed"]
    assert "is not under /kaggle/input" in report.sessions[1].why
    assert "Mounted: nothing" in report.sessions[1].why
    assert (report.step, versions(bench)) == (4, 3)


def test_a_session_filed_under_another_name_stops_the_run_and_says_where_it_is(bench: Bench) -> None:
    def misfiled(push: SessionRequest, really: Any) -> StartedSession:
        pushed = really(replace(push, slug=f"{push.slug}-x"))
        raise PushMismatch("Kaggle filed it elsewhere.", started=pushed.version.ref)

    bench.make_client = scripted(misfiled)
    with pytest.raises(PushMismatch) as caught:
        bench.run(timesteps=2)
    assert "-x on local" in caught.value.next_step
    assert bench.run(timesteps=2).step == 2, "the next step it names: the same command again"


def test_a_push_filed_under_another_name_is_found_even_when_its_answer_was_lost(bench: Bench) -> None:
    def misfiled(push: SessionRequest, really: Any) -> StartedSession:
        really(replace(push, slug=f"{push.slug}-x"))
        raise AmbiguousPush("the connection broke after the push")

    bench.make_client = scripted(misfiled)
    with pytest.raises(PushMismatch) as caught:
        bench.run(timesteps=2)
    assert "-x on local" in caught.value.next_step
    with pytest.raises(ConfigError, match="was stopped"):
        bench.manager().tick("small", timesteps=2)
    assert versions(bench) == 0, "nothing was pushed beside it, not by a schedule either"
    report = bench.run(timesteps=2)
    assert [(session.generation, session.outcome) for session in report.sessions] == [(1, "misfiled"), (2, "completed")]


@pytest.mark.slow
def test_a_stale_dataset_is_refused_by_the_kernel_with_what_it_saw(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = launch.publish_tree

    def publish(client: Any, run: Any, tree: Any, parent: Any, generation: int, **options: Any) -> Any:
        # As if Kaggle mounted the version before: generation 3 gets what generation 2 got.
        return real(client, run, tree, parent, generation, **options) if generation != 3 else stale

    stale = PublishedInputs("local", "the-version-before", 1)

    monkeypatch.setattr(launch, "publish_tree", publish)
    report = bench.run(timesteps=6)
    assert [session.outcome for session in report.sessions] == ["interrupted", "interrupted", "refused", "completed"]
    assert "step: asked at least 4, mounted 2" in report.sessions[2].why
    assert bench.steps() == [6, 5]


def test_something_else_pushing_to_the_same_kernel_is_noticed_and_the_named_next_step_works(bench: Bench) -> None:
    def overtaken(push: SessionRequest, really: Any) -> StartedSession:
        really(replace(push, source="print('not ours')"))
        raise AmbiguousPush("no answer")

    bench.make_client = scripted(overtaken)
    with pytest.raises(ConfigError, match="was not pushed by this run") as caught:
        bench.run(timesteps=2)
    assert "delete local/" in caught.value.next_step
    with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:
        owner, slug = caught.value.next_step.split("delete ")[1].split(" ")[0].split("/")
        client.delete(owner, slug)
    assert bench.run(timesteps=2).step == 2
