"""What a session sees and what it may not do: its folders, its network, its time, its size, its secrets."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from loopback_kaggle import until, waiting_for

from kaggle_manager.local_kaggle import sandbox
from kaggle_manager.local_kaggle.runner import TIMED_OUT

needs_namespaces = pytest.mark.skipif(
    not sandbox.isolation(), reason="this machine does not allow namespaces, so nothing can be mounted or cut off"
)


@pytest.fixture(params=["namespaces", "plain"])
def either_stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test in namespaces (where the machine allows them) and without."""
    if request.param == "plain":
        monkeypatch.setattr(sandbox, "isolation", lambda: ())
    elif not sandbox.isolation():
        pytest.skip("this machine does not allow namespaces")
    return str(request.param)


SEES_INPUTS = """
import os
root = os.environ.get("KAGGLE_INPUT_DIR", "/kaggle/input")
for name in ("little-data", "datasets/local/little-data"):
    print(open(f"{root}/{name}/a.txt").read())
for name in ("first-kernel", "notebooks/local/first-kernel"):
    print(open(f"{root}/{name}/out.txt").read())
print(sorted(os.listdir(root)))
"""


def test_datasets_and_kernel_outputs_are_found_in_both_layouts(client: Any, either_stage: str) -> None:
    client.ready_dataset({"a.txt": b"data"})
    client.run("open('out.txt', 'w').write('output')", slug="first-kernel")
    log = client.run(
        SEES_INPUTS,
        slug="second-kernel",
        dataset_data_sources=["local/little-data"],
        kernel_data_sources=["local/first-kernel"],
    )
    assert "data\ndata\noutput\noutput\n['datasets', 'first-kernel', 'little-data', 'notebooks']\n" in log


def test_a_session_writes_where_it_runs_and_is_told_the_truth(client: Any, either_stage: str) -> None:
    log = client.run(
        "import os\nprint(os.getcwd() == os.environ.get('KAGGLE_WORKING_DIR', '/kaggle/working'))\n"
        "print(os.environ['KAGGLE_KERNEL_RUN_TYPE'], os.environ['KAGGLE_ACCELERATOR_EMULATED'])\n"
        "open(os.path.expanduser('~/scratch'), 'w').close()\n",
        machine_shape="NvidiaTeslaT4",
    )
    assert log.endswith("True\nBatch 1\n")
    assert client.output().files == []


TALKS = """
import os, stat, tempfile
from multiprocessing.connection import Listener
with Listener(family="AF_UNIX") as listener:
    print(len(listener.address) - len(tempfile.gettempdir()) < 50, os.environ["TMPDIR"] == tempfile.gettempdir())
print(oct(stat.S_IMODE(os.stat(os.environ["TMPDIR"]).st_mode)))
open(os.path.join(os.environ["TMPDIR"], "left"), "w").close()
with open("place", "w") as place:
    place.write(os.environ["TMPDIR"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes talk through pipes there")
def test_processes_of_a_session_can_talk_however_deep_its_project_lies(
    client: Any, tmp_path: Path, either_stage: str
) -> None:
    assert len(str(tmp_path)) > 60, "no socket could be made in this folder's own scratch"
    assert client.run(TALKS).endswith("True True\n0o700\n")
    place = Path(next(tmp_path.glob("*/sessions/*/working/place")).read_text())
    assert not os.path.lexists(place), "nothing of it stays in the machine's temporary folder"
    assert not list(tmp_path.glob("*/sessions/*/scratch"))


@needs_namespaces
def test_inputs_and_source_are_read_only(client: Any) -> None:
    client.ready_dataset({"a.txt": b"data"})
    log = client.run(
        "places = ('input/new', 'input/little-data/new', 'input/datasets/local/little-data/a.txt', 'src/script.py')\n"
        "for name in places:\n"
        "    try:\n        open('/kaggle/' + name, 'w')\n"
        "    except OSError as error:\n        print(name, error.strerror)\n",
        dataset_data_sources=["local/little-data"],
    )
    assert log.count("Read-only file system\n") == 4


NETWORK = """
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname(), timeout=5)
print("loopback of its own")
try:
    socket.create_connection(("127.0.0.1", {port}), timeout=5)
    print("outside reached")
except OSError as error:
    print("outside:", error.strerror)
"""


@needs_namespaces
def test_without_internet_there_is_no_network_but_its_own_loopback(client: Any) -> None:
    port = client.url.rpartition(":")[2]
    assert client.run(NETWORK.format(port=port)) == "loopback of its own\noutside: Connection refused\n"
    assert "outside reached" in client.run(NETWORK.format(port=port), enable_internet=True)


def test_where_nothing_can_be_isolated_the_log_says_so(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "isolation", lambda: ())
    assert "does not allow namespaces" in client.run("")


def test_no_variable_of_the_server_reaches_a_kernel_unless_it_is_harmless(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "do-not-tell")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    log = client.run("import os\nprint(dict(os.environ))\nprint(open('/proc/self/environ').read())")
    assert "'OMP_NUM_THREADS': '1'" in log
    assert "do-not-tell" not in log
    assert "SECRET" not in log


FAMILY = """
import subprocess, sys, time
grandchild = "import time, pathlib; [(pathlib.Path({beat!r}).touch(), time.sleep(0.05)) for _ in range(2000)]"
child = "import subprocess, sys, time; run = [sys.executable, '-c', " + repr(grandchild) + "]; "
child += "subprocess.Popen(run, start_new_session=True); time.sleep(99)"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
print("started", flush=True)
"""


def family(beat: Path) -> str:
    """A kernel whose grandchild, in a session of its own, touches `beat` as long as it lives."""
    return FAMILY.replace("{beat!r}", repr(str(beat)))


def is_beating(beat: Path) -> bool:
    before = beat.stat().st_mtime_ns
    time.sleep(0.3)
    return beat.stat().st_mtime_ns != before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="orphans are found through process groups and /proc")
def test_the_time_limit_ends_the_whole_family_and_the_status_is_that_of_a_cancelled_one(
    client: Any, tmp_path: Path, either_stage: str
) -> None:
    beat = tmp_path / "beat"
    source = f"open('partial.txt', 'w').close()\n{family(beat)}time.sleep(999)"
    for limit_s in (2, 10, 50):  # until the family lives before its time is over, however loaded the machine is
        client.push(source, session_timeout_seconds=limit_s)
        assert client.end() == ("CANCEL_ACKNOWLEDGED", TIMED_OUT)
        if beat.exists():
            break
    assert not is_beating(beat)
    assert "started\n" in client.log()
    assert [file.file_name for file in client.output().files] == ["partial.txt"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="orphans are found through process groups and /proc")
def test_nothing_a_kernel_started_outlives_it(client: Any, tmp_path: Path, either_stage: str) -> None:
    beat = tmp_path / "beat"
    client.run(family(beat) + waiting_for(beat))
    assert not is_beating(beat)


def test_a_kernel_killed_by_a_signal_is_an_error(client: Any) -> None:
    client.push("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert client.end()[0] == "ERROR"


@pytest.mark.slow
def test_an_output_over_the_limit_ends_in_an_error(loopback: Any) -> None:
    client = loopback(output_bytes=1000).client
    client.push("open('big', 'wb').write(b'0' * 2000)")
    assert client.end() == ("ERROR", "The output is larger than 1000 bytes.")
    client.push("import time\nopen('big', 'wb').write(b'0' * 2000)\ntime.sleep(60)")
    assert client.end() == ("ERROR", "The output is larger than 1000 bytes.")


def test_text_that_is_not_utf8_or_has_no_end_of_line_stays_in_the_log(client: Any) -> None:
    log = client.run(
        "import os\nos.write(1, b'\\xff bad\\n')\nos.write(1, 'é'.encode()[:1])\nos.write(1, 'é'.encode()[1:])\n"
        "os.write(1, b'x' * 200_000)"
    )
    assert log == "\ufffd bad\né" + "x" * 200_000


@pytest.mark.skipif(os.name != "posix", reason="isolation is tried on Linux")
def test_deleting_a_kernel_kills_it_and_frees_its_place(loopback: Any, tmp_path: Path) -> None:
    local = loopback(cpu_sessions=1)
    beat = tmp_path / "beat"
    local.client.push(f"{family(beat)}time.sleep(999)")
    until(beat.exists)
    assert local.client.push("", slug="other-kernel").error == "Maximum batch CPU session count of 1 reached."
    local.client.delete()
    assert local.client.push("", slug="third-kernel").version_number == 1
    local.client.end("third-kernel")
    assert not is_beating(beat)
    local.state.tidy()
    assert len(list((local.root / "sessions").iterdir())) == 1
