"""Over real HTTP: who gets an answer, which, and that nothing can be written."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from dashboard_world import FINISHED, RUNNING

from kaggle_manager.dashboard.server import listen
from kaggle_manager.dashboard.view import Dashboard
from kaggle_manager.errors import ConfigError

PATHS = ("/", "/api/status", "/api/parts", f"/api/runs/{FINISHED}", "/static/page.js")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes


def ask(address: str, path: str, method: str = "GET", *, host: str | None = None, **headers: str) -> Answer:
    place = urlsplit(address)
    assert place.hostname
    with closing(http.client.HTTPConnection(place.hostname, place.port, timeout=60)) as connection:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host if host is not None else place.netloc)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


def test_every_address_answers_its_own_page(address: str) -> None:
    for path in PATHS:
        answer = ask(address, path)
        assert answer.status == 200, path
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in answer.headers
    port = urlsplit(address).port
    assert ask(address, "/", host=f"localhost:{port}", Origin=f"http://localhost:{port}").status == 200


@pytest.mark.parametrize("path", PATHS)
def test_another_host_name_or_origin_gets_nothing(address: str, path: str) -> None:
    port = urlsplit(address).port
    hosts = ["evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1.evil.example:{port}", "localhost:1", ""]
    answers = [ask(address, path, host=host) for host in hosts]
    origins = ["http://evil.example", "null", f"https://127.0.0.1:{port}", "http://127.0.0.1:1"]
    answers += [ask(address, path, Origin=origin) for origin in origins]
    if path != "/":
        answers.append(ask(address, path, Sec_Fetch_Site="cross-site"))
    for answer in answers:
        assert answer.status in (400, 403)
        assert b"run" not in answer.body


def test_two_host_headers_get_nothing(address: str) -> None:
    place = urlsplit(address)
    with socket.create_connection((place.hostname, place.port or 0), timeout=60) as connection:
        request = f"GET /api/status HTTP/1.1\r\nHost: {place.netloc}\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        assert connection.recv(1000).split()[1] in (b"400", b"403")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_written(address: str, method: str) -> None:
    for path in PATHS:
        assert ask(address, path, method).status == 405


def test_head_is_answered_without_a_body(address: str) -> None:
    answer = ask(address, "/", "HEAD")
    assert answer.status == 200
    assert answer.body == b""


def test_what_did_not_change_is_not_sent_again(address: str, dashboard: Dashboard) -> None:
    dashboard.run(RUNNING, verify=True)  # else it is done in the background, between two of these questions
    first = ask(address, "/api/status")
    assert json.loads(first.body)["schema"] == 1
    assert ask(address, "/api/status", If_None_Match=first.headers["ETag"]).status == 304
    every = json.loads(ask(address, "/api/parts").body)
    assert every["hashes"].keys() == every["parts"].keys()
    known = ",".join(digest for name, digest in every["hashes"].items() if name != "runs")
    assert json.loads(ask(address, f"/api/parts?have={known}").body)["parts"].keys() == {"runs"}


def test_no_other_file_is_served(address: str) -> None:
    for path in ("/static/../view.py", "/static/%2e%2e%2fview.py", "/static/nothing.css", "/journal.sqlite"):
        assert ask(address, path).status == 404
    missing = ask(address, "/api/runs/" + "0" * 32)
    assert missing.status == 404
    assert json.loads(missing.body)["error"] == "NotFound"


def test_the_status_equals_the_one_of_the_command(address: str, state: Path) -> None:
    told = json.loads(ask(address, "/api/status").body)
    command = [sys.executable, "-m", "kaggle_manager.cli", "status", "--json", "--workdir", str(state)]
    printed = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)
    for document in (told, printed):  # how long ago something was heard depends on when one looks
        for run in (document, *document["runs"]):
            run["why"] = run["why"].partition(" was launched ")[0]
    assert told == printed


def test_it_listens_on_this_machine_alone_and_says_when_a_port_is_taken() -> None:
    with listen(0) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"
        with pytest.raises(ConfigError, match="cannot be used"):
            listen(listening.getsockname()[1])


# `dashboard`, with a page that is not ready before the standard input ends.
SLOW = """
import sys
from kaggle_manager.dashboard import server

def look(*_):
    print("asked", flush=True)
    sys.stdin.read()

server.look = look
from kaggle_manager.cli import main
main(["dashboard", "--no-browser", "--workdir", sys.argv[1]])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_without_a_traceback_while_a_page_is_being_made(tmp_path: Path, number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as served:
        assert served.stdin
        assert served.stdout
        assert served.stderr
        address = urlsplit(served.stdout.readline().split(" on ")[1].split()[0])
        with closing(http.client.HTTPConnection(address.netloc, timeout=60)) as connection:
            connection.request("GET", "/")
            assert served.stdout.readline() == "asked\n"
            served.send_signal(number)
            assert connection.getresponse().status == 500  # without the page
            served.stdin.close()
            assert (served.wait(), served.stderr.read()) == (0, "")
