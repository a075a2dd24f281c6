"""A published dataset is private, whole and current when the call returns; uploads go on where they broke."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_kaggle import IMPATIENT_S, SECRET, Reply, ScriptedKaggle, SeenRequest, answer, page, reset, stall

from kaggle_manager.errors import AuthError, ConfigError, ProtocolError, Unavailable
from kaggle_manager.platforms.kaggle.datasets import NEVER_READY_S, find_submitted, publish_dataset
from kaggle_manager.platforms.platform import NotReady, PublishedInputs, Submission

DATA = bytes(range(256)) * 2000
MISSING = answer({"code": 403, "message": "Permission 'datasets.get' was denied"}, 403)
OK = answer({"status": "ok", "error": "", "url": "https://www.kaggle.com/datasets/alice/km-run-tree"})


class World:
    """What Kaggle would know: bytes that arrived, versions, and how many looks until a new one is current."""

    def __init__(self, kaggle: ScriptedKaggle, *, version: int = 0, looks_until_current: int = 0) -> None:
        self.kaggle, self.version, self.looks = kaggle, version, looks_until_current
        self.current = version
        self.arrived = b""
        kaggle.script("StartBlobUpload", answer({"token": "t1", "createUrl": f"{kaggle.url}/upload"}))
        kaggle.script("upload", self.upload)
        kaggle.script("CreateDataset", self.accept)
        kaggle.script("CreateDatasetVersion", self.accept)
        kaggle.script("GetDataset", self.describe)
        kaggle.script("GetDatasetStatus", self.status)
        kaggle.script("ListDatasetFiles", self.files)

    def upload(self, handler, seen: SeenRequest) -> None:
        span = seen.headers.get("content-range", f"bytes 0-{len(seen.body) - 1}/{len(seen.body)}")
        start, total = span.removeprefix("bytes ").split("/")
        if not start.startswith("*"):
            first = int(start.split("-")[0])
            self.arrived = self.arrived[:first] + seen.body
        if len(self.arrived) == int(total):
            answer({"size": total})(handler, seen)
        else:
            answer(b"", 308, **({"Range": f"bytes=0-{len(self.arrived) - 1}"} if self.arrived else {}))(handler, seen)

    def accept(self, handler, seen: SeenRequest) -> None:
        self.version += 1
        OK(handler, seen)

    def describe(self, handler, seen: SeenRequest) -> None:
        if self.version > self.current:
            if self.looks <= 0:
                self.current = self.version
            self.looks -= 1
        reply = answer({"currentVersionNumber": self.current, "isPrivate": True}) if self.current else MISSING
        reply(handler, seen)

    def status(self, handler, seen: SeenRequest) -> None:
        (answer({"status": "READY"}) if self.version else MISSING)(handler, seen)

    def files(self, handler, seen: SeenRequest) -> None:
        answer({"datasetFiles": [{"name": "training_tree.pack", "totalBytes": len(DATA)}]})(handler, seen)


@pytest.fixture
def kaggle():
    with ScriptedKaggle() as scripted:
        yield scripted


@pytest.fixture
def pack(tmp_path) -> Path:
    path = tmp_path / "training_tree.pack"
    path.write_bytes(DATA)
    return path


class Clock:
    def __init__(self) -> None:
        self.now, self.waits = 0.0, []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)


def publish(kaggle, *files: Path, clock: Clock | None = None, **options):
    clock = clock or Clock()
    client = kaggle.client(sleep=clock.sleep, clock=lambda: clock.now)
    return publish_dataset(client, owner="alice", slug="km-run-tree", files=files, notes="gen 2", **options)


def test_a_new_dataset_is_private_and_its_version_is_1(kaggle, pack):
    world = World(kaggle)
    assert publish(kaggle, pack) == PublishedInputs("alice", "km-run-tree", 1)
    sent = kaggle.asked("CreateDataset")[0].json
    assert sent["isPrivate"] is True
    assert sent["title"] == "km run tree"
    assert sent["files"] == [{"token": "t1"}]
    assert world.arrived == DATA


def test_a_known_dataset_gets_its_next_version(kaggle, pack):
    World(kaggle, version=4)
    assert publish(kaggle, pack).version == 5
    sent = kaggle.asked("CreateDatasetVersion")[0].json
    assert (sent["datasetSlug"], sent["body"]["versionNotes"]) == ("km-run-tree", "gen 2")
    assert kaggle.asked("CreateDataset") == []


def test_the_call_returns_only_when_the_new_version_is_current(kaggle, pack):
    """Kaggle says READY of the old version for a while; a kernel pushed then would mount the old one."""
    world = World(kaggle, version=4, looks_until_current=5)
    clock = Clock()
    assert publish(kaggle, pack, clock=clock).version == 5
    assert world.current == 5
    assert len(clock.waits) >= 5


def test_who_waits_is_told_when_the_bytes_have_arrived(kaggle, pack):
    World(kaggle, looks_until_current=3)
    arrived = []
    publish(
        kaggle, pack, on_uploaded=lambda: arrived.append((len(kaggle.asked("upload")), kaggle.asked("CreateDataset")))
    )
    assert arrived == [(1, [])]


def test_names_must_be_the_ones_that_were_sent(kaggle, pack):
    World(kaggle)
    stale = answer({"datasetFiles": [{"name": "another.pack", "totalBytes": len(DATA)}]})
    kaggle.script("ListDatasetFiles", stale)
    assert publish(kaggle, pack, ready_within_s=60) is NotReady.PROCESSED


def test_sizes_that_stay_others_than_were_sent_hold_nothing_up_and_are_told(kaggle, pack):
    World(kaggle)
    kaggle.script("ListDatasetFiles", answer({"datasetFiles": [{"name": "training_tree.pack", "totalBytes": 7}]}))
    clock = Clock()
    found = publish(kaggle, pack, clock=clock)
    assert (found.version, "7 bytes instead of" in found.caution) == (1, True)
    assert 30 <= clock.now < 60, "they may be of a version that is not whole yet"


def test_sizes_that_become_right_are_no_caution(kaggle, pack):
    World(kaggle)
    small = answer({"datasetFiles": [{"name": "training_tree.pack", "totalBytes": 0}]})
    right = answer({"datasetFiles": [{"name": "training_tree.pack", "totalBytes": len(DATA)}]})
    kaggle.script("ListDatasetFiles", small, small, right)
    assert publish(kaggle, pack) == PublishedInputs("alice", "km-run-tree", 1)


def test_waiting_is_bounded(kaggle, pack):
    World(kaggle, looks_until_current=10**6)
    clock = Clock()
    assert publish(kaggle, pack, clock=clock, ready_within_s=60) is NotReady.PROCESSED
    assert 30 < clock.now <= 61


def test_a_version_of_somebody_else_is_not_taken_for_ours(kaggle, pack):
    World(kaggle, version=4)
    kaggle.script("GetDataset", *(answer({"currentVersionNumber": n, "isPrivate": True}) for n in (4, 6)))
    with pytest.raises(ConfigError, match="something else publishes"):
        publish(kaggle, pack)


@pytest.mark.parametrize("fault", [reset, stall, page(502), page(), answer(b"", 503)])
def test_a_lost_answer_is_looked_for_before_publishing_again(kaggle, pack, fault):
    world = World(kaggle, version=4)

    def accepted_but_lost(handler, seen: SeenRequest) -> None:
        world.version += 1
        fault(handler, seen)

    kaggle.script("CreateDatasetVersion", accepted_but_lost)
    if fault is stall:
        kaggle.read_timeout_s = IMPATIENT_S
    assert publish(kaggle, pack).version == 5
    assert len(kaggle.asked("CreateDatasetVersion")) == 1


def test_an_order_that_never_arrived_is_given_again_after_looking(kaggle, pack):
    world = World(kaggle, version=4)
    kaggle.script("CreateDatasetVersion", reset, world.accept)
    clock = Clock()
    assert publish(kaggle, pack, clock=clock).version == 5
    assert clock.now >= 60


def test_a_public_dataset_is_never_written_to(kaggle, pack):
    World(kaggle, version=4)
    kaggle.script("GetDataset", answer({"currentVersionNumber": 4}))
    with pytest.raises(ConfigError, match="public"):
        publish(kaggle, pack)
    assert kaggle.asked("StartBlobUpload") == []


@pytest.mark.parametrize("status", ["FAILED", "DELETED"])
def test_a_dataset_that_kaggle_could_not_process_is_an_error(kaggle, pack, status):
    World(kaggle)
    kaggle.script("GetDatasetStatus", answer({"status": status}))
    with pytest.raises(ConfigError, match=status):
        publish(kaggle, pack)


def test_an_unknown_status_is_waited_through(kaggle, pack):
    world = World(kaggle)
    kaggle.script("GetDatasetStatus", answer({"status": "POLISHING"}), answer({"status": "POLISHING"}), world.status)
    assert publish(kaggle, pack).version == 1


def test_a_refusal_told_with_200_is_an_error(kaggle, pack):
    World(kaggle)
    kaggle.script("CreateDataset", answer({"status": "error", "error": "The slug is already in use"}))
    with pytest.raises(ConfigError, match="already in use"):
        publish(kaggle, pack)


def test_a_server_in_trouble_is_not_taken_for_a_missing_dataset(kaggle, pack):
    World(kaggle)
    kaggle.script("GetDataset", answer({}, 500))
    with pytest.raises(Unavailable):
        publish(kaggle, pack)
    assert kaggle.asked("CreateDataset") == []


def test_refused_credentials_are_not_taken_for_a_missing_dataset(kaggle, pack):
    World(kaggle)
    kaggle.script("IntrospectToken", answer({}, 401))
    with pytest.raises(AuthError):
        publish(kaggle, pack)


def test_what_no_dataset_takes_is_refused_before_anything_is_sent(kaggle, pack, tmp_path):
    empty = tmp_path / "empty.bin"
    empty.touch()
    twin = tmp_path / "other" / pack.name
    twin.parent.mkdir()
    twin.write_bytes(b"x")
    for files in ([], [tmp_path], [empty], [tmp_path / "absent"], [pack, twin]):
        with pytest.raises(ConfigError):
            publish(kaggle, *files)
    assert kaggle.seen == []


# What was ordered, looked for again


def look(kaggle, submission: Submission, *, clock: Clock | None = None, **options):
    clock = clock or Clock()
    client = kaggle.client(sleep=clock.sleep, clock=lambda: clock.now)
    return find_submitted(client, owner="alice", slug="km-run-tree", submission=submission, **options)


def test_what_is_processed_for_hours_is_found_by_what_was_written_down_before_it_was_ordered(kaggle, pack):
    world = World(kaggle, version=4, looks_until_current=10**6)
    written: list[Submission] = []
    accepted: list[bool] = []

    def write_down(submission: Submission) -> None:
        assert kaggle.asked("CreateDatasetVersion") == [], "before it is ordered"
        written.append(submission)

    options = {"on_order": write_down, "on_accepted": lambda: accepted.append(True)}
    assert publish(kaggle, pack, ready_within_s=60, **options) is NotReady.PROCESSED
    assert accepted == [True]
    (submission,) = written
    assert look(kaggle, submission, accepted=True, age_s=7200.0, within_s=60) is NotReady.PROCESSED
    world.looks = 0
    assert look(kaggle, submission, accepted=True, age_s=7500.0) == PublishedInputs("alice", "km-run-tree", 5)
    assert len(kaggle.asked("CreateDatasetVersion")) == 1


def test_an_order_without_an_answer_is_lost_only_when_nothing_is_processed_and_no_newer_version_is_shown(kaggle):
    World(kaggle, version=4)
    submission = Submission(4, 5, {"training_tree.pack": len(DATA)})
    assert look(kaggle, submission, accepted=False, age_s=0.0) is NotReady.LOST
    assert look(kaggle, submission, accepted=True, age_s=0.0) is NotReady.PROCESSED
    assert look(kaggle, submission, accepted=True, age_s=NEVER_READY_S) is NotReady.LOST
    shown = {"currentVersionNumber": 4, "isPrivate": True, "versions": [{"versionNumber": 5}]}
    kaggle.script("GetDataset", answer(shown))
    assert look(kaggle, submission, accepted=False, age_s=3600.0, within_s=30) is NotReady.PROCESSED
    kaggle.script("GetDatasetStatus", answer({"status": "BLOBS_RECEIVED"}))
    assert look(kaggle, submission, accepted=False, age_s=10 * NEVER_READY_S, within_s=30) is NotReady.PROCESSED


def test_nothing_is_uploaded_while_an_earlier_version_is_processed(kaggle, pack):
    World(kaggle, version=4)
    kaggle.script("GetDatasetStatus", answer({"status": "BLOBS_RECEIVED"}))
    with pytest.raises(Unavailable, match="earlier version"):
        publish(kaggle, pack, ready_within_s=30)
    assert kaggle.asked("StartBlobUpload") == []


# The upload itself


def cut_upload(world: World, keep: int) -> Reply:
    def cut(handler, seen: SeenRequest) -> None:
        world.arrived = seen.body[:keep]
        reset(handler, seen)

    return cut


@pytest.mark.parametrize("keep", [0, 1, 100_000, len(DATA) - 1])
def test_a_broken_upload_goes_on_with_the_byte_that_is_missing(kaggle, pack, keep):
    world = World(kaggle)
    kaggle.script("upload", cut_upload(world, keep), world.upload)
    progress: list[tuple[str, int, int]] = []
    publish(kaggle, pack, on_progress=lambda *told: progress.append(told))
    probe, rest = kaggle.asked("upload")[1:]
    assert probe.headers["content-range"] == f"bytes */{len(DATA)}"
    assert len(rest.body) == len(DATA) - keep
    assert world.arrived == DATA
    assert progress[-1] == ("training_tree.pack", len(DATA), len(DATA))


@pytest.mark.parametrize("fault", [answer({}, 500), answer({}, 503), answer({}, 429, Retry_After="2"), stall])
def test_a_host_in_trouble_is_asked_again(kaggle, pack, fault):
    world = World(kaggle)
    kaggle.script("upload", fault, world.upload)
    publish(kaggle, pack)
    assert world.arrived == DATA


def test_an_upload_whose_last_answer_was_lost_is_not_sent_twice(kaggle, pack):
    world = World(kaggle)
    kaggle.script("upload", cut_upload(world, len(DATA)), world.upload)
    publish(kaggle, pack)
    assert [len(seen.body) for seen in kaggle.asked("upload")] == [len(DATA), 0]


def test_an_upload_the_host_forgot_is_begun_again(kaggle, pack):
    world = World(kaggle)
    kaggle.script("upload", reset, answer({}, 404), world.upload)
    publish(kaggle, pack)
    assert len(kaggle.asked("StartBlobUpload")) == 2
    assert world.arrived == DATA


def test_a_refused_upload_is_a_typed_error_without_its_address(kaggle, pack):
    World(kaggle)
    kaggle.script("StartBlobUpload", answer({"token": "t1", "createUrl": f"{kaggle.url}/upload?upload_id=s3cret"}))
    kaggle.script("upload", answer({}, 400))
    with pytest.raises(ProtocolError) as caught:
        publish(kaggle, pack)
    assert "s3cret" not in str(caught.value)


def test_the_host_of_the_blobs_never_sees_the_credentials(kaggle, pack):
    World(kaggle)
    publish(kaggle, pack)
    (seen,) = kaggle.asked("upload")
    assert "authorization" not in seen.headers
    assert SECRET not in str(seen.headers)
