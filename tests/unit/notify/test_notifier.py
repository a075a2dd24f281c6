"""Notifications arrive at a real service and a real command, never hold a run up, and never show a secret."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kaggle_manager.cli.commands import app
from kaggle_manager.notify import notifier as notifier_module
from kaggle_manager.notify.notifier import WANTED_BY_DEFAULT, Notifier, Occasion

SECRET = "tk-93f1a7secret"
posix_only = pytest.mark.skipif(os.name != "posix", reason="permissions and process groups are POSIX's")


class Service(ThreadingHTTPServer):
    """Receives what apprise posts; answers with `status`."""

    status = 200

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"json://user:{SECRET}@127.0.0.1:{self.server_address[1]}/{SECRET}"


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        yield server
        server.shutdown()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A service that accepts a connection and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def warnings() -> list[str]:
    return []


def notifier(warnings: list[str], tmp_path: Path, **environ: str) -> Notifier:
    return Notifier.from_environment(environ, warn=warnings.append, settings=tmp_path / "notify.toml")


def hook_saying(tmp_path: Path, program: str) -> str:
    script = tmp_path / "my hook.py"
    script.write_text(program, encoding="utf-8")
    return shlex.join([sys.executable, str(script)])


def test_a_service_receives_the_message_and_a_hook_the_facts(
    service: Service, warnings: list[str], tmp_path: Path
) -> None:
    seen = tmp_path / "seen.json"
    hook = hook_saying(
        tmp_path,
        "import json, os, pathlib, sys\n"
        f"found = dict(json.load(sys.stdin), variable=os.environ['KM_OCCASION'])\n"
        f"pathlib.Path({str(seen)!r}).write_text(json.dumps(found))\n",
    )
    sender = notifier(warnings, tmp_path, KM_NOTIFY=f"\n{service.address}\n", KM_NOTIFY_HOOK=hook)
    deliveries = sender.send(Occasion.RUN_FINISHED, "done", "3000 steps, é & <b>", {"step": 3000, "tree": tmp_path})
    assert [(d.target, d.delivered) for d in deliveries] == [
        ("apprise json://…", True),
        (f"hook {Path(sys.executable).name}", True),
    ]
    assert [(post["title"], post["message"], post["type"]) for post in service.received] == [
        ("done", "3000 steps, é & <b>", "success")
    ]
    told = json.loads(seen.read_text())
    assert len(told.pop("event_id")) == 32
    assert told == {
        "schema": 1,
        "occasion": "run_finished",
        "title": "done",
        "body": "3000 steps, é & <b>",
        "data": {"step": 3000, "tree": str(tmp_path)},
        "variable": "run_finished",
    }
    assert warnings == []


def test_a_message_that_is_sent_again_is_the_same_event_and_any_other_is_another(
    warnings: list[str], tmp_path: Path
) -> None:
    seen = tmp_path / "seen.jsonl"
    hook = hook_saying(
        tmp_path,
        "import json, sys\n"
        f"with open({str(seen)!r}, 'a') as file:\n"
        "    print(json.load(sys.stdin)['event_id'], file=file)\n",
    )
    sender = notifier(warnings, tmp_path, KM_NOTIFY_HOOK=hook)
    for generation in (3, 3, 4):
        sender.send(Occasion.PERSON_NEEDED, "help", "the token expired", {"run_id": "r", "generation": generation})
    first, again, later = seen.read_text().split()
    assert first == again != later
    assert warnings == []


def test_what_fails_is_one_line_each_without_a_secret_and_stops_nothing_else(
    service: Service, warnings: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refusing = Service()
    refusing.status = 401
    with refusing:
        hook = hook_saying(tmp_path, f"import sys; print({SECRET!r}, file=sys.stderr); sys.exit(3)")
        addresses = f"{refusing.address} bogus://{SECRET} {SECRET} json://{SECRET}@127.0.0.1:9 {service.address}"
        sender = notifier(warnings, tmp_path, KM_NOTIFY=addresses, KM_NOTIFY_HOOK=f"{hook} {SECRET}")
        deliveries = sender.send(Occasion.PERSON_NEEDED, "help", "the token expired", {"not json": {1, 2}})
        refusing.shutdown()
    assert [d.delivered for d in deliveries] == [False, False, False, False, True, False]
    assert len(service.received) == 1
    assert "HTTP 401" in warnings[0]
    assert "not an address" in warnings[1]
    assert "(no scheme)" in warnings[2]
    assert "not reached" in warnings[3]
    assert "exit code 3" in warnings[4]
    assert len(warnings) == 5
    shown = capfd.readouterr()
    assert SECRET not in "".join([*warnings, repr(deliveries), *sender.targets, shown.out, shown.err])


@pytest.mark.slow
def test_a_service_that_hangs_is_given_up_and_what_arrived_counts(
    service: Service, silent_port: int, warnings: list[str]
) -> None:
    addresses = (f"json://127.0.0.1:{silent_port}/?rto=600", service.address)
    for limit_s in (6.0, 20.0, 60.0):  # until the good one is reached within it, however loaded the machine is
        deliveries = Notifier(addresses, warn=warnings.append, limit_s=limit_s).send(Occasion.TEST, "t", "b")
        if deliveries[1].delivered:
            break
    assert [d.delivered for d in deliveries] == [False, True]
    assert "did not answer in time" in deliveries[0].detail


@posix_only
def test_a_hook_that_hangs_is_stopped_with_its_children(warnings: list[str], tmp_path: Path) -> None:
    child = tmp_path / "child.pid"
    hook = ("sh", "-c", 'sleep 600 & echo $! > "$0"; wait', str(child))
    for limit_s in (1.0, 10.0, 60.0):  # until the child lives within it, however loaded the machine is
        deliveries = Notifier(hook=hook, warn=warnings.append, limit_s=limit_s).send(Occasion.TEST, "t", "b")
        assert "it was stopped" in deliveries[0].detail
        if child.exists() and child.read_text().strip():
            break
    ps = ["ps", "-o", "stat=", "-p", child.read_text().strip()]
    while subprocess.run(ps, capture_output=True, text=True, check=False).stdout.strip()[:1] not in ("", "Z"):
        time.sleep(0.02)  # killed, and not gone yet


def test_a_command_that_is_not_there_is_a_warning(warnings: list[str], tmp_path: Path) -> None:
    sender = notifier(warnings, tmp_path, KM_NOTIFY_HOOK=shlex.quote(str(tmp_path / "missing")))
    assert [d.delivered for d in sender.send(Occasion.TEST, "t", "b")] == [False]
    assert "could not be started" in warnings[-1]


def test_a_message_that_cannot_be_written_down_is_a_warning_too(service: Service, warnings: list[str]) -> None:
    sender = Notifier((service.address,), ("true",), warn=warnings.append)
    deliveries = sender.send(Occasion.TEST, "t", "b", {(1, 2): "a key that JSON has not"})
    assert [d.delivered for d in deliveries] == [False, False]
    assert len(warnings) == 2


def test_unwanted_occasions_and_no_configuration_cost_nothing(service: Service, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from kaggle_manager.notify.notifier import Notifier, Occasion\n"
        "from pathlib import Path\n"
        "silent = Notifier.from_environment({}, warn=print, settings=Path('/nowhere/notify.toml'))\n"
        "assert silent.send(Occasion.RUN_FINISHED, 't', 'b') == ()\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('apprise', 'requests', 'subprocess')])\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
    sender = Notifier((service.address,), warn=pytest.fail)
    assert sender.send(Occasion.SESSION_ENDED, "t", "b") == ()
    assert service.received == []


def test_the_settings_of_file_and_environment_come_together(warnings: list[str], tmp_path: Path) -> None:
    file = tmp_path / "notify.toml"
    file.write_text(
        'targets = ["ntfy://b", "ntfy://a"]\nhook = "tell --me"\non = ["session_ended"]\n', encoding="utf-8"
    )
    file.chmod(0o600)
    stored = notifier(warnings, tmp_path)
    assert (stored.addresses, stored.hook) == (("ntfy://b", "ntfy://a"), ("tell", "--me"))
    assert stored.wanted == {Occasion.SESSION_ENDED}
    both = notifier(warnings, tmp_path, KM_NOTIFY="ntfy://a", KM_NOTIFY_HOOK="'my tool' x", KM_NOTIFY_ON="all")
    assert (both.addresses, both.hook) == (("ntfy://a", "ntfy://b"), ("my tool", "x"))
    assert both.wanted == frozenset(Occasion)
    assert warnings == []


@posix_only
@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ('targets = ["ntfy://SECRET"]', 0o644, "chmod 600"),
        ('targets = "ntfy://SECRET', 0o600, "not TOML"),
        ('targets = "ntfy://SECRET"', 0o600, "list of texts"),
        ('target = ["ntfy://SECRET"]', 0o600, "target means nothing"),
        ('hook = ["SECRET"]', 0o600, "must be a text"),
        ('hook = "SECRET \'"', 0o600, "hook is not used"),
        ('on = ["whenever"]', 0o600, "whenever is no occasion"),
    ],
)
def test_a_bad_setting_is_a_caution_that_shows_no_secret(
    text: str, mode: int, said: str, warnings: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "notify.toml"
    file.write_text(text.replace("SECRET", SECRET), encoding="utf-8")
    file.chmod(mode)
    sender = notifier(warnings, tmp_path)
    assert sender.wanted == WANTED_BY_DEFAULT
    assert len(warnings) == 1
    assert said in warnings[0]
    assert SECRET not in warnings[0]


def test_the_command_says_what_arrived(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KM_NOTIFY", "KM_NOTIFY_HOOK", "KM_NOTIFY_ON"):
        monkeypatch.delenv(name, raising=False)
    nothing = CliRunner().invoke(app, ["notify", "test"])
    assert nothing.exit_code == 2
    assert "KM_NOTIFY" in nothing.stderr
    monkeypatch.setenv("KM_NOTIFY", f"{service.address} bogus://{SECRET}")
    partly = CliRunner().invoke(app, ["notify", "test", "--json"])
    assert partly.exit_code == 1
    assert [d["delivered"] for d in json.loads(partly.stdout)["deliveries"]] == [True, False]
    assert SECRET not in partly.stdout + partly.stderr
    assert "1 target of 2 did not get the message" in partly.stderr
    assert "Next: fix its address in KM_NOTIFY" in partly.stderr
    monkeypatch.setenv("KM_NOTIFY", service.address)
    assert CliRunner().invoke(app, ["notify", "test"]).exit_code == 0
    assert len(service.received) == 2


def test_a_hook_on_windows_keeps_the_backslashes_of_its_path(warnings: list[str]) -> None:
    given = r'"C:\Program Files\my hook.exe" --to C:\tmp\new'
    found = notifier_module._command(given, warnings.append, is_windows=True)
    assert found == (r"C:\Program Files\my hook.exe", "--to", r"C:\tmp\new")
    assert notifier_module._command(r"a\ b '#c' #d", warnings.append, is_windows=False) == ("a b", "#c", "#d")
    assert warnings == []
