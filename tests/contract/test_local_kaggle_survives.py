"""Servers, runners and starters are really killed: what was promised on disk is found again, or reported dead."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import loopback_kaggle
import pytest
import requests
from loopback_kaggle import Client, end_sessions, until, waiting_for

from kaggle_manager.errors import ConfigError, StorageError, Unavailable
from kaggle_manager.local_kaggle import disk, launcher
from kaggle_manager.local_kaggle.launcher import ServerInfo, ensure_running, find, stop
from kaggle_manager.local_kaggle.runner import TIMED_OUT
from kaggle_manager.local_kaggle.server import serve

pytestmark = pytest.mark.slow

posix_only = pytest.mark.skipif(os.name != "posix", reason="SIGKILL")


def counting(go_on: Path) -> str:
    """A kernel that counts to 20, and waits half way until a test makes `go_on`."""
    count = "for i in range({}, {}):\n    print(i, flush=True)\n"
    return count.format(0, 10) + waiting_for(go_on) + count.format(10, 20) + "open('done', 'w').close()\n"


def client_of(info: ServerInfo) -> Client:
    return Client(info.url, info.token)


@posix_only
def test_a_running_kernel_is_found_again_after_kill_9_of_the_server(local_kaggle: ServerInfo, tmp_path: Path) -> None:
    client, go_on = client_of(local_kaggle), tmp_path / "go_on"
    client.push(counting(go_on))
    client.running()
    os.kill(local_kaggle.pid, signal.SIGKILL)
    until(lambda: not disk.is_held(local_kaggle.root / "server.lock"))
    again = ensure_running(local_kaggle.root, idle_exit_s=120)
    assert (again.url, again.token) == (local_kaggle.url, local_kaggle.token)
    assert again.pid != local_kaggle.pid
    assert client.status()[0] == "RUNNING"
    go_on.touch()
    assert client.end() == ("COMPLETE", "")
    assert client.log() == "".join(f"{i}\n" for i in range(20))
    assert [file.file_name for file in client.output().files] == ["done"]


@posix_only
def test_a_kernel_that_ended_while_no_server_ran_has_its_true_verdict(local_kaggle: ServerInfo, tmp_path: Path) -> None:
    client, go_on = client_of(local_kaggle), tmp_path / "go_on"
    client.push(counting(go_on), slug="good-kernel")
    client.push(waiting_for(go_on) + "raise SystemExit(3)", slug="bad-kernel")
    client.push("import time\ntime.sleep(60)", slug="slow-kernel", session_timeout_seconds=1)
    os.kill(local_kaggle.pid, signal.SIGKILL)
    go_on.touch()
    until(lambda: len(list(local_kaggle.root.glob("sessions/*/verdict.json"))) == 3)
    ensure_running(local_kaggle.root, idle_exit_s=120)
    assert client.status("good-kernel") == ("COMPLETE", "")
    assert client.status("bad-kernel") == ("ERROR", "The kernel ended with exit code 3.")
    assert client.status("slow-kernel") == ("CANCEL_ACKNOWLEDGED", TIMED_OUT)


@posix_only
def test_a_session_whose_runner_was_killed_dies_with_it_and_is_reported_dead(
    local_kaggle: ServerInfo, tmp_path: Path
) -> None:
    client, beat = client_of(local_kaggle), tmp_path / "beat"
    client.push(f"import pathlib, time\nwhile True:\n    pathlib.Path({str(beat)!r}).touch()\n    time.sleep(0.05)")
    until(beat.exists)
    session = next((local_kaggle.root / "sessions").iterdir())
    os.kill(disk.read_json(session / "started.json")["pid"], signal.SIGKILL)
    assert client.end() == ("ERROR", "The process that ran this session is gone and left no verdict.")
    before = beat.stat().st_mtime_ns
    time.sleep(0.3)
    assert beat.stat().st_mtime_ns == before
    temporary = disk.read_json(session / "order.json")["environment"]["TMPDIR"]
    assert not os.path.lexists(temporary), "nothing of it stays in the machine's temporary folder"
    assert not (session / "scratch").exists()


def test_a_session_whose_runner_never_began_is_not_queued_for_ever(loopback: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("kaggle_manager.local_kaggle.launch.start", lambda session: None)
    local = loopback()
    local.client.push("")
    assert local.client.status()[0] == "QUEUED"
    local.clock.ahead_s += 61
    assert local.client.status()[0] == "ERROR"


def test_the_server_outlives_its_starter_and_ends_when_idle(tmp_path: Path) -> None:
    go_on, idle_s = tmp_path / "go_on", 2.0
    code = (
        "from pathlib import Path\nfrom loopback_kaggle import Client\n"
        "from kaggle_manager.local_kaggle.launcher import ensure_running\n"
        f"info = ensure_running(Path({str(tmp_path / 'kaggle')!r}), idle_exit_s={idle_s})\n"
        f"Client(info.url, info.token).push({waiting_for(go_on)!r})\nprint(info.pid)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(loopback_kaggle.__file__).parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    info = find(tmp_path / "kaggle")
    assert info is not None
    assert info.pid == int(done.stdout)
    time.sleep(idle_s + 1.5)  # more than it waits, and than the second between its looks
    assert disk.is_held(info.root / "server.lock"), "a session keeps it alive"
    go_on.touch()
    until(lambda: not disk.is_held(info.root / "server.lock"))
    assert find(info.root) is None


def test_two_starters_at_once_get_one_server(tmp_path: Path) -> None:
    found: list[ServerInfo] = []
    starters = [threading.Thread(target=lambda: found.append(ensure_running(tmp_path / "kaggle"))) for _ in range(4)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert [info.pid for info in found] == [found[0].pid] * 4
    log = (tmp_path / "kaggle" / "server.log").read_text()
    assert (log.count("Local Kaggle on"), log.count("already serves")) == (1, 0)
    assert stop(tmp_path / "kaggle")
    assert not stop(tmp_path / "kaggle")


def test_stopping_the_server_leaves_the_session_to_the_next_one(local_kaggle: ServerInfo, tmp_path: Path) -> None:
    client, go_on = client_of(local_kaggle), tmp_path / "go_on"
    client.push(counting(go_on))
    client.running()
    assert stop(local_kaggle.root)
    with pytest.raises(requests.ConnectionError):
        client.status()
    go_on.touch()
    ensure_running(local_kaggle.root, idle_exit_s=120)
    assert client.end()[0] == "COMPLETE"


@pytest.mark.parametrize("differs", [sys.prefix, sys.base_prefix, sys.version], ids=["place", "base", "version"])
def test_a_server_of_another_python_makes_way_for_one_of_this_and_its_session_goes_on(
    differs: str, local_kaggle: ServerInfo, tmp_path: Path
) -> None:
    client, go_on, told = client_of(local_kaggle), tmp_path / "go_on", local_kaggle.root / "server.json"
    client.push(counting(go_on))
    client.running()
    announced = json.loads(told.read_text())
    assert announced["python"] == ensure_running(local_kaggle.root).python
    told.write_text(json.dumps({**announced, "python": announced["python"].replace(differs, "another")}))
    again = ensure_running(local_kaggle.root, idle_exit_s=120)
    assert (again.pid != local_kaggle.pid, again.python) == (True, announced["python"])
    assert ensure_running(local_kaggle.root).pid == again.pid
    go_on.touch()
    assert client_of(again).end() == ("COMPLETE", "")


def test_secrets_are_for_their_owner_alone_and_are_not_shown(local_kaggle: ServerInfo) -> None:
    account = json.loads((local_kaggle.root / "account.json").read_text())
    if os.name == "posix":
        for name in ("account.json", "server.json"):
            assert (local_kaggle.root / name).stat().st_mode & 0o077 == 0
    client_of(local_kaggle).run("open('a', 'w').close()")
    requests.get(client_of(local_kaggle).output().files[0].url, timeout=60)
    log = (local_kaggle.root / "server.log").read_text()
    for secret in (account["token"], account["key"], account["signing_key"], "signature="):
        assert secret not in log
        assert secret not in repr(local_kaggle)


def test_a_second_server_on_the_same_folder_is_refused(local_kaggle: ServerInfo) -> None:
    with pytest.raises(ConfigError, match="already serves"):
        serve(0, local_kaggle.root)


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ConfigError, match="cannot be used"):
        serve(other.getsockname()[1], tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot use the folder"):
        ensure_running(tmp_path / "file" / "kaggle")


def test_a_server_that_does_not_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "limits.json").write_text('{"gpu_sesions": 2}')
    with pytest.raises(Unavailable, match=r"limits\.json cannot be used"):
        ensure_running(tmp_path)


def test_another_program_on_the_old_port_is_not_taken_for_the_server(tmp_path: Path) -> None:
    info = ensure_running(tmp_path / "kaggle", idle_exit_s=120)
    stop(info.root)
    port = int(info.url.rpartition(":")[2])
    with HTTPServer(("127.0.0.1", port), BaseHTTPRequestHandler) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        again = ensure_running(info.root, idle_exit_s=120)
        other.shutdown()
        thread.join()
    assert again.url != info.url
    end_sessions(again.root)
    assert stop(again.root)


def test_finding_a_server_does_not_cost_importing_one() -> None:
    code = f"import sys, {launcher.__name__}; print('uvicorn' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False False\n"
