"""A section's packages reach a session without internet, from one dataset of wheels that all runs share."""

from __future__ import annotations

import os
import platform
import threading
from pathlib import Path
from typing import Any

import pytest
from small_project import SECTION, Bench
from tiny_wheels import index_of, tiny_wheel

from kaggle_manager.errors import KaggleManagerError, NoSuchPackage
from kaggle_manager.local_kaggle import sandbox
from kaggle_manager.orchestrator import wheels as room
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.sessions.bundle import order_of
from kaggle_manager.sessions.wheels import Wheels

pytestmark = pytest.mark.slow
IMPORTS = "import km_tiny_agent, km_tiny_helper\nprint('imported', km_tiny_agent.VERSION)\n"


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    folder = tmp_path / "index"
    # Of this test alone: a dataset is named by its content, and other tests use the same Kaggle.
    tiny_wheel(
        folder, "km-tiny-agent", "1.0", requires=["km-tiny-helper", f"numpy>=0.{abs(hash(str(tmp_path))) % 99_999}"]
    )
    tiny_wheel(folder, "km-tiny-helper", "1.0")
    monkeypatch.setenv("PIP_INDEX_URL", index_of(folder))
    return folder


def pinned(bench: Bench, pin: str = "km-tiny-agent==1.0", *, internet: bool = False) -> None:
    table = f'[kernel]\ninternet = {str(internet).lower()}\npackages = ["{pin}"]\n'
    bench.edit(f"sections/{SECTION}/section.toml", r"^\[kernel\]\n", table)
    bench.edit("installed/kaggle_manager/trainer/main.py", r"^PLAN = ", f"{IMPORTS}PLAN = ")


def datasets(bench: Bench) -> list[Path]:
    """Versions of datasets of wheels that have this test's wheels."""
    return sorted(
        path.parent for path in bench.server.root.glob("datasets/*/*/files/km_tiny_agent-1.0-py3-none-any.whl")
    )


def test_without_internet_it_works_from_start_to_end_and_another_run_sends_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    if not sandbox.isolation():
        pytest.skip("this machine does not allow namespaces, so no network can be cut")
    before = datasets(bench)
    pinned(bench)
    assert bench.run(timesteps=2).state == "finished"
    sent = set(datasets(bench)) - set(before)
    assert len(sent) == 1
    assert "imported 1.0" in bench.output
    assert "km-tiny-agent none -> 1.0, km-tiny-helper none -> 1.0" in bench.output
    script = (bench.newest_session() / "src/script.py").read_text()
    order = order_of(script)
    assert order is not None
    assert sorted(order["wheels"]["files"]) == sorted(path.name for path in sent.pop().iterdir())

    other = Bench(bench.project, tmp_path / "elsewhere", bench.server)
    assert other.run(timesteps=2).state == "finished"
    assert len(datasets(bench)) == len(before) + 1
    assert "imported 1.0" in other.output


def test_what_was_damaged_on_its_way_is_sent_again_once_a_session_has_said_so(bench: Bench) -> None:
    if not sandbox.isolation():
        pytest.skip("this machine does not allow namespaces, so no network can be cut")
    sent = []

    class Client(KaggleClient):
        def publish_inputs(self, **options: Any) -> Any:
            found = super().publish_inputs(**options)
            if options["slug"].startswith("km-wheels-"):
                sent.append(found.version)
                if len(sent) == 1:
                    [path] = [folder / "km_tiny_agent-1.0-py3-none-any.whl" for folder in set(datasets(bench)) - before]
                    path.write_bytes(bytes(path.stat().st_size))
            return found

    before = set(datasets(bench))
    bench.make_client = Client
    pinned(bench)
    report = bench.run(timesteps=2)
    assert (report.state, sent) == ("finished", [1, 2])
    assert [session.kind for session in report.sessions] == ["platform failure", ""]
    assert report.sessions[0].versions == {"python": platform.python_version()}, "where nothing was installed as well"


def test_two_commands_at_once_send_them_once(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = datasets(bench)
    look, both, looked = room._are_there, threading.Barrier(2, timeout=100), set()

    def look_together(run: RunContext, wheels: Wheels) -> bool:
        found = look(run, wheels)
        if threading.get_ident() not in looked:  # neither has sent anything when the other one looks
            looked.add(threading.get_ident())
            both.wait()
        return found

    monkeypatch.setattr(room, "_are_there", look_together)
    pinned(bench, internet=True)
    benches = [Bench(bench.project, tmp_path / name, bench.server) for name in ("one", "two")]
    threads = [threading.Thread(target=each.run, kwargs={"timesteps": 2}) for each in benches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(datasets(bench)) == len(before) + 1
    assert all("imported 1.0" in each.output for each in benches)


def test_what_cannot_be_made_here_is_said_and_pip_is_left_to_the_session_or_nothing_is_pushed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    sessions = len(list(bench.server.root.glob("sessions/*")))
    pinned(bench, "km-no-such-thing==1.0")
    with pytest.raises(KaggleManagerError, match="Sessions of this section have no internet") as refused:
        bench.manager().tick(SECTION, timesteps=4)
    assert "km-no-such-thing==1.0" in refused.value.message
    assert len(list(bench.server.root.glob("sessions/*"))) == sessions, "nothing was pushed"


def test_a_pin_that_no_index_has_is_refused_before_the_push_also_where_sessions_have_internet(bench: Bench) -> None:
    sessions = len(list(bench.server.root.glob("sessions/*")))
    pinned(bench, "km-tiny-agent==9.9", internet=True)
    with pytest.raises(NoSuchPackage, match=r"No package index has km-tiny-agent==9\.9: the versions .* are 1\.0\."):
        bench.manager().tick(SECTION, timesteps=4)
    assert len(list(bench.server.root.glob("sessions/*"))) == sessions
    assert "installs its packages with pip" not in bench.output
