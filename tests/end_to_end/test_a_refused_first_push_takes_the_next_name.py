"""A refused first push leaves an empty kernel: the run takes its next name, and never while a version may exist."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import killed_manager
import pytest
from killed_manager import Point, kill_at, left_by, wrong_with
from loopback_kaggle import end_sessions
from small_project import SECTION, Bench

from kaggle_manager.cli.doctor import account
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.errors import AmbiguousPush, Interrupted, NotebookNotFound, NoVersionShown, QuotaError, RemoteError
from kaggle_manager.local_kaggle.launcher import ensure_running, stop
from kaggle_manager.orchestrator.clean import clean
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.platform import Quota, SessionRequest, StartedSession
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.sessions.connection import Connection

pytestmark = pytest.mark.slow
HOUR = 3600.0


class Killed(BaseException):
    """The manager's process is gone."""


@pytest.fixture
def hostile(bench: Bench, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """A Kaggle of its own that plays these faults; questions that fail are asked again without a wait."""
    roots: list[Path] = []

    def serve(*faults: dict[str, Any], **limits: float) -> Bench:
        root = tmp_path / f"hostile{len(roots)}"
        root.mkdir()
        (root / "limits.json").write_text(json.dumps({"ingestion_s": 0.0, "gpu_week_s": 1e9} | limits))
        (root / "plan.json").write_text(json.dumps({"fault": faults}))
        bench.server = ensure_running(root, faults=root / "plan.json", idle_exit_s=60)
        bench.make_client = functools.partial(KaggleClient, sleep=lambda seconds: None)  # type: ignore[assignment]
        roots.append(root)
        return bench

    yield serve
    for root in roots:
        end_sessions(root)
        stop(root)


REFUSED = {"kind": "push_refused"}


def run_of(bench: Bench) -> RunRow:
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        return journal.runs()[-1]


def sessions_of(bench: Bench) -> int:
    """How many sessions its Kaggle has started, of whatever kernel."""
    return len(list((bench.server.root / "sessions").glob("*/order.json")))


def config_of(bench: Bench) -> RunConfig:
    return build_config(SECTION, workdir=bench.workdir, project_root=bench.project, environ={})


def client_of(bench: Bench) -> KaggleClient:
    return bench.make_client(bench.connect_credentials(), endpoint=bench.server.url)


def test_the_run_goes_on_under_its_next_name_and_whoever_looks_for_it_finds_it_there(
    hostile: Callable[..., Bench],
) -> None:
    bench = hostile({**REFUSED, "times": 2})
    bench.platform = "kaggle"  # as far as the journal and `doctor` can tell
    assert bench.run(timesteps=2).step == 2
    row = run_of(bench)
    first = row.slug.removesuffix("-3")
    assert (sessions_of(bench), row.left_names) == (1, (first, f"{first}-2"))
    assert f"this run continues as {row.address}" in bench.output.replace("\n", " ")
    assert sum(bench.slept) >= 600 + 1200 - 1, "each refusal costs a name: tried again far more seldom"
    with client_of(bench) as client:
        for slug in row.left_names:  # nothing is deleted
            with pytest.raises(NoVersionShown):
                client.newest(row.owner, slug)
        (kept,) = account.empty_kernels(client, "local", config_of(bench))
        assert kept.says.endswith(f"local/{first}, local/{first}-2")
        assert "km clean --yes" in kept.todo
        with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
            over = clean(Connection(client, "local", "kaggle", "a test"), journal, time.time(), delete=False)
            actions = {each.thing.slug: each.action for each in over}
        assert [actions[slug] for slug in (first, f"{first}-2", row.slug)] == ["delete"] * 3
        client.delete("local", first)
        assert account.empty_kernels(client, "local", config_of(bench))[0].says.endswith(f": local/{first}-2")
    bench.workdir = bench.workdir.with_name("another_machine")
    assert bench.manager().adopt(SECTION, row.run_id).generation == 1
    assert bench.run(timesteps=4).step == 4
    assert (run_of(bench).slug, sessions_of(bench)) == (row.slug, 2), "adopted, not repeated"
    for path in bench.workdir.glob("journal.sqlite*"):
        path.unlink()
    assert bench.run(timesteps=6, trust=True).step == 6
    assert (run_of(bench).slug, sessions_of(bench)) == (row.slug, 3), "found without a journal"
    assert f"local/{first}-tree/2" in bench.output, "the dataset keeps its name"


def test_a_kernel_that_was_deleted_and_is_refused_when_it_is_made_again_is_left_as_well(
    hostile: Callable[..., Bench],
) -> None:
    bench = hostile({**REFUSED, "first": 2, "times": 1})
    bench.run(timesteps=2)
    deleted = run_of(bench)
    with client_of(bench) as client:
        client.delete(deleted.owner, deleted.slug)
    assert bench.run(timesteps=4).step == 4
    assert run_of(bench).slug == f"{deleted.slug}-2"


class Slept(list[float]):
    """Waits that were slept; what is to happen meanwhile does, once it has been waited for so long."""

    def __init__(self, *events: tuple[float, Callable[[], object]]) -> None:
        super().__init__()
        self.events = list(events)

    def append(self, seconds: float) -> None:
        super().append(seconds)
        while self.events and sum(self) >= self.events[0][0]:
            self.events.pop(0)[1]()


def test_without_a_name_left_the_run_waits_says_what_to_delete_and_goes_on_under_any_of_its_names_that_is_free(
    hostile: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaggle_manager.sessions.launch.NAMES", 3)
    bench = hostile({**REFUSED, "times": 3})
    bench.platform = "kaggle"  # as far as the journal can tell

    def delete_the_second() -> None:
        row = run_of(bench)
        assert (len(row.left_names), sessions_of(bench)) == (2, 0)
        assert row.wait is not None
        assert row.wait.cause == "no name free"
        assert "Type `km clean --yes --workdir " in row.wait.why
        for slug in (*row.left_names, row.slug):
            assert f"local/{slug}" in row.wait.why
        with client_of(bench) as client, closing(Journal(bench.workdir / "journal.sqlite")) as journal:
            over = clean(Connection(client, "local", "kaggle", "a test"), journal, time.time(), delete=True)
            deleted.update(each.thing.slug for each in over if each.action == "deleted")

    deleted: set[str] = set()
    bench.slept = Slept((600 + 1200 + 2400 + 2 * HOUR, delete_the_second))
    assert bench.run(timesteps=2).step == 2
    row = run_of(bench)
    first = row.slug.removesuffix("-2")
    assert deleted == {first, f"{first}-2"}
    assert (row.slug, sessions_of(bench)) == (first, 1)
    assert row.left_names == (f"{first}-2", f"{first}-3")


@pytest.mark.parametrize("words", ["Notebook not found", "Maximum weekly GPU quota of 30.00 hours reached."])
def test_whatever_words_refuse_a_first_push_a_pass_pushes_once_and_leaves_at_most_one_name(
    hostile: Callable[..., Bench], words: str
) -> None:
    bench = hostile({**REFUSED, "message": words})
    for _ in range(2):
        with suppress(QuotaError):
            bench.manager().tick(SECTION, timesteps=2)
    row = run_of(bench)
    assert row.left_names == (), "the second one waits"
    assert row.wait is not None
    assert row.wait.for_s >= 600 - 1


def test_a_user_who_runs_it_again_and_again_does_not_use_up_the_names(hostile: Callable[..., Bench]) -> None:
    bench, pushes = hostile({**REFUSED, "times": 1}), list[str]()

    class Client(KaggleClient):
        def start(self, push: SessionRequest) -> StartedSession:
            pushes.append(push.slug)
            return super().start(push)

    bench.make_client = functools.partial(Client, sleep=lambda seconds: None)  # type: ignore[assignment]
    for _ in range(3):
        with pytest.raises(Interrupted):
            bench.run(timesteps=2, interrupt_at="waiting until")
        bench.slept.clear()
    assert len(pushes) == 1
    assert bench.run(timesteps=2).step == 2
    assert len(pushes) == 2


def test_not_found_where_kaggle_keeps_no_kernel_leaves_no_name(bench: Bench) -> None:
    turns = [NotebookNotFound("Notebook not found")] * 2

    class Client(KaggleClient):
        def start(self, push: SessionRequest) -> StartedSession:
            if turns:
                raise turns.pop()
            return super().start(push)

    bench.make_client = Client
    assert bench.run(timesteps=2).step == 2
    assert run_of(bench).left_names == ()
    assert sum(bench.slept) >= 600 + 1200 - 1


def test_a_quota_that_did_not_allow_a_first_push_is_tried_again_at_its_reset_or_once_more_of_it_is_left(
    bench: Bench,
) -> None:
    pushed_at: list[float] = []
    more_after_s, slept = 30 * HOUR, Slept()

    class Client(KaggleClient):
        def start(self, push: SessionRequest) -> StartedSession:
            pushed_at.append(sum(slept))
            if len(pushed_at) == 1:
                raise QuotaError("Maximum weekly GPU quota of 30.00 hours reached.")
            return super().start(push)

        def quota(self, accelerator: str) -> Quota:
            told = super().quota(accelerator)
            left_s = 20 * HOUR if sum(slept) < more_after_s else 25 * HOUR
            reset = datetime.fromtimestamp(time.time() + 90 * HOUR, UTC)
            return replace(told, total_s=30 * HOUR, used_s=30 * HOUR - left_s, reserved_s=0.0, refresh_time=reset)

    bench.slept, bench.make_client = slept, Client
    assert bench.run(timesteps=2).step == 2
    assert run_of(bench).left_names == ()
    first, second = pushed_at
    assert first == 0
    assert more_after_s - 1 <= second <= more_after_s + 2 * HOUR


def test_the_accounts_sessions_are_counted_before_a_first_push(bench: Bench) -> None:
    """Two live ones leave no room: nothing is pushed, so nothing is refused, and no name is lost."""
    pushed: list[int] = []

    class Client(KaggleClient):
        def start(self, push: SessionRequest) -> StartedSession:
            pushed.append(len(bench.slept))
            return super().start(push)

    with client_of(bench) as client:
        others = [
            client.start(
                SessionRequest("local", f"km-other-{n}", "import time; time.sleep(99)", accelerator="NvidiaTeslaT4")
            ).version
            for n in range(2)
        ]
        assert client.live("local")["GPU"] == 2

        class Naps(list[float]):
            def append(self, seconds: float) -> None:
                super().append(seconds)
                if len(self) == 3:
                    for other in others:
                        client.delete("local", other.slug)

        bench.slept, bench.make_client = Naps(), Client
        assert bench.run(timesteps=2).step == 2
    assert pushed[0] >= 3
    assert "2 GPU sessions of this account are live, and the platform runs 2 at once" in bench.output
    assert run_of(bench).left_names == ()


def test_a_push_that_was_accepted_without_an_answer_is_found_however_long_its_kernel_cannot_be_shown(
    hostile: Callable[..., Bench],
) -> None:
    bench = hostile(
        {"kind": "refuse", "on": ["SaveKernel"], "status": 503, "carried_out": True, "times": 1},
        {"kind": "refuse", "on": ["GetKernel"], "status": 500, "first": 2, "times": 60},
    )
    assert bench.run(timesteps=2).step == 2
    assert (sessions_of(bench), run_of(bench).left_names) == (1, ())


class Hidden(KaggleClient):
    """Shows of a kernel that it is there, and nothing else, until so many seconds have passed."""

    bench: Bench
    shown_after_s = 50 * 60.0

    def _is_hidden(self) -> bool:
        return sum(self.bench.slept) < self.shown_after_s

    def newest(self, owner: str, slug: str) -> Any:
        found = super().newest(owner, slug)
        if found and self._is_hidden():
            raise NoVersionShown("HTTP 500")
        return found

    def shows_nothing_of(self, owner: str, slug: str) -> bool:
        return self._is_hidden() or super().shows_nothing_of(owner, slug)


def test_a_refusal_before_says_nothing_of_a_later_push_whose_answer_nobody_saw(bench: Bench) -> None:
    """Refused, then accepted and killed before that was written down, then not shown for most of an hour."""
    turns = ["refused, and nothing kept", "accepted and killed"]

    class Client(Hidden):
        def start(self, push: SessionRequest) -> StartedSession:
            match turns.pop(0) if turns else "":
                case "refused, and nothing kept":
                    raise first_push_refusal()
                case "accepted and killed":
                    super().start(push)
                    raise Killed
            return super().start(push)

    Client.bench, bench.make_client = bench, Client
    Client.shown_after_s = 600 + 50 * 60.0
    with pytest.raises(Killed):
        bench.run(timesteps=2)
    assert bench.run(timesteps=2).step == 2
    assert run_of(bench).left_names == ()
    with client_of(bench) as client:
        row = run_of(bench)
        newest = client.newest(row.owner, row.slug)
    assert newest is not None
    assert newest[0].id == "1", "one session"


def first_push_refusal() -> RemoteError:
    from kaggle_manager.errors import CapacityReached

    return CapacityReached("Maximum batch GPU session count of 2 reached.")


def test_an_empty_kernel_of_a_push_without_an_answer_is_not_left_before_an_hour_of_looks_has_shown_nothing(
    hostile: Callable[..., Bench],
) -> None:
    bench = hostile({**REFUSED, "times": 1})

    class Client(KaggleClient):
        def start(self, push: SessionRequest) -> StartedSession:
            try:
                return super().start(push)
            except RemoteError as error:
                raise AmbiguousPush("the connection broke after the push") from error

    bench.make_client = functools.partial(Client, sleep=lambda seconds: None)  # type: ignore[assignment]
    for _ in range(3):
        with pytest.raises(RemoteError, match="counts as empty when it has looked so for an hour"):
            bench.manager().tick(SECTION, timesteps=2)
    assert (run_of(bench).left_names, sessions_of(bench)) == ((), 0)


KILLED_AT = [
    "1 HTTP: SaveKernel #1 before",
    "1 HTTP: SaveKernel #1 after",  # refused, and nobody knows: an hour of looks
    "1 journal: drop_intent #1 after",
    "1 journal: together in _start #1 after",
    "0 journal: together in take_next #1 before",
    "0 journal: note name_left #1 after",
    "0 journal: together in take_next #1 after",
    "0 HTTP: ListKernels #1 after",
    "1 journal: note pushed #1 before",
]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork and SIGKILL")
def test_killed_at_every_step_of_it_the_run_ends_with_one_session_for_each_number(
    hostile: Callable[..., Bench], bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(killed_manager, "TARGET", 2)  # one session: what is killed here lies before it
    untouched = Bench(bench.project, tmp_path / "untouched", bench.server)
    untouched.run(timesteps=2)
    expected = left_by(untouched)
    bench = hostile({**REFUSED, "times": 3})
    asked = [Point.of(text) for text in KILLED_AT]
    assert set(kill_at(bench, "run", asked, tmp_path / "reached")) == set(asked)
    assert wrong_with(left_by(bench), expected) == []
    assert (sessions_of(bench), len(run_of(bench).left_names)) == (1, 3)
