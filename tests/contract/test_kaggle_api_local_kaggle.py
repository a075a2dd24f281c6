"""The adapter and the local Kaggle, both real, over real HTTP: the whole circle of a session."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loopback_kaggle import until

from kaggle_manager.errors import AuthError, BundleTooLarge, CapacityReached, NotFound, PushMismatch
from kaggle_manager.local_kaggle.launcher import ServerInfo, ensure_running, stop
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.kaggle.datasets import publish_dataset
from kaggle_manager.platforms.kaggle.log_stream import follow_log
from kaggle_manager.platforms.kaggle.outputs import download_outputs
from kaggle_manager.platforms.platform import ExpectedFile, SessionRef, SessionRequest, SessionState

PRELUDE = """
import os, sys, time
from pathlib import Path
working = Path(os.environ.get("KAGGLE_WORKING_DIR", "/kaggle/working"))
inputs = Path(os.environ.get("KAGGLE_INPUT_DIR", "/kaggle/input"))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[ServerInfo]:
    root = tmp_path_factory.mktemp("local_kaggle")
    yield ensure_running(root, idle_exit_s=900)
    stop(root)


@pytest.fixture
def client(server) -> Iterator[KaggleClient]:
    credentials = Credentials("token", None, server.token, "the local Kaggle")
    with KaggleClient(credentials, endpoint=server.url) as client:
        yield client


@pytest.fixture
def push(client) -> Iterator[Callable[..., SessionRef]]:
    """Push a script; whatever still runs afterwards is deleted."""
    pushed: list[SessionRef] = []

    def start(slug: str, script: str, **options: Any) -> SessionRef:
        kernel = client.start(SessionRequest(client.whoami(), slug, PRELUDE + script, **options))
        pushed.append(kernel.version)
        return kernel.version

    yield start
    for owner, slug in {(version.owner, version.slug) for version in pushed}:
        client.delete(owner, slug)


def ended(client: KaggleClient, version: SessionRef) -> SessionState:
    until(lambda: client.status(version).state.is_terminal)
    return client.status(version).state


@pytest.mark.slow
def test_a_session_from_its_input_to_its_verified_outputs(client, push, tmp_path):
    pack = tmp_path / "training_tree.pack"
    go_on = tmp_path / "go_on"
    pack.write_bytes(random.Random(1).randbytes(3_000_000))
    owner = client.whoami()
    dataset = publish_dataset(client, owner=owner, slug="km-circle-tree", files=[pack], notes="generation 2")
    assert dataset.version == 1
    version = push(
        "km-circle",
        f"""
        data = next(inputs.rglob("training_tree.pack")).read_bytes()
        (working / "tree/deep").mkdir(parents=True)
        (working / "tree/deep/copy.bin").write_bytes(data)
        for n in range(230):
            (working / f"tree/{{n}}.txt").write_text(str(n))
        for step in range(3):
            print('KM_PROGRESS {{"step": %d}}' % step, "", flush=True)
            while not Path({str(go_on)!r}).exists():
                time.sleep(0.02)
        print("é", file=sys.stderr)
        """.replace("\n        ", "\n"),
        inputs=(f"{owner}/km-circle-tree",),
        accelerator="NvidiaTeslaT4",
        session_timeout_s=120,
    )
    lines, arrived = [], 0
    for line in follow_log(client, version, stop=lambda: False):
        lines.append(line.text)
        if line.text.startswith("KM_PROGRESS"):
            arrived += 1
            go_on.touch()  # lines arrive while the kernel runs: it waits for this
    assert arrived == 3
    assert ended(client, version) is SessionState.COMPLETE
    listing = client.outputs(version)
    assert len(listing.files) == 231
    assert sorted(line.text for line in listing.log) == sorted(lines)
    assert "é" in lines
    expected = [ExpectedFile("tree/deep/copy.bin", 3_000_000, hashlib.sha256(pack.read_bytes()).hexdigest())]
    download_outputs(client, version, expected, tmp_path / "out")
    assert (tmp_path / "out/tree/deep/copy.bin").read_bytes() == pack.read_bytes()
    assert [line.text for line in follow_log(client, version, stop=lambda: False)] == lines
    assert client.quota().used_s > 0


def test_each_version_keeps_its_own_status_log_and_outputs(client, push):
    first = push("km-versions", "(working / 'one.txt').write_text('1'); print('one')")
    assert ended(client, first) is SessionState.COMPLETE
    second = push("km-versions", "print('two'); sys.exit(1)")
    assert (first.id, second.id) == ("1", "2")
    assert ended(client, second) is SessionState.ERROR
    assert client.status(first).state is SessionState.COMPLETE
    assert [file.name for file in client.outputs(first).files] == ["one.txt"]
    assert [line.text for line in follow_log(client, first, stop=lambda: False)] == ["one"]
    newest = client.newest(second.owner, second.slug)
    assert newest is not None
    assert newest[0] == second
    assert newest[1].endswith("print('two'); sys.exit(1)")


def test_the_accounts_own_kernels_are_listed_the_one_run_last_first(client, push):
    for slug in ("listed-first", "listed-second", "listed-first"):
        push(slug, "print('seen')")
    assert client.mine(client.whoami())[:2] == ["listed-first", "listed-second"]
    assert client.mine("somebody-else") == []


def test_a_running_session_is_cancelled_by_the_number_it_tells(client, push):
    version = push("km-cancel", "print(os.environ['KAGGLE_CONTAINER_NAME'], flush=True); time.sleep(60)")
    name = next(follow_log(client, version, stop=lambda: False)).text
    assert client.cancel(version, name)
    assert ended(client, version) is SessionState.CANCELLED


def test_the_third_gpu_session_has_to_wait(client, push):
    for n in range(2):
        push(f"km-capacity-{n}", "time.sleep(60)", accelerator="NvidiaTeslaT4")
    with pytest.raises(CapacityReached):
        push("km-capacity-2", "pass", accelerator="NvidiaTeslaT4")


def test_a_missing_input_is_noticed_at_the_push(client, push):
    with pytest.raises(PushMismatch) as caught:
        push("km-no-input", "pass", inputs=("local/km-nowhere",))
    assert caught.value.started == f"{client.whoami()}/km-no-input/1"
    client.delete(client.whoami(), "km-no-input")


def test_a_source_over_the_limit_is_refused(push):
    with pytest.raises(BundleTooLarge):
        push("km-too-large", f"'{'x' * 1_100_000}'")


def test_a_wrong_token_is_told_apart_from_a_wrong_name(client, server):
    nowhere = SessionRef(client.whoami(), "km-nowhere", 1)
    with pytest.raises(NotFound):
        client.status(nowhere)
    wrong = replace(client.credentials, secret="KGAT_wrong")
    with KaggleClient(wrong, endpoint=server.url) as stranger:
        with pytest.raises(AuthError):
            stranger.status(nowhere)
        with pytest.raises(AuthError):
            stranger.whoami()


@pytest.mark.slow
def test_a_new_version_of_a_dataset_is_current_when_it_is_returned(client, tmp_path: Path):
    for number in (1, 2, 3):
        (tmp_path / "training_tree.pack").write_bytes(bytes([number]) * (1000 * number))
        (tmp_path / "training_tree.json").write_text(str(number))
        published = publish_dataset(
            client,
            owner=client.whoami(),
            slug="km-versions-tree",
            files=[tmp_path / "training_tree.pack", tmp_path / "training_tree.json"],
            notes=f"generation {number}",
        )
        assert published.version == number
