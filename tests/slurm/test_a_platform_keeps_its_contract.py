"""What `platforms.platform.Platform` promises, asked of every platform that is here, in the same words."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import loopback_sshd
import pytest
from loopback_slurm import LoopbackSlurm

from kaggle_manager.errors import NotFound, OutputDamaged
from kaggle_manager.local_kaggle.launcher import ensure_running, stop
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.platform import (
    ExpectedFile,
    Platform,
    PublishedInputs,
    SessionRef,
    SessionRequest,
    SessionState,
    SessionStatus,
)
from kaggle_manager.platforms.slurm.client import SlurmPlatform

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).resolve().parents[2] / "docs/platforms/own_platform.py"
# The container's name is told as `trainer/entry.py` tells it: some platforms end a session by it.
PRELUDE = """
import os, sys, time, pathlib
out = pathlib.Path(os.environ["KM_WORKING_DIR"])
print(os.environ["KM_MACHINE_NAME"], flush=True)
"""


@pytest.fixture(scope="module")
def local_kaggle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KaggleClient]:
    root = tmp_path_factory.mktemp("kaggle")
    (root / "limits.json").write_text('{"ingestion_s": 0.0}')
    server = ensure_running(root, idle_exit_s=900)
    with KaggleClient(Credentials("token", None, server.token, "a test"), endpoint=server.url) as client:
        yield client
    stop(root)


@pytest.fixture
def own(tmp_path: Path) -> Platform:
    """The worked example of the documentation."""
    spec = importlib.util.spec_from_file_location("own_platform", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Platform = module.ThisMachine({}, tmp_path)
    return made


@pytest.fixture
def through_ssh(slurm: LoopbackSlurm, tmp_path: Path) -> Iterator[SlurmPlatform]:
    """The same Slurm as a cluster elsewhere: every command through ssh, every file with rsync."""
    if why := loopback_sshd.why_not():
        pytest.skip(why)
    (keys := tmp_path / "keys").mkdir()
    sshd = loopback_sshd.LoopbackSshd(keys)
    options = {"login": sshd.login, "ssh_options": sshd.options, "folder": str(tmp_path / "it's 100%j; $(odd) ünicode")}
    yield SlurmPlatform(options | {"python": sys.executable}, tmp_path)
    sshd.stop()


@pytest.fixture(
    params=["local_kaggle", "platform", "through_ssh", "own"],
    ids=["local Kaggle", "Slurm", "Slurm through ssh", "the worked example"],
)
def any_platform(request: pytest.FixtureRequest) -> Platform:
    found: Platform = request.getfixturevalue(request.param)
    assert isinstance(found, Platform)
    return found


@pytest.fixture
def start(any_platform: Platform) -> Iterator[Callable[..., SessionRef]]:
    """Starts a session; whatever still runs afterwards is deleted."""
    names: set[str] = set()

    def begin(slug: str, code: str, **options: Any) -> SessionRef:
        names.add(slug)
        return any_platform.start(SessionRequest(any_platform.whoami(), slug, PRELUDE + code, **options)).version

    yield begin
    for slug in names:
        any_platform.delete(any_platform.whoami(), slug)


def ended(platform: Platform, ref: SessionRef) -> SessionStatus:
    deadline = time.monotonic() + 60.0
    while not (status := platform.status(ref)).state.is_terminal:
        assert time.monotonic() < deadline, status
        time.sleep(0.1)
    return status


def published(platform: Platform, file: Path, slug: str) -> PublishedInputs:
    found = platform.publish_inputs(owner=platform.whoami(), slug=slug, files=[file], notes="a test")
    assert isinstance(found, PublishedInputs)
    return found


def test_a_session_reads_what_was_published_last_and_what_it_leaves_is_its_own(
    any_platform: Platform, start: Callable[..., SessionRef], tmp_path: Path
) -> None:
    me, file = any_platform.whoami(), tmp_path / "tree.pack"
    for content in (b"first", b"second"):
        file.write_bytes(content)
        published(any_platform, file, "km-read-tree")
    (tmp_path / "back").mkdir()
    any_platform.download_inputs(me, "km-read-tree", ["tree.pack"], tmp_path / "back")
    assert (tmp_path / "back/tree.pack").read_bytes() == b"second"
    newest, _ = any_platform.input_versions(me, "km-read-tree")
    assert newest == 2
    code = """
inputs = pathlib.Path(os.environ["KM_INPUT_DIR"])
found = [inputs / "km-read-tree", *inputs.glob("datasets/*/km-read-tree")]
content = next(folder for folder in found if folder.exists()).joinpath("tree.pack").read_bytes()
(out / "folder").mkdir()
(out / "folder/copy of it.bin").write_bytes(content)
print("read", len(content)); print("told", file=sys.stderr)
"""
    first = start("km-read", code, inputs=(f"{me}/km-read-tree",))
    second = start("km-read", "sys.exit(3)")
    assert ended(any_platform, first).state is SessionState.COMPLETE
    assert ended(any_platform, second).state is SessionState.ERROR
    assert any_platform.is_later(second.id, first.id)
    assert not any_platform.is_later(first.id, second.id)
    listing = any_platform.outputs(first)
    assert [each.name for each in listing.files] == ["folder/copy of it.bin"]
    assert {"read 6", "told"} <= {line.text for line in listing.log}
    assert [line.text for line in any_platform.follow_log(first, stop=lambda: False)] == [
        line.text for line in listing.log
    ]
    assert any_platform.outputs(second).files == ()


def test_what_is_downloaded_has_the_bytes_that_are_asked_for_or_is_not_there(
    any_platform: Platform, start: Callable[..., SessionRef], tmp_path: Path
) -> None:
    ref = start("km-bytes", "(out / 'model.bin').write_bytes(b'model')")
    ended(any_platform, ref)
    wrong = ExpectedFile("model.bin", 5, "0" * 64)
    with pytest.raises(OutputDamaged):
        any_platform.download(ref, [wrong], tmp_path / "here")
    assert not (tmp_path / "here/model.bin").exists()
    with pytest.raises(OutputDamaged):
        any_platform.download(ref, [ExpectedFile("not there", None, None)], tmp_path / "here")
    any_platform.download(ref, [ExpectedFile("model.bin", 5, None)], tmp_path / "here")
    assert (tmp_path / "here/model.bin").read_bytes() == b"model"
    (listed,) = any_platform.outputs(ref).files
    any_platform.download_file(listed, tmp_path / "alone.bin", size=5, sha256=None)
    assert (tmp_path / "alone.bin").read_bytes() == b"model"


def test_the_session_that_was_started_last_is_found_by_its_name_with_its_source(
    any_platform: Platform, start: Callable[..., SessionRef]
) -> None:
    me = any_platform.whoami()
    assert any_platform.newest(me, "km-never-started") is None
    with pytest.raises(NotFound):
        any_platform.status(SessionRef(me, "km-never-started", "1"))
    for number in (1, 2):
        ref = start("km-found", f"print('it is {number}')")
    found = any_platform.newest(me, "km-found")
    assert found is not None
    assert found[0] == ref
    assert "print('it is 2')" in found[1]
    ended(any_platform, ref)
    assert any_platform.newest(me, "km-found") == found, "and when it has ended"


def test_a_running_session_is_ended_when_asked_and_keeps_what_it_saved(
    any_platform: Platform, start: Callable[..., SessionRef]
) -> None:
    code = "(out / 'saved').write_text('x'); print('saved', flush=True); print('more', flush=True); time.sleep(300)"
    ref = start("km-ended", code)
    lines = any_platform.follow_log(ref, stop=lambda: False)
    container = next(lines).text
    assert next(lines).text == "saved", "a log comes while it is printed"
    assert any_platform.status(ref).state in (SessionState.QUEUED, SessionState.RUNNING)
    assert any_platform.cancel(ref, container)
    assert ended(any_platform, ref).state in (SessionState.CANCELLED, SessionState.ERROR)
    assert [file.name for file in any_platform.outputs(ref).files] == ["saved"]


def test_what_is_deleted_is_not_there(any_platform: Platform) -> None:
    me = any_platform.whoami()
    ref = any_platform.start(SessionRequest(me, "km-deleted", "pass")).version
    ended(any_platform, ref)
    any_platform.delete(me, "km-deleted")
    assert any_platform.newest(me, "km-deleted") is None
    with pytest.raises(NotFound):
        any_platform.status(ref)
    with pytest.raises(NotFound):
        any_platform.input_versions(me, "km-deleted-tree")


def test_its_limits_let_a_session_be(any_platform: Platform) -> None:
    limits = any_platform.limits()
    assert limits.longest_session_s >= 3600.0
    assert limits.source_bytes >= 500_000
    assert all(kind in ("CPU", "GPU", "TPU") and room > 0 for kind, room in limits.room.items())
    bounds = (limits.memory_bytes, limits.output_bytes, limits.output_files)
    assert all(bound is None or bound > 0 for bound in bounds)
