"""A pushed kernel really runs, and every answer about it is true and pinned. By the official SDK over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from kagglesdk.kernels.types import kernels_api_service as kernel_types
from loopback_kaggle import waiting_for


def refused(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(requests.HTTPError) as error:
        call()
    assert error.value.response is not None
    return error.value.response.status_code, str(error.value)


def test_a_script_runs_and_its_outputs_and_log_come_back(client: Any) -> None:
    answer = client.push(
        "import os, sys\nprint('to stdout')\nprint('é', file=sys.stderr)\n"
        "os.makedirs('sub folder')\nopen('sub folder/ä b.txt', 'w').write('content')\n"
    )
    assert (answer.version_number, answer.error, answer.ref) == (1, "", "/code/local/little-kernel")
    assert client.end() == ("COMPLETE", "")
    output = client.output()
    assert [file.file_name for file in output.files] == ["sub folder/ä b.txt"]
    assert requests.get(output.files[0].url, timeout=60).content == b"content"
    assert {(event["stream_name"], event["data"]) for event in json.loads(output.log)} == {
        ("stdout", "to stdout\n"),
        ("stderr", "é\n"),
    }


def test_nothing_of_a_running_session_is_shown_before_it_ended(client: Any) -> None:
    client.push("import time\nopen('early.txt', 'w').write('x')\nprint('hello', flush=True)\ntime.sleep(60)")
    assert first_line(client) == "hello"
    assert (client.output().files, client.output().log or "") == ([], "")


def test_a_crash_is_an_error_with_its_traceback_in_the_log(client: Any) -> None:
    client.push("open('partial.txt', 'w').write('x')\nraise RuntimeError('the reason')")
    status, failure = client.end()
    assert (status, failure) == ("ERROR", "The kernel ended with exit code 1.")
    assert "RuntimeError: the reason" in client.log()
    assert [file.file_name for file in client.output().files] == ["partial.txt"]


def test_a_push_to_a_live_kernel_starts_a_second_session_and_answers_stay_pinned(client: Any) -> None:
    client.push("import time\ntime.sleep(60)")
    client.running(version=1)
    assert client.run("print('second')") == "second\n"
    assert client.status(version=1)[0] == "RUNNING"
    assert client.status(version=2)[0] == "COMPLETE"
    assert client.status()[0] == "COMPLETE"
    assert client.kernel(version=1).blob.source == "import time\ntime.sleep(60)"
    assert client.kernel(version=1).metadata.current_version_number == 2
    assert refused(lambda: client.status(version=3))[0] == 404


def test_a_version_label_is_v_and_a_number(client: Any) -> None:
    client.run("")
    request = kernel_types.ApiGetKernelSessionStatusRequest()
    fields = {"user_name": "local", "kernel_slug": "little-kernel", "version_label": "1"}
    assert refused(lambda: client.call("kernels", "get_kernel_session_status", request, **fields))[0] == 404


def test_the_slug_comes_from_the_title(client: Any) -> None:
    answer = client.push("", slug="asked-for", new_title="Another Name!")
    assert answer.ref == "/code/local/another-name"
    assert refused(lambda: client.status("asked-for"))[0] == 403


def test_what_is_unknown_and_what_is_anothers_are_refused_alike(client: Any) -> None:
    code, message = refused(lambda: client.status("no-such-kernel"))
    assert (code, message) == (403, "Permission 'kernels.get' was denied")
    assert refused(lambda: client.push("", owner="somebody"))[0] == 403


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic bG9jYWw6d3Jvbmc="}]
)
def test_wrong_or_missing_credentials_get_401_as_json(loopback: Any, headers: dict[str, str]) -> None:
    answer = requests.post(f"{loopback().url}/v1/kernels.KernelsApiService/ListKernels", headers=headers, timeout=60)
    assert (answer.status_code, answer.json()) == (401, {"code": 401, "message": "Unauthenticated"})


def test_both_schemes_and_both_path_prefixes_are_accepted(loopback: Any) -> None:
    local = loopback()
    account = local.state.account
    for prefix in ("/v1", "/api/v1"):
        url = f"{local.url}{prefix}/kernels.KernelsApiService/ListKernels"
        bearer = {"Authorization": f"Bearer {account.token}"}
        assert requests.post(url, json={}, headers=bearer, timeout=60).json()["kernels"] == []
        assert requests.post(url, json={}, auth=("local", account.key), timeout=60).json()["kernels"] == []


def test_a_token_says_whose_it_is(loopback: Any) -> None:
    local = loopback()
    url = f"{local.url}/v1/security.OAuthService/IntrospectToken"
    known = requests.post(url, json={"token": local.state.account.token}, timeout=60).json()
    unknown = requests.post(url, json={"token": "KGAT_other"}, timeout=60).json()
    assert known == {"active": True, "username": "local"}
    assert not unknown["active"]


def test_outputs_come_in_pages_of_20_and_stop_at_500(client: Any) -> None:
    client.run("for i in range(503): open(f'{i:03}.txt', 'w').close()")
    first = client.output()
    assert [file.file_name for file in first.files] == [f"{i:03}.txt" for i in range(20)]
    names, token = [], ""
    while True:
        page = client.output(page_size=200, page_token=token)
        names += [file.file_name for file in page.files]
        if not (token := page.next_page_token):
            break
    assert names == [f"{i:03}.txt" for i in range(500)]
    request = kernel_types.ApiDownloadKernelOutputRequest()
    fields = {"owner_slug": "local", "kernel_slug": "little-kernel", "file_path": "502.txt"}
    assert client.call("kernels", "download_kernel_output", request, version_number=1, **fields).content == b""


def test_a_link_inside_the_output_leads_nowhere(client: Any) -> None:
    client.run("import os\nos.symlink('/etc/passwd', 'passwd')\nos.symlink('/etc', 'etc')\nopen('real', 'w').close()")
    assert [file.file_name for file in client.output().files] == ["real"]


def test_one_output_is_reached_by_version_through_a_redirect(client: Any) -> None:
    client.run("open('a.txt', 'w').write('one')")
    client.run("open('a.txt', 'w').write('two')")
    request = kernel_types.ApiDownloadKernelOutputRequest()
    fields = {"owner_slug": "local", "kernel_slug": "little-kernel", "file_path": "a.txt"}
    assert client.call("kernels", "download_kernel_output", request, version_number=1, **fields).content == b"one"


def test_the_source_must_be_less_than_a_megabyte(client: Any) -> None:
    code, message = refused(lambda: client.push("#" * 1024 * 1024))
    assert (code, message) == (400, "The kernel source must be less than 1 megabytes in size.")
    assert client.push("#" * (1024 * 1024 - 1)).version_number == 1


def test_sources_that_cannot_be_mounted_are_dropped_and_reported(client: Any) -> None:
    client.ready_dataset({"a.txt": b"a"})
    client.run("", slug="first-kernel")
    answer = client.push(
        "",
        slug="second-kernel",
        dataset_data_sources=["local/little-data", "local/no-such-data", "somebody/data"],
        kernel_data_sources=["local/first-kernel", "local/second-kernel", "local/no-such-kernel"],
        competition_data_sources=["titanic"],
        model_data_sources=["google/gemma/pytorch/2b/1"],
    )
    assert answer.version_number == 1
    assert answer.invalid_dataset_sources == ["local/no-such-data", "somebody/data"]
    assert answer.invalid_kernel_sources == ["local/second-kernel", "local/no-such-kernel"]
    assert answer.invalid_competition_sources == ["titanic"]
    assert answer.invalid_model_sources == ["google/gemma/pytorch/2b/1"]
    metadata = client.kernel("second-kernel").metadata
    assert (metadata.dataset_data_sources, metadata.kernel_data_sources) == (
        ["local/little-data"],
        ["local/first-kernel"],
    )


def test_a_saved_version_that_shall_not_run_does_not(client: Any) -> None:
    client.push("open('ran', 'w')", kernel_execution_type=kernel_types.KernelExecutionType.QUICK_SAVE)
    assert client.status()[0] == "NEW_SCRIPT"
    assert client.output().files == []


def notebook(*sources: str) -> str:
    cells = [{"cell_type": "code", "source": source, "metadata": {}, "outputs": []} for source in sources]
    note = {"cell_type": "markdown", "source": "# Not code", "metadata": {}}
    return json.dumps({"cells": [note, *cells], "nbformat": 4, "nbformat_minor": 5, "metadata": {}})


def test_a_notebook_runs_cell_by_cell(client: Any) -> None:
    text = notebook("x = 5\n!echo shell line\n%matplotlib inline", "print(100\n% 7, x)")
    log = client.run(text, kernel_type="notebook")
    assert "Skipped: %matplotlib inline\n" in log  # on stderr: its place among other lines is open
    assert log.index("shell line\n") < log.index("2 5\n")


def test_a_notebook_with_a_cell_magic_stops_there_and_says_so(client: Any) -> None:
    client.push(notebook("print('before')", "%%bash\ntrue", "print('after')"), kernel_type="notebook")
    assert client.end()[0] == "ERROR"
    assert "The local Kaggle cannot run a cell with %%bash." in client.log()
    assert "after" not in client.log()


def test_the_kernels_of_the_account_are_listed_the_last_run_first(client: Any) -> None:
    for slug in ("first-kernel", "second-kernel", "third-kernel"):
        client.push("", slug=slug)
    request = kernel_types.ApiListKernelsRequest()
    page = client.call("kernels", "list_kernels", request, page_size=2)
    assert [kernel.ref for kernel in page.kernels] == ["local/third-kernel", "local/second-kernel"]
    rest = client.call("kernels", "list_kernels", request, page_size=2, page_token=page.next_page_token)
    assert [kernel.ref for kernel in rest.kernels] == ["local/first-kernel"]


def events(url: str, token: str, path: str) -> Iterator[str]:
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    with requests.get(f"{url}/v1/kernels/logs/stream/local/{path}", headers=headers, stream=True, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["transfer-encoding"] == "chunked"
        yield from (line.removeprefix("data: ") for line in answer.iter_lines(decode_unicode=True) if line)


def test_a_live_log_replays_from_the_start_and_says_when_it_ends(client: Any, tmp_path: Path) -> None:
    go_on = tmp_path / "go_on"
    client.push(f"print(0)\nprint(1, flush=True)\n{waiting_for(go_on)}for i in range(2, 6):\n    print(i)")
    client.push("print('another version')")
    client.running(version=1)
    seen = events(client.url, client.token, "little-kernel?versionLabel=v1")
    first = next(seen)  # while it runs
    go_on.touch()
    *lines, last = [first, *seen]
    assert [json.loads(line)["data"] for line in lines] == [f"{i}\n" for i in range(6)]
    assert last == "END_OF_LOG"
    headers = {"Authorization": f"Bearer {client.token}"}
    kept = requests.get(
        f"{client.url}/v1/kernels/logs/stream/local/little-kernel?versionLabel=v1", headers=headers, timeout=60
    )
    assert kept.headers["content-type"] == "application/json"
    assert [event["data"] for event in kept.json()] == [f"{i}\n" for i in range(6)]


def test_a_session_is_cancelled_by_the_number_it_finds_in_its_environment(client: Any) -> None:
    client.push(
        "import os, time\nopen('saved.txt', 'w').close()\n"
        "print(os.environ['KAGGLE_CONTAINER_NAME'], flush=True)\ntime.sleep(60)"
    )
    client.running()
    line = first_line(client)
    client.cancel(int(line.rpartition("-")[2]))
    assert client.end()[0] == "CANCEL_ACKNOWLEDGED"
    assert [file.file_name for file in client.output().files] == ["saved.txt"]
    code, message = refused(lambda: client.cancel(1))
    assert (code, message) == (403, "Permission 'kernelSessions.cancel' was denied")


def first_line(client: Any) -> str:
    headers = {"Authorization": f"Bearer {client.token}"}
    url = f"{client.url}/v1/kernels/logs/stream/local/little-kernel"
    with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
        line = next(line for line in answer.iter_lines(decode_unicode=True) if line)
    data: str = json.loads(line.removeprefix("data: "))["data"]
    return data.strip()


def image_of(client: Any, version: int) -> str:
    return client.kernel(version=version).metadata.docker_image


def test_a_session_runs_in_the_newest_image_unless_its_push_pins_one(loopback: Any) -> None:
    local = loopback()
    save = {"kernel_execution_type": kernel_types.KernelExecutionType.QUICK_SAVE}

    def pushed(**fields: Any) -> str:
        answer = local.client.push("", **save, **fields)
        return answer.error or image_of(local.client, answer.version_number)

    first = pushed()
    assert first.startswith("gcr.io/kaggle-images/python@sha256:")
    local.state.limits = replace(local.state.limits, newest_image=2)
    pinned = {"docker_image": first, "docker_image_pinning_type": "original"}
    assert pushed(**pinned) == first
    newest = pushed()
    assert newest != first, "without a pin a later push goes back to the newest image"
    assert pushed(**pinned | {"docker_image_pinning_type": "latest"}) == newest
    local.state.limits = replace(local.state.limits, oldest_image=2)
    assert pushed(**pinned) == f"Docker image {first} is not available."
    assert local.client.kernel().metadata.current_version_number == 4, "nothing of a refused push is kept"
