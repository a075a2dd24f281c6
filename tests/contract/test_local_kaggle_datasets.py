"""Datasets: versions that become current only when ready, uploads that survive a cut, links that expire."""

from __future__ import annotations

import io
import socket
import tarfile
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from kagglesdk.datasets.types import dataset_api_service as dataset_types
from loopback_kaggle import waiting_for


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_a_version_is_current_only_when_its_ingestion_is_over(loopback: Any) -> None:
    local = loopback(ingestion_s=100.0)
    client = local.client
    client.create_dataset({"a.txt": b"one"})
    assert client.dataset_status() == "BLOBS_RECEIVED"
    assert client.dataset().current_version_number == 0
    assert client.push("", dataset_data_sources=["local/little-data"]).invalid_dataset_sources == ["local/little-data"]
    local.clock.ahead_s += 101
    assert client.dataset_status() == "READY"
    client.create_dataset_version({"a.txt": b"two", "b.txt": b"new"})
    assert client.dataset_status() == "BLOBS_RECEIVED"
    assert client.dataset().current_version_number == 1
    assert client.dataset_files() == ["a.txt"]
    assert client.run(READ_A, dataset_data_sources=["local/little-data"]) == "one\n"
    local.clock.ahead_s += 101
    assert client.dataset().current_version_number == 2
    assert client.dataset_files() == ["a.txt", "b.txt"]
    assert client.run(READ_A, dataset_data_sources=["local/little-data"]) == "two\n"
    assert client.dataset_file("a.txt", version=1) == b"one"


READ_A = (
    "import os\nroot = os.environ.get('KAGGLE_INPUT_DIR', '/kaggle/input')\n"
    "print(open(root + '/datasets/local/little-data/a.txt').read())"
)


def test_a_running_session_keeps_the_version_it_started_with(loopback: Any, tmp_path: Path) -> None:
    local, go_on = loopback(), tmp_path / "go_on"
    client = local.client
    client.ready_dataset({"a.txt": b"one"})
    client.push(waiting_for(go_on) + READ_A, dataset_data_sources=["local/little-data"])
    client.create_dataset_version({"a.txt": b"two"}, delete_old_versions=True)
    local.state.tidy()
    go_on.touch()
    assert client.end()[0] == "COMPLETE"
    assert client.log() == "one\n"
    assert len(list(local.root.glob("datasets/*/*"))) == 2
    local.state.tidy()
    assert len(list(local.root.glob("datasets/*/*"))) == 1
    assert client.dataset_file("a.txt") == b"two"


def test_archives_are_unpacked_and_other_names_left_alone(client: Any) -> None:
    files = {
        "tree.zip": zipped({"x/y.txt": b"y"}),
        "more.tar.gz": tarred("z.txt", b"z"),
        "tree.pack": zipped({"p": b""}),
    }
    client.ready_dataset(files)
    assert client.dataset_files() == ["more/z.txt", "tree.pack", "tree/x/y.txt"]
    assert client.dataset_file("tree.pack") == files["tree.pack"]


@pytest.mark.parametrize(
    "files",
    [
        {"broken.zip": b"PK not really"},
        {"escape.tar.gz": tarred("../outside.txt", b"!")},
        {"a.zip": zipped({"0": b"0" * 2000})},
    ],
    ids=["damaged", "climbing out", "too large"],
)
def test_an_archive_that_cannot_be_unpacked_fails_the_version_and_the_old_one_stays(
    loopback: Any, files: dict[str, bytes]
) -> None:
    local = loopback(dataset_bytes=1000)
    local.client.ready_dataset({"a.txt": b"one"})
    assert local.client.create_dataset_version(files).status == "ok"
    assert local.client.dataset_status() == "FAILED"
    assert local.client.dataset_files() == ["a.txt"]
    assert not list(local.root.rglob("outside.txt"))


def test_a_name_in_use_and_an_upload_that_is_not_complete_are_refused_in_the_answer(client: Any) -> None:
    client.ready_dataset({"a.txt": b"one"})
    answer = client.create_dataset({"a.txt": b"one"})
    assert (answer.status, "already in use" in answer.error) == ("error", True)
    item = dataset_types.ApiDatasetNewFile()
    item.token = client.start_upload("b.txt", 5).token
    fields = {"slug": "other-data", "title": "Other data", "files": [item]}
    answer = client.call("datasets", "create_dataset", dataset_types.ApiCreateDatasetRequest(), **fields)
    assert (answer.status, "not uploaded completely" in answer.error) == ("error", True)


def test_a_deleted_dataset_is_gone(client: Any) -> None:
    client.ready_dataset({"a.txt": b"one"})
    request = dataset_types.ApiDeleteDatasetRequest()
    client.call("datasets", "delete_dataset", request, owner_slug="local", dataset_slug="little-data")
    with pytest.raises(requests.HTTPError, match=r"Permission 'datasets\.get' was denied"):
        client.dataset_status()


# Uploads


def test_an_upload_cut_in_the_middle_goes_on_where_it_was_cut(client: Any) -> None:
    content = bytes(range(256)) * 1000
    started = client.start_upload("a.bin", len(content))
    where = urlsplit(started.create_url)
    with socket.create_connection((where.hostname, where.port)) as connection:
        head = f"PUT {where.path}?{where.query} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content[:100_000])
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
    probe = {"Content-Range": f"bytes */{len(content)}"}
    answer = requests.put(started.create_url, headers=probe, timeout=60)
    assert answer.status_code == 308
    arrived = int(answer.headers["Range"].removeprefix("bytes=0-")) + 1
    assert 0 < arrived <= 100_000
    rest = {"Content-Range": f"bytes {arrived}-{len(content) - 1}/{len(content)}"}
    assert requests.put(started.create_url, headers=rest, data=content[arrived:], timeout=60).status_code == 200
    assert requests.put(started.create_url, headers=probe, timeout=60).status_code == 200
    item = dataset_types.ApiDatasetNewFile()
    item.token = started.token
    fields = {"slug": "little-data", "title": "Little data", "files": [item]}
    client.call("datasets", "create_dataset", dataset_types.ApiCreateDatasetRequest(), **fields)
    assert client.dataset_file("a.bin") == content


def test_an_upload_of_which_nothing_arrived_reports_no_range(client: Any) -> None:
    started = client.start_upload("a.bin", 10)
    answer = requests.put(started.create_url, headers={"Content-Range": "bytes */10"}, timeout=60)
    assert (answer.status_code, "Range" in answer.headers) == (308, False)


@pytest.mark.parametrize("headers", [{}, {"Content-Range": "bytes 4-9/10"}], ids=["too many bytes", "a gap"])
def test_an_upload_that_does_not_fit_is_refused(client: Any, headers: dict[str, str]) -> None:
    started = client.start_upload("a.bin", 10)
    assert requests.put(started.create_url, data=b"0" * 11, headers=headers, timeout=60).status_code == 400


def test_a_complete_upload_never_changes_again(client: Any) -> None:
    started = client.start_upload("a.txt", 3)
    assert requests.put(started.create_url, data=b"one", timeout=60).status_code == 200
    item = dataset_types.ApiDatasetNewFile()
    item.token = started.token
    fields = {"slug": "little-data", "title": "Little data", "files": [item]}
    client.call("datasets", "create_dataset", dataset_types.ApiCreateDatasetRequest(), **fields)
    assert requests.put(started.create_url, data=b"two", timeout=60).status_code == 200
    assert client.dataset_file("a.txt") == b"one"


# Links


def test_a_link_serves_ranges_and_says_what_it_serves(client: Any) -> None:
    client.run("open('a.txt', 'w').write('0123456789')")
    url = client.output().files[0].url
    whole = requests.get(url, timeout=60)
    assert (whole.headers["Content-Length"], whole.headers["Accept-Ranges"]) == ("10", "bytes")
    assert whole.headers["Last-Modified"].endswith("GMT")
    matching = {"Range": "bytes=4-", "If-Range": whole.headers["ETag"]}
    part = requests.get(url, headers=matching, timeout=60)
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"456789", "bytes 4-9/10")
    other = requests.get(url, headers={"Range": "bytes=4-", "If-Range": '"other"'}, timeout=60)
    assert (other.status_code, other.content) == (200, b"0123456789")
    assert requests.get(url, headers={"Range": "bytes=10-"}, timeout=60).status_code == 416


def test_a_link_expires_and_cannot_be_bent_to_another_file(loopback: Any) -> None:
    local = loopback(link_s=60.0)
    local.client.run("open('a.txt', 'w').close()\nopen('b.txt', 'w').close()")
    url = local.client.output().files[0].url
    assert requests.get(url, timeout=60).status_code == 200
    assert requests.get(url.replace("a.txt", "b.txt"), timeout=60).status_code == 403
    assert requests.get(url.partition("?")[0], timeout=60).status_code == 403
    local.clock.ahead_s += 61
    assert requests.get(url, timeout=60).status_code == 403
    assert requests.put(url, timeout=60).status_code == 405


def test_even_a_signed_link_does_not_leave_its_folder(loopback: Any) -> None:
    local = loopback()
    local.client.run("import os\nos.symlink('/etc/hostname', 'link')")
    session = next((local.root / "sessions").iterdir()).name
    for path in (f"/files/session/{session}/link", f"/files/session/{session}/../order.json"):
        where = urlsplit(local.state.link(path))
        with socket.create_connection((where.hostname, where.port)) as connection:
            connection.sendall(
                f"GET {where.path}?{where.query} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
            )
            assert connection.recv(4096).startswith(b"HTTP/1.1 404")
