"""The unmodified official `kaggle` command works on the local Kaggle: it is led there as to a proxy."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback_kaggle import Client, until, waiting_for

from kaggle_manager.local_kaggle.launcher import ServerInfo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="other systems do not send localhost through a proxy"),
]
Command = Callable[..., str]


def kernel_folder(folder: Path, source: str, **metadata: object) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "script.py").write_text(source)
    described = {
        "id": "local/my-kernel",
        "title": "My Kernel",
        "code_file": "script.py",
        "language": "python",
        "kernel_type": "script",
        "enable_internet": False,
        **metadata,
    }
    (folder / "kernel-metadata.json").write_text(json.dumps(described))
    return str(folder)


def test_a_kernel_from_push_to_delete(kaggle_command: Command, local_kaggle: ServerInfo, tmp_path: Path) -> None:
    go_on = tmp_path / "go_on"
    source = f"print('line', 0, flush=True)\n{waiting_for(go_on)}for i in range(1, 4):\n    print('line', i)\n"
    source += "for i in range(23):\n    open(f'{i:02}.txt', 'w').write(str(i))\n"
    folder = kernel_folder(tmp_path / "kernel", source, dataset_sources=["local/no-such-data"])
    pushed = kaggle_command("kernels", "push", "-p", folder, "-t", "100", "--accelerator", "NvidiaTeslaT4")
    assert "Kernel version 1 successfully pushed" in pushed
    assert "not valid dataset sources" in pushed
    assert re.search("QUEUED|RUNNING", kaggle_command("kernels", "status", "local/my-kernel"))

    def first_line_arrives(following: subprocess.Popen[str]) -> None:
        assert following.stdout is not None
        assert following.stdout.readline() == "line 0\n"
        go_on.touch()

    logs = ("kernels", "logs", "-f", "local/my-kernel")
    followed = kaggle_command(*logs, meanwhile=first_line_arrives, PYTHONUNBUFFERED="1")
    assert followed.splitlines() == [f"line {i}" for i in range(1, 4)]
    client = Client(local_kaggle.url, local_kaggle.token)
    assert client.end("my-kernel")[0] == "COMPLETE"
    assert "COMPLETE" in kaggle_command("kernels", "status", "local/my-kernel")
    assert '"data": "line 3\\n"' in kaggle_command("kernels", "logs", "local/my-kernel")
    kaggle_command("kernels", "output", "local/my-kernel", "-p", str(tmp_path / "output"))
    assert len(list((tmp_path / "output").glob("*.txt"))) == 23
    assert (tmp_path / "output" / "22.txt").read_text() == "22"
    assert json.loads((tmp_path / "output" / "my-kernel.log").read_text())[0]["data"] == "line 0\n"
    assert "00.txt" in kaggle_command("kernels", "files", "local/my-kernel")
    assert "local/my-kernel" in kaggle_command("kernels", "list", "-m")
    kaggle_command("kernels", "pull", "-m", "-p", str(tmp_path / "pulled"), "local/my-kernel")
    assert (tmp_path / "pulled" / "my-kernel.py").read_text() == source
    assert json.loads((tmp_path / "pulled" / "kernel-metadata.json").read_text())["machine_shape"] == "NvidiaTeslaT4"
    assert re.search(r"GPU +0\.0\dh +(29\.9\d|30\.00)h +30\.00h", kaggle_command("quota"))
    assert "deleted successfully" in kaggle_command("kernels", "delete", "-y", "local/my-kernel")
    assert "denied" in kaggle_command("kernels", "status", "local/my-kernel", code=1)


def test_a_notebook_and_an_access_token(kaggle_command: Command, local_kaggle: ServerInfo, tmp_path: Path) -> None:
    cell = {"cell_type": "code", "source": ["print('from', \n", "      'a notebook')"], "metadata": {}, "outputs": []}
    folder = tmp_path / "kernel"
    kernel_folder(folder, "", code_file="book.ipynb", kernel_type="notebook")
    (folder / "book.ipynb").write_text(
        json.dumps({"cells": [cell], "nbformat": 4, "nbformat_minor": 5, "metadata": {}})
    )
    kaggle_command("kernels", "push", "-p", str(folder), KAGGLE_API_TOKEN=local_kaggle.token, KAGGLE_KEY="not used")
    client = Client(local_kaggle.url, local_kaggle.token)
    assert client.end("my-kernel")[0] == "COMPLETE"
    assert client.log("my-kernel") == "from a notebook\n"


def test_a_push_without_room_prints_kaggles_words(
    kaggle_command: Command, local_kaggle: ServerInfo, tmp_path: Path
) -> None:
    client = Client(local_kaggle.url, local_kaggle.token)
    for number in range(2):
        client.push("import time\ntime.sleep(60)", slug=f"kernel-{number}", machine_shape="NvidiaTeslaT4")
    folder = kernel_folder(tmp_path / "kernel", "", enable_gpu=True)
    printed = kaggle_command("kernels", "push", "-p", folder)
    assert "Kernel push error: Maximum batch GPU session count of 2 reached." in printed


def test_a_dataset_from_create_to_delete(kaggle_command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    metadata = {"id": "local/my-little-data", "title": "My Little Data", "licenses": [{"name": "CC0-1.0"}]}
    (folder / "dataset-metadata.json").write_text(json.dumps(metadata))
    (folder / "a.txt").write_text("one")
    (folder / "empty.txt").touch()
    (folder / "skipped").mkdir()
    (folder / "skipped" / "x.txt").write_text("x")
    assert "is being created" in kaggle_command("datasets", "create", "-p", str(folder))
    until(lambda: kaggle_command("datasets", "status", "local/my-little-data") == "ready")
    assert "already in use" in kaggle_command("datasets", "create", "-p", str(folder))
    (folder / "a.txt").write_text("second")
    kaggle_command("datasets", "version", "-p", str(folder), "-m", "second", "-r", "zip")
    current = '"current_version_number": 2'
    until(lambda: current in kaggle_command("datasets", "status", "--format", "json", "local/my-little-data"))
    files = kaggle_command("datasets", "files", "local/my-little-data")
    assert "a.txt" in files
    assert "skipped/x.txt" in files
    kaggle_command("datasets", "download", "-p", str(tmp_path / "all"), "--unzip", "local/my-little-data")
    assert (tmp_path / "all" / "a.txt").read_text() == "second"
    assert (tmp_path / "all" / "skipped" / "x.txt").read_text() == "x"
    kaggle_command("datasets", "download", "-p", str(tmp_path / "one"), "-f", "a.txt", "local/my-little-data/1")
    assert (tmp_path / "one" / "a.txt").read_text() == "one"
    kaggle_command("datasets", "metadata", "-p", str(tmp_path / "one"), "local/my-little-data")
    kaggle_command("datasets", "delete", "-y", "local/my-little-data")
    assert "denied" in kaggle_command("datasets", "status", "local/my-little-data", code=1)


def test_an_upload_whose_command_was_killed_goes_on_at_the_next_one(
    kaggle_command: Command, local_kaggle: ServerInfo, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    metadata = {"id": "local/my-large-data", "title": "My Large Data", "licenses": [{"name": "CC0-1.0"}]}
    (folder / "dataset-metadata.json").write_text(json.dumps(metadata))
    content = bytes(range(256)) * 4096 * 100
    (folder / "large.bin").write_bytes(content)
    blobs = local_kaggle.root / "blobs"
    command = ("datasets", "create", "-p", str(folder))

    def kill(process: subprocess.Popen[str]) -> None:
        until(lambda: any(blob.stat().st_size for blob in blobs.iterdir()))
        process.kill()

    kaggle_command(*command, code=-signal.SIGKILL, meanwhile=kill)
    assert 0 < next(blobs.iterdir()).stat().st_size < len(content)
    assert "Will resume upload at" in kaggle_command(*command)
    until(lambda: kaggle_command("datasets", "status", "local/my-large-data") == "ready")
    client = Client(local_kaggle.url, local_kaggle.token)
    assert client.dataset_file("large.bin", slug="my-large-data") == content


def test_wrong_credentials_are_refused(kaggle_command: Command) -> None:
    printed = kaggle_command("quota", code=1, KAGGLE_KEY="wrong")
    assert "Authentication required" in printed
