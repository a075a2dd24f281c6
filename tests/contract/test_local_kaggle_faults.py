"""The local Kaggle can be told to be hostile, by a file, and is so the same way every time."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hostile_stage
import pytest
import requests

from kaggle_manager.errors import ConfigError, RateLimited
from kaggle_manager.local_kaggle.faults.fault_plan import CALLS, KINDS, Plan
from kaggle_manager.local_kaggle.faults.middleware import Schedule, call_of
from kaggle_manager.local_kaggle.launcher import ensure_running, stop
from kaggle_manager.local_kaggle.runner import TIMED_OUT
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.kaggle.datasets import publish_dataset
from kaggle_manager.platforms.kaggle.retry import RetryPolicy
from kaggle_manager.platforms.platform import SessionRef, SessionRequest, SessionState

GUIDE = Path(__file__).resolve().parents[2] / "docs/local_kaggle.md"
LOOK = """
import os, time
from pathlib import Path
inputs = Path(os.environ.get("KAGGLE_INPUT_DIR", "/kaggle/input"))
def seen():
    return sorted(path.read_text() for path in inputs.rglob("*.txt"))
"""


@pytest.fixture(scope="module")
def at(tmp_path_factory) -> Iterator[hostile_stage.Stage]:
    with hostile_stage.stage(tmp_path_factory.mktemp("stage") / "kaggle") as built:
        yield built


@pytest.fixture(autouse=True)
def _honest_again(request) -> Iterator[None]:
    yield
    if "at" in request.fixturenames:
        request.getfixturevalue("at").play()


# Plans


def loaded(tmp_path: Path, text: str, name: str = "plan.toml") -> Plan:
    (tmp_path / name).write_text(text)
    return Plan.load(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed = ", "Invalid value"),
        ("sead = 1", "sead"),
        ("[[fault]]\nkind = 'refuse'\nstatus = 503\n[[fault]]\nkind = 'explode'", "fault 2: "),
        ("[[fault]]\nkind = 'refuse'", "fault 1, refuse.status: Field required"),
        ("[[fault]]\nkind = 'reset'\non = ['GetKernal']", "there is no call 'GetKernal'; the calls are SaveKernel"),
        ("[[fault]]\nkind = 'flip'\non = ['SaveKernel']", "SaveKernel cannot meet this fault; the calls that can are"),
        ("[[fault]]\nkind = 'reset'\ntimes = 0", "fault 1, reset.times"),
        ("[[fault]]\nkind = 'reset'\nprobability = 1.5", "fault 1, reset.probability"),
        ("[[fault]]\nkind = 'refuse'\nstatus = 429\ncarried_out = true", "a call answered 429 was not carried out"),
    ],
)
def test_a_plan_that_cannot_be_played_is_refused_with_its_place(tmp_path, text, words):
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        loaded(tmp_path, text)
    assert "docs/local_kaggle.md" in caught.value.next_step


def test_a_plan_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        Plan.load(tmp_path / "nowhere.toml")


def test_toml_and_json_say_the_same(tmp_path):
    toml = loaded(tmp_path, "seed = 3\n[[fault]]\nkind = 'reset'\non = ['Download']\nfirst = 2\ntimes = 1")
    fault = {"kind": "reset", "on": ["Download"], "first": 2, "times": 1}
    assert toml == loaded(tmp_path, json.dumps({"seed": 3, "fault": [fault]}), "plan.json")


def struck(plan: Plan, calls: list[str]) -> list[str | None]:
    schedule = Schedule(plan)
    return [track and track.fault.kind for track in map(schedule.strike, calls)]


def test_when_a_fault_strikes(tmp_path):
    plan = loaded(
        tmp_path,
        "[[fault]]\nkind = 'reset'\non = ['GetKernel']\nfirst = 2\ntimes = 2\n"
        "[[fault]]\nkind = 'refuse'\nstatus = 503\non = ['GetKernel', 'Download']\nfirst = 3",
    )
    calls = ["GetKernel", "Download", "GetKernel", "Upload", "GetKernel", "GetKernel", "Download"]
    assert struck(plan, calls) == [None, None, "reset", None, "reset", "refuse", "refuse"]


def test_chance_comes_from_the_seed_alone():
    def plan(seed: int) -> Plan:
        return Plan.model_validate({"seed": seed, "fault": [{"kind": "reset", "probability": 0.3}]})

    calls = [CALLS[number % len(CALLS)] for number in range(400)]
    assert struck(plan(1), calls) == struck(plan(1), calls)
    assert struck(plan(1), calls) != struck(plan(2), calls)
    assert 80 < Counter(struck(plan(1), calls))["reset"] < 160


def test_what_a_path_stands_for():
    assert call_of("/api/v1/kernels.KernelsApiService/SaveKernel") == "SaveKernel"
    assert call_of("http://localhost/api/v1/kernels.KernelsApiService/SaveKernel") == "SaveKernel"
    assert call_of("/v1/kernels/logs/stream/local/km-run") == "LogStream"
    assert call_of("/files/session/300001/upload/v1/x/SaveKernel") == "Download"
    assert call_of("/upload/abc") == "Upload"
    assert call_of("/local/health") == call_of("/local/stop") == ""


# What a session meets


def published(at, slug: str, *texts: str) -> str:
    with at.client(read_timeout_s=30) as client:
        for text in texts:
            file = at.root / "tree.txt"
            file.write_text(text)
            publish_dataset(client, owner="local", slug=slug, files=[file], notes=text)
    return f"local/{slug}"


def log_of(at, version: SessionRef) -> list[str]:
    with at.client() as client:
        return [line.text for line in client.outputs(version).log]


def run(at, source: str, **options) -> SessionRef:
    slug = at.name("met")
    with at.client(read_timeout_s=30) as client:
        version = client.start(SessionRequest("local", slug, source, **options)).version
        at.play()
        at.wait_for(client, version)
    return version


def test_a_session_can_find_the_version_before_of_its_input(at):
    source = published(at, at.name("tree"), "old one", "new version")
    assert log_of(at, run(at, LOOK + "print(seen())", inputs=(source,))) == ["['new version', 'new version']"]
    at.play({"kind": "stale_mount"})
    assert log_of(at, run(at, LOOK + "print(seen())", inputs=(source,))) == ["['old one', 'old one']"]


def test_a_session_can_find_empty_inputs_that_fill_later_or_never(at):
    source = published(at, at.name("tree"), "the tree")
    wait = "print(seen())\nwhile len(seen()) < 2:\n    time.sleep(0.02)\nprint(seen())"
    for filled_after_s in (0.5, 5.0, 50.0):  # until the kernel looks before that, however loaded the machine is
        at.play({"kind": "empty_mount", "filled_after_s": filled_after_s})
        seen = log_of(at, run(at, LOOK + wait, inputs=(source,)))
        if seen[0] == "[]":
            break
    assert seen == ["[]", "['the tree', 'the tree']"]
    at.play({"kind": "empty_mount"})
    folders = "print(seen(), sorted(path.name for path in inputs.iterdir()))"
    [line] = log_of(at, run(at, LOOK + folders, inputs=(source,)))
    assert line == f"[] {sorted(['datasets', source.partition('/')[2]])}"


def test_a_session_is_told_which_accelerator_it_found(at):
    tell = "import os\nprint(os.environ['KAGGLE_ACCELERATOR_FOUND'] or 'none')"
    assert log_of(at, run(at, tell)) == ["none"]
    assert log_of(at, run(at, tell, accelerator="NvidiaTeslaT4")) == ["T4"]
    at.play({"kind": "wrong_accelerator"})
    assert log_of(at, run(at, tell, accelerator="NvidiaTeslaT4")) == ["P100"]
    at.play({"kind": "wrong_accelerator", "found": ""})
    assert log_of(at, run(at, tell, accelerator="NvidiaTeslaT4")) == ["none"]


def test_a_session_killed_at_the_wall_can_leave_nothing(at):
    at.play({"kind": "killed_at_wall", "after_s": 0.5})
    write = "import time\nopen('kept.txt', 'w').write('x')\nprint('hello', flush=True)\ntime.sleep(60)"
    version = run(at, write)
    with at.client() as client:
        status, listing = client.status(version), client.outputs(version)
    assert (status.state, status.failure_message) == (SessionState.CANCELLED, TIMED_OUT)
    assert (listing.files, listing.log) == ((), ())
    at.play({"kind": "killed_at_wall", "after_s": 60})
    assert log_of(at, run(at, "print('ended before the wall')")) == ["ended before the wall"]


def test_a_status_is_told_late_only_where_it_is_another(at):
    at.play({"kind": "says_status", "says": "RUNNING", "instead_of": ["COMPLETE"], "times": 2})
    version = SessionRef("local", hostile_stage.SLUG, "1")
    failed = SessionRef("local", hostile_stage.SLUG, "2")
    with at.client() as client:
        asked = [failed, version, failed, version, version]
        told = [client.status(one).state.name for one in asked]
    assert told == ["ERROR", "RUNNING", "ERROR", "RUNNING", "COMPLETE"]


def test_the_week_can_shrink_for_pushes_too(at):
    limits = at.state.limits
    at.play({"kind": "quota_shrinks", "hours": 0, "on": ["GetAcceleratorQuotaStatistics"]})
    try:
        with at.client() as client:
            assert client.quota().total_s == 0
            with pytest.raises(Exception, match="Maximum weekly GPU quota"):
                client.start(SessionRequest("local", at.name("late"), "pass", accelerator="NvidiaTeslaT4"))
    finally:
        at.state.limits = limits


def test_the_newest_image_can_move_and_the_pinned_one_can_go(at):
    limits, name = at.state.limits, at.name("moved")

    def image_after(fault, **pin):
        at.play(fault)
        with at.client() as client:
            pushed = client.start(SessionRequest("local", name, "pass", **pin))
            return client.newest("local", name)[0] == pushed.version and client.image_of(pushed.version)

    try:
        first = image_after({"kind": "delay", "seconds": 0})
        assert image_after({"kind": "image_moves"}, image=first) == first
        assert image_after({"kind": "delay", "seconds": 0}) != first
        with pytest.raises(ConfigError, match="is not available"):
            image_after({"kind": "image_moves", "gone": True}, image=first)
    finally:
        at.state.limits = limits


# The example of the guide, as a user runs it


def test_the_plan_in_the_guide_plays_as_it_says(tmp_path):
    [example] = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), re.S)
    (tmp_path / "bad_day.toml").write_text(example)
    info = ensure_running(tmp_path / "kaggle", faults=tmp_path / "bad_day.toml", idle_exit_s=60)
    waits: list[float] = []
    try:
        token = Credentials("token", None, info.token, "a test")
        retry = RetryPolicy(sleep=waits.append)
        with KaggleClient(token, endpoint=info.url, retry=retry) as client:
            version = client.start(SessionRequest("local", "km-bad-day", "print('hello')")).version
            states = []
            while not states or states[-1] is not SessionState.COMPLETE:
                states.append(client.status(version).state)
            assert max(waits) >= 7, "the wait the plan asks for"
            assert SessionState.RUNNING in states
            with pytest.raises(RateLimited):
                KaggleClient(token, endpoint=info.url, retry=RetryPolicy(attempts=1)).quota()
        assert ensure_running(tmp_path / "kaggle").pid == info.pid, "found without naming its plan"
        (tmp_path / "other.json").write_text("{}")
        with pytest.raises(ConfigError, match="does not play"):
            ensure_running(tmp_path / "kaggle", faults=tmp_path / "other.json")
    finally:
        for session in (tmp_path / "kaggle/sessions").glob("*"):
            (session / "cancel").touch()
        stop(tmp_path / "kaggle")


def test_the_guide_names_every_fault():
    text = GUIDE.read_text()
    assert [kind for kind in KINDS if f"`{kind}`" not in text] == []


def test_a_malformed_plan_starts_no_server(tmp_path):
    (tmp_path / "plan.toml").write_text("fault = 3")
    with pytest.raises(ConfigError, match="fault"):
        ensure_running(tmp_path / "kaggle", faults=tmp_path / "plan.toml")
    assert not (tmp_path / "kaggle").exists()


# A request that makes no sense is the asker's mistake


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("kernels.KernelsApiService/CancelKernelSession", {"kernelSessionId": "many"}),
        ("kernels.KernelsApiService/CancelKernelSession", {"kernelSessionId": 10**30}),
        ("kernels.KernelsApiService/ListKernels", {"pageSize": "all"}),
        ("kernels.KernelsApiService/ListKernels", {"page": [1]}),
        ("kernels.KernelsApiService/SaveKernel", {"newTitle": "a kernel", "sessionTimeoutSeconds": "long"}),
        ("kernels.KernelsApiService/SaveKernel", {"id": "x"}),
        ("blobs.BlobApiService/StartBlobUpload", {"name": "a", "contentLength": "1e"}),
        ("datasets.DatasetApiService/CreateDatasetVersionById", {"id": [7]}),
    ],
)
def test_a_malformed_number_is_a_400_that_names_it(at, call, body):
    headers = {"Authorization": f"Bearer {at.state.account.token}"}
    answer = requests.post(f"{at.state.address}/v1/{call}", json=body, headers=headers, timeout=60)
    assert answer.status_code == 400
    assert list(body)[-1] in answer.json()["message"]
