"""The export against an S3 of another make, in a process of its own: cut, damaged, refused, gone on with."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from small_trees import SCENARIO, config_in, content, plant

from kaggle_manager.config import RunConfig
from kaggle_manager.errors import AuthError, ConfigError, NotFound, OutputDamaged, Unavailable
from kaggle_manager.trees.export import bring_back, export_run

pytestmark = pytest.mark.slow

URL = "s3://bucket/runs/traffic"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A moto server, in a process of its own, on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"
    server = subprocess.Popen(
        [sys.executable, "-c", program, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=60).close()
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield url
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty bucket, and the credentials where the tools of S3 look for them."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "an-id",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST"), timeout=60).close()
    files = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    files.mkdir("bucket")
    return files


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    config = config_in(tmp_path / "work")
    plant(config.tree)
    return config


def bring(folder: Path) -> dict[str, bytes]:
    """What comes back on a machine that has nothing yet."""
    return content(bring_back(config_in(folder), URL, lambda _: None))


KILLED = """
import os, signal, sys
from pathlib import Path
from small_trees import config_in
from kaggle_manager.trees.export import export_run
from kaggle_manager.trees.export.store import CloudStore

real, left = CloudStore.write, [3]

def write(store, name, data):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(store, name, data)

CloudStore.write = write
export_run(config_in(Path(sys.argv[1])), sys.argv[2])
"""


def test_a_kill_in_the_middle_leaves_the_earlier_export_and_the_same_command_goes_on(
    config: RunConfig, s3: Any, tmp_path: Path
) -> None:
    first = export_run(config, URL)
    assert (first.step, first.skipped_bytes) == (2, 0)
    assert export_run(config, URL).sent_bytes == 0
    listing, earlier = s3.cat(f"{URL}/export.json"), bring(tmp_path / "one")
    shutil.rmtree(config.tree)
    plant(config.tree, (2, 3), generation=2)
    planned = export_run(config, URL, dry_run=True)
    assert 0 < planned.sent_bytes < first.sent_bytes

    command = [sys.executable, "-c", KILLED, str(config.state), URL]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, timeout=500, check=False)
    assert done.returncode == -signal.SIGKILL
    assert s3.cat(f"{URL}/export.json") == listing
    assert bring(tmp_path / "two") == earlier, "what was there before is whole"

    went_on = export_run(config, URL)
    assert went_on.sent_files == planned.sent_files - 3, "three files had arrived and are not sent again"
    assert f"checkpoints/{SCENARIO}_checkpoint_3_steps.zip" in bring(tmp_path / "three")
    names = {name.rpartition("/")[2] for name in s3.find(f"{URL}/blobs")}
    assert len(names) == went_on.files, "what no listing names is gone"


def test_a_byte_flipped_there_brings_nothing_back(config: RunConfig, s3: Any, tmp_path: Path) -> None:
    export_run(config, URL)
    name = next(name for name in s3.find(f"{URL}/blobs") if s3.cat(name) == b"state 2")
    s3.pipe_file(name, b"state 3")
    with pytest.raises(OutputDamaged, match=f"{SCENARIO}_checkpoint_2_steps.state at {URL}"):
        bring(tmp_path / "other")
    assert export_run(config, URL, recheck=True).sent_files == 1
    assert bring(tmp_path / "other")


def test_no_credential_is_written_anywhere(config: RunConfig, s3: Any) -> None:
    done = export_run(config, URL)
    written = b"".join(s3.cat(name) for name in s3.find("bucket")) + repr(done).encode()
    assert b"a-secret" not in written
    assert b"an-id" not in written


@pytest.mark.parametrize(
    "setting",
    [
        {"AWS_ENDPOINT_URL": "htp://x"},
        {"AWS_ENDPOINT_URL": "nope"},
        {"AWS_ENDPOINT_URL": "https://127.0.0.1:9", "AWS_CA_BUNDLE": "/nope.pem"},
        {"AWS_PROFILE": "nope"},
        {"AWS_DEFAULT_REGION": "bad region"},
        {"AWS_ENDPOINT_URL": "https://s3.invalid", "HTTPS_PROXY": "http://user:pa#ss@127.0.0.1:1"},
    ],
)
def test_a_store_that_is_set_up_wrongly_is_not_one_that_is_down(
    config: RunConfig, s3: Any, setting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"AWS_MAX_ATTEMPTS": "1", **setting}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        export_run(config, URL)
    assert "pa#ss" not in str(caught.value)


def test_what_a_store_refuses_is_said_in_this_projects_words(
    config: RunConfig, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound, match="no export"):
        bring_back(config, URL, lambda _: None)
    with pytest.raises(NotFound, match="bucket"):
        export_run(config, "s3://nobody/x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with monkeypatch.context() as away:
        away.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(Unavailable):
            export_run(config, URL)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", os.devnull)
    with pytest.raises(AuthError):
        export_run(config, URL)
