"""Room and quota: what Kaggle refuses is refused here, in its words; of a first push an empty kernel is left."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from kaggle_manager.local_kaggle import quota
from kaggle_manager.local_kaggle.runner import TIMED_OUT

HOUR = 3600.0
WAIT = "import time\ntime.sleep(60)"


@pytest.mark.parametrize(
    ("shape", "name", "room"), [("NvidiaTeslaT4", "GPU", 2), ("", "CPU", 5), ("TpuV5E8", "TPU", 1)]
)
def test_sessions_over_the_room_are_refused_with_version_0(client: Any, shape: str, name: str, room: int) -> None:
    for number in range(room):
        assert client.push(WAIT, slug=f"kernel-{number}", machine_shape=shape).version_number == 1
    answer = client.push(WAIT, slug="one-more", machine_shape=shape)
    assert (answer.version_number, answer.error) == (0, f"Maximum batch {name} session count of {room} reached.")
    request_list = client.call("kernels", "list_kernels", None)
    refs = [kernel.ref for kernel in request_list.kernels]
    assert refs == [*(f"local/kernel-{number}" for number in reversed(range(room))), ""], "an empty one has no address"
    assert request_list.kernels[-1].title == "[Private Notebook]"


def refused_with(status: int, ask: Any) -> None:
    with pytest.raises(requests.HTTPError) as caught:
        ask()
    assert caught.value.response.status_code == status


def test_a_refused_first_push_leaves_an_empty_kernel_that_takes_no_push_until_it_is_deleted(loopback: Any) -> None:
    client = loopback(cpu_sessions=1).client
    client.push(WAIT, slug="running")
    assert client.push("", slug="refused").error == "Maximum batch CPU session count of 1 reached."
    client.delete("running")
    for _ in range(2):
        answer = client.push("", slug="refused")
        assert (answer.version_number, answer.error) == (0, "Notebook not found")
    refused_with(404, lambda: client.status("refused"))
    refused_with(500, lambda: client.kernel("refused"))
    client.delete("refused")
    assert client.push("", slug="refused").version_number == 1


def test_a_refused_later_push_leaves_its_kernel_as_it_was(loopback: Any) -> None:
    client = loopback(cpu_sessions=1).client
    client.run("", slug="known")
    client.push(WAIT, slug="running")
    assert client.push("", slug="known").error == "Maximum batch CPU session count of 1 reached."
    client.delete("running")
    assert client.push("", slug="known").version_number == 2


@pytest.mark.parametrize(("slug", "title"), [("7-days", "7 days"), ("rocket-run", "Rocket run \N{ROCKET}")])
def test_a_new_kernel_of_such_a_name_is_not_found(client: Any, slug: str, title: str) -> None:
    assert client.push("", slug=slug, new_title=title).error == "Notebook not found"


def test_a_retired_accelerator_runs_on_its_successor(client: Any) -> None:
    client.push("", machine_shape="NvidiaTeslaP100")
    assert client.kernel().metadata.machine_shape == "NvidiaTeslaT4"


def test_a_time_limit_is_at_most_the_platforms(loopback: Any) -> None:
    client = loopback(session_s=1.0).client
    client.push(WAIT, session_timeout_seconds=7200)
    assert client.end() == ("CANCEL_ACKNOWLEDGED", TIMED_OUT)


def test_mounts_can_come_late(loopback: Any) -> None:
    local = loopback(mount_s=0.5)
    client = local.client
    client.ready_dataset({"a.txt": b"data"})
    log = client.run(
        "import os, time, pathlib\n"
        "file = pathlib.Path(os.environ.get('KAGGLE_INPUT_DIR', '/kaggle/input')) / 'little-data/a.txt'\n"
        "while not file.is_file():\n    time.sleep(0.02)\n"
        "print(file.read_text())\n",
        dataset_data_sources=["local/little-data"],
    )
    assert log.endswith("data\n")
    (order,) = local.root.glob("sessions/*/order.json")
    assert json.loads(order.read_text())["filled_after_s"] == 0.5


def begin_a_week(local: Any) -> None:
    """Turn the clock to the first moment of the next week, so that none turns under the test."""
    local.clock.ahead_s += quota.week_of(local.clock())[1] - local.clock()


def test_a_running_gpu_session_uses_its_time_and_reserves_the_rest_of_twelve_hours(loopback: Any) -> None:
    local = loopback()
    begin_a_week(local)
    local.client.push(WAIT, machine_shape="NvidiaTeslaT4", session_timeout_seconds=int(10 * HOUR))
    local.client.running()
    before = local.client.quota().gpu_quota
    local.clock.ahead_s += HOUR
    after = local.client.quota().gpu_quota
    used = after.time_used - before.time_used
    assert abs(used - timedelta(hours=1)) < timedelta(seconds=30)
    assert abs(before.time_reserved - timedelta(hours=12)) < timedelta(seconds=30)
    assert abs(after.time_reserved - timedelta(hours=11)) < timedelta(seconds=30)
    assert after.total_time_allowed == timedelta(hours=30)
    assert after.has_ever_run


def test_quota_is_refused_in_both_ways_and_comes_back_on_saturday(loopback: Any) -> None:
    local = loopback(gpu_week_s=3 * HOUR)
    fields = {"machine_shape": "NvidiaTeslaT4", "session_timeout_seconds": int(4 * HOUR)}
    begin_a_week(local)
    local.client.push(WAIT, **fields)
    local.client.running()
    projected = local.client.push(WAIT, slug="other-kernel", **fields)
    assert projected.version_number == 0
    assert projected.error.startswith("Session cannot start because currently running sessions are projected to exceed")
    local.clock.ahead_s += 3 * HOUR
    reached = local.client.push(WAIT, slug="another-kernel", **fields)
    assert (reached.version_number, reached.error) == (0, "Maximum weekly GPU quota of 3.00 hours reached.")
    assert local.client.push("", slug="cpu-kernel").version_number == 1
    refresh = local.client.quota().quota_refresh_time
    assert (refresh.weekday(), refresh.hour, refresh.minute) == (5, 0, 0)
    local.client.delete()
    local.client.push("", slug="cpu-kernel")
    local.clock.ahead_s += refresh.replace(tzinfo=UTC).timestamp() - local.clock() + 1
    assert local.client.push("", slug="new-kernel", **fields).version_number == 1


@given(st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001 - made aware below
def test_every_moment_lies_in_a_week_that_turns_on_saturday_at_midnight_utc(moment: datetime) -> None:
    now = moment.replace(tzinfo=UTC).timestamp()
    start, end = quota.week_of(now)
    assert start <= now < end == start + quota.WEEK_S
    first = datetime.fromtimestamp(start, UTC)
    assert (first.weekday(), first.hour, first.minute, first.second) == (5, 0, 0, 0)


def test_only_this_weeks_part_of_a_session_counts() -> None:
    start, _ = quota.week_of(1_800_000_000.0)
    over_the_turn = quota.Span(start - HOUR, start + 2 * HOUR, 12 * HOUR)
    running = quota.Span(start + 3 * HOUR, None, 12 * HOUR)
    week = quota.statistics([over_the_turn, running], start + 4 * HOUR, 30 * HOUR)
    assert (week.used_s, week.reserved_s) == (3 * HOUR, 11 * HOUR)


def test_a_session_may_start_with_few_hours_left_when_none_is_running() -> None:
    start, _ = quota.week_of(1_800_000_000.0)
    spent = quota.Span(start, start + 29.9 * HOUR, 12 * HOUR)
    assert quota.refusal("GPU", quota.statistics([spent], start + 30 * HOUR, 30 * HOUR)) is None
