"""Loopback Kaggles for contract tests: a real server process, and one in this process whose clock tests can turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from loopback_kaggle import Client, Clock, Loopback, end_sessions

from kaggle_manager.local_kaggle.app import create_app
from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.local_kaggle.launcher import ServerInfo, ensure_running, stop
from kaggle_manager.local_kaggle.server import bound


@pytest.fixture
def local_kaggle(tmp_path: Path) -> Iterator[ServerInfo]:
    """A real server process on a fresh root; datasets become ready within 0.2 seconds."""
    root = tmp_path / "kaggle"
    root.mkdir()
    (root / "limits.json").write_text('{"ingestion_s": 0.2}')
    yield ensure_running(root, idle_exit_s=120)
    end_sessions(root)
    stop(root)


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[Callable[..., Loopback]]:
    """Serve a local Kaggle from this process, with other limits than Kaggle's and a clock tests can turn."""
    opened: list[tuple[Loopback, uvicorn.Server, threading.Thread]] = []

    def serve(**limits: float) -> Loopback:
        root = tmp_path / f"loopback{len(opened)}"
        root.mkdir()
        (root / "limits.json").write_text(json.dumps({"ingestion_s": 0.0} | limits))
        listening = bound(0)
        clock, url = Clock(), f"http://127.0.0.1:{listening.getsockname()[1]}"
        state = ServerState(root, address=url, clock=clock)
        server = uvicorn.Server(
            uvicorn.Config(create_app(state), http="h11", ws="none", lifespan="off", log_level="error")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        opened.append((Loopback(root, url, state, clock), server, thread))
        return opened[-1][0]

    yield serve
    for local, server, thread in opened:
        end_sessions(local.root)
        server.should_exit = True
        thread.join(timeout=10)
        local.state.close()


@pytest.fixture
def client(loopback: Callable[..., Loopback]) -> Client:
    """The SDK on a fresh local Kaggle with Kaggle's own limits."""
    return loopback().client


@pytest.fixture
def kaggle_command(local_kaggle: ServerInfo, tmp_path: Path) -> Callable[..., str]:
    """The unmodified official command, led to the server as to a proxy; returns what it printed."""
    home = tmp_path / "home"
    home.mkdir()
    key = json.loads((local_kaggle.root / "account.json").read_text())["key"]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(tmp_path),
        "KAGGLE_CONFIG_DIR": str(home / ".kaggle"),
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "http_proxy": local_kaggle.url,
        "KAGGLE_USERNAME": "local",
        "KAGGLE_KEY": key,
    }

    def run(
        *arguments: str,
        code: int = 0,
        meanwhile: Callable[[subprocess.Popen[str]], None] | None = None,
        **variables: str,
    ) -> str:
        command = [str(Path(sys.executable).with_name("kaggle")), *arguments]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=environment | variables, stdout=pipe, stderr=pipe, text=True) as process:
            if meanwhile is not None:
                meanwhile(process)
            printed = "".join(process.communicate(timeout=120))
        assert process.returncode == code, f"{arguments}: {process.returncode}\n{printed}"
        return printed

    return run
