"""A run in a real MLflow server: one run over all sessions, nothing sent twice, caught up after an outage."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import requests
from loopback_kaggle import until
from small_trees import SECTION
from tracked_world import RUN, begin, grow
from typer.testing import CliRunner

from kaggle_manager.cli.commands import app
from kaggle_manager.errors import Unavailable

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # those of MLflow's own code
    pytest.mark.skipif(os.name != "posix", reason="its server is ended by its process group"),
    pytest.mark.skipif(
        find_spec("mlflow") is None, reason="no mlflow: pip install -c constraints.txt -e '.[train,dev,mlflow]'"
    ),
]
TOKEN = "tk-93f1a7secret"
SENT_BY_SESSION = {1: 2 + 10 + 3, 2: 4 + 20 + 6, 3: 6 + 30 + 9}  # evaluations, episodes, sessions


class Server:
    """MLflow's own, on a database that outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        until(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "server.log").read_text()
        try:
            return requests.get(f"{self.url}/health", timeout=5).ok
        except requests.ConnectionError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "KM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url.replace("//", f"//user:{TOKEN}@"))
    return server


def track(folder: Path, project: str, code: int = 0) -> dict[str, Any]:
    line = ["track", SECTION, "--to", "mlflow", "--project", project, "--workdir", str(folder), "--json"]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == code, done.output
    assert TOKEN not in done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def runs_there(server: Server, project: str) -> list[Any]:
    import mlflow

    client = mlflow.MlflowClient(server.url)
    experiment = client.get_experiment_by_name(project)
    return list(client.search_runs([experiment.experiment_id]))


def points_there(server: Server, run_id: str) -> dict[str, list[tuple[int, float]]]:
    import mlflow

    client = mlflow.MlflowClient(server.url)
    names = client.get_run(run_id).data.metrics
    return {name: [(m.step, m.value) for m in client.get_metric_history(run_id, name)] for name in names}


def test_all_sessions_are_one_run_and_no_point_is_sent_twice(alone: Server, tmp_path: Path) -> None:
    config = begin(tmp_path)
    for session in (1, 2):
        grow(config, session)
        done = track(tmp_path, "one")
        assert (done["run_id"], done["up_to_date"]) == (RUN, False)
    assert done["points"] == SENT_BY_SESSION[2] - SENT_BY_SESSION[1]
    again = track(tmp_path, "one")
    assert (again["points"], again["up_to_date"], again["tracked_as"]) == (0, True, done["tracked_as"])
    (there,) = runs_there(alone, "one")
    assert there.info.run_id == done["tracked_as"]
    assert there.info.status == "RUNNING"
    points = points_there(alone, there.info.run_id)
    assert points["eval/mean_reward"] == [(step, step) for step in (50, 100, 150, 200)]
    assert sum(map(len, points.values())) == SENT_BY_SESSION[2]
    assert there.data.params["hyperparameters.learning_rate"] == "0.001"
    assert there.data.tags["exactness"] == "exact"
    grow(config, 3, is_last=True)
    track(tmp_path, "one")
    (there,) = runs_there(alone, "one")
    assert (there.info.run_id, there.info.status) == (done["tracked_as"], "FINISHED")
    assert sum(map(len, points_there(alone, there.info.run_id).values())) == SENT_BY_SESSION[3]
    assert list((alone.folder / "artifacts").glob(f"**/{there.info.run_id}/**/lineage.json"))
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in data for data in written)


def test_another_machine_and_another_tree_of_the_same_run_find_the_same_run_there(
    alone: Server, tmp_path: Path
) -> None:
    for folder in (tmp_path / "here", tmp_path / "elsewhere"):
        grow(begin(folder), 1)
    here = track(tmp_path / "here", "two")
    elsewhere = track(tmp_path / "elsewhere", "two")
    assert (elsewhere["tracked_as"], elsewhere["points"]) == (here["tracked_as"], 0)


def test_after_an_outage_the_next_call_sends_what_is_missing(alone: Server, tmp_path: Path) -> None:
    config = begin(tmp_path)
    grow(config, 1)
    first = track(tmp_path, "three")
    grow(config, 2)
    alone.stop()
    said = track(tmp_path, "three", code=Unavailable.exit_code)
    assert (said["error"], said["human_action_required"]) == ("Unavailable", False)
    grow(config, 3)
    alone.start()
    done = track(tmp_path, "three")
    assert done["tracked_as"] == first["tracked_as"]
    assert done["points"] == SENT_BY_SESSION[3] - SENT_BY_SESSION[1]
