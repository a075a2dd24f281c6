"""The local Kaggle answers its own machine, its own account, and no request that is larger or odder than an API's."""

from __future__ import annotations

import asyncio
import http.client
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_manager.local_kaggle import app

LIST = "/v1/kernels.KernelsApiService/ListKernels"
KERNELS, DATASETS = "kernels.KernelsApiService", "datasets.DatasetApiService"
CALLS = """
SaveKernel GetKernel ListKernels GetKernelSessionStatus ListKernelSessionOutput ListKernelFiles DeleteKernel
CancelKernelSession GetAcceleratorQuotaStatistics DownloadKernelOutput GetKernelSessionLogsStream
CreateDataset CreateDatasetVersion CreateDatasetVersionById GetDataset GetDatasetStatus GetDatasetMetadata
ListDatasetFiles DeleteDataset DownloadDataset StartBlobUpload IntrospectToken
"""
FIELDS = """
userName kernelSlug versionLabel pageSize pageToken page slug newTitle text language kernelType isPrivate
enableGpu machineShape datasetDataSources sessionTimeoutSeconds group sortBy kernelSessionId ownerSlug datasetSlug
datasetVersionNumber fileName filePath versionNumber files title token name contentLength id versionNotes body
"""


def service_of(method: str) -> str:
    if method in ("StartBlobUpload", "IntrospectToken"):
        return {"StartBlobUpload": "blobs.BlobApiService", "IntrospectToken": "security.OAuthService"}[method]
    return DATASETS if "Dataset" in method else KERNELS


def headers(local: Any, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {local.state.account.token}", **more}


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "", "10.0.0.1"]
)
@pytest.mark.parametrize("path", ["/local/health", LIST, "/upload/x", "/files/session/1/x"])
def test_a_request_by_another_name_is_refused(loopback: Any, host: str, path: str) -> None:
    local = loopback()
    answer = requests.post(local.url + path, headers=headers(local, Host=host), timeout=60)
    assert answer.status_code in (400, 421)
    assert str(local.root) not in answer.text


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1", "LOCALHOST:80", "[::1]:8000"])
def test_this_machines_own_names_are_answered(loopback: Any, host: str) -> None:
    local = loopback()
    assert requests.post(local.url + LIST, json={}, headers=headers(local, Host=host), timeout=60).status_code == 200


@pytest.mark.parametrize("has_credentials", [False, True])
def test_a_body_without_end_costs_no_memory(loopback: Any, has_credentials: bool) -> None:
    local = loopback()

    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield bytes(1024**2)

    tracemalloc.start()
    try:
        given = headers(local) if has_credentials else {}
        answer = requests.post(local.url + LIST, data=endless(), headers=given, timeout=60)
        assert answer.status_code == (413 if has_credentials else 401)
    except requests.ConnectionError:
        pass  # hung up on while it was still sending
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 32 * 1024**2


@pytest.mark.parametrize("stalls_in", ["a call", "a call without credentials", "an upload"])
def test_a_body_that_stops_to_come_is_given_up_and_what_came_of_an_upload_stays(
    loopback: Any, monkeypatch: pytest.MonkeyPatch, stalls_in: str
) -> None:
    monkeypatch.setattr(app, "STALLED_BODY_S", 0.2)
    local = loopback()
    upload = {"name": "tree.pack", "contentLength": 10}
    started = requests.post(f"{local.url}/v1/blobs.BlobApiService/StartBlobUpload", json=upload, headers=headers(local))
    link = started.json()["createUrl"]
    target = urlsplit(link if stalls_in == "an upload" else local.url + LIST)
    connection = http.client.HTTPConnection(target.netloc, timeout=60)
    connection.putrequest("PUT" if stalls_in == "an upload" else "POST", f"{target.path}?{target.query}")
    for name, value in ({} if "without" in stalls_in else headers(local)).items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", "10")
    connection.endheaders(b"1234")
    answer = connection.getresponse()
    assert (answer.status, b"came for 0.2 s" in answer.read()) == (408, True)
    connection.close()
    if stalls_in == "an upload":
        asked = requests.put(link, headers={"Content-Range": "bytes */10"}, timeout=60)
        assert (asked.status_code, asked.headers["Range"]) == (308, "bytes=0-3")
        rest = requests.put(link, data=b"567890", headers={"Content-Range": "bytes 4-9/10"}, timeout=60)
        assert rest.status_code == 200


def test_once_the_body_is_there_the_end_of_the_connection_is_waited_for_as_long_as_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the answer does that follows a session's log for hours."""
    monkeypatch.setattr(app, "STALLED_BODY_S", 0.02)
    messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"{}"}]

    async def receive() -> Any:
        if len(messages) == 1:
            await asyncio.sleep(0.1)
        return messages.pop()

    async def two() -> list[Any]:
        in_time = app._in_time(receive)
        return [await in_time(), await in_time()]

    assert asyncio.run(two())[1] == {"type": "http.disconnect"}


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"[]", b"1", b'"x"', b"null", b"NaN"]
)
def test_a_body_that_is_no_json_object_is_a_bad_request(loopback: Any, body: bytes) -> None:
    local = loopback()
    assert requests.post(local.url + LIST, data=body, headers=headers(local), timeout=60).status_code == 400


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["local", "v1", "..", "/", "\x00", "little-kernel", "KM"]),
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=3), st.dictionaries(st.text(max_size=3), st.none()))),
    st.dictionaries(
        st.sampled_from(FIELDS.split()), st.one_of(st.text(max_size=3), st.integers(), st.none()), max_size=3
    ),
)


def test_no_field_of_another_type_breaks_a_call(loopback: Any) -> None:
    local = loopback()
    session = requests.Session()

    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.sampled_from(CALLS.split()), st.dictionaries(st.sampled_from(FIELDS.split()), VALUES, max_size=8))
    def asks(method: str, body: dict[str, Any]) -> None:
        url = f"{local.url}/v1/{service_of(method)}/{method}"
        content = json.dumps(body)
        answer = session.post(url, data=content, headers=headers(local), timeout=60, allow_redirects=False)
        assert answer.status_code < 500, (method, body, answer.text)

    asks()
