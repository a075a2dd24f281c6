"""A hostile local Kaggle inside this process, and the adapter's calls acted out on it, each judging what it got.

Over real HTTP, with real sessions; only the adapter's waiting is virtual, so that patience costs no time. Used by
`fault_matrix.py` and by tests.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from kaggle_manager.errors import AmbiguousPush, KaggleManagerError, Unavailable
from kaggle_manager.local_kaggle import sessions
from kaggle_manager.local_kaggle.app import create_app
from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.local_kaggle.faults.broken_responses import OpenProtocol
from kaggle_manager.local_kaggle.faults.fault_plan import Plan
from kaggle_manager.local_kaggle.faults.middleware import FaultMiddleware
from kaggle_manager.local_kaggle.server import bound, configuration
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.kaggle.datasets import publish_dataset
from kaggle_manager.platforms.kaggle.download import download_file
from kaggle_manager.platforms.kaggle.log_stream import follow_log
from kaggle_manager.platforms.kaggle.outputs import download_outputs
from kaggle_manager.platforms.kaggle.retry import RetryPolicy
from kaggle_manager.platforms.platform import ExpectedFile, NotReady, SessionRef, SessionRequest, SessionState

OWNER, SLUG = "local", "km-stage"
# An impatient client would take a slow machine for a fault, so it is one only where the fault is silence.
READ_TIMEOUT_S, IMPATIENT_S = 30.0, 0.4
SILENT_KINDS = ("stall", "drip", "length")
# A session that leaves the same names with other content in each version, and prints 40 lines. Version 2 fails.
KERNEL = """
import os, random, sys
from pathlib import Path
working = Path(os.environ["KM_WORKING_DIR"])
(working / "tree").mkdir()
for name, size in (("model.bin", 600_000), ("tree/a.json", 2000), ("tree/b.bin", 40_000), ("tree/c.txt", 1)):
    (working / name).write_bytes(random.Random(f"{name} VERSION").randbytes(size))
for number in range(40):
    print(f"line {number} of version VERSION", flush=True)
sys.exit(VERSION - 1)
"""
LIVE_KERNEL = """
import time
for number in range(10):
    print(f"line {number}", flush=True)
    time.sleep(0.05)
"""


class Wrong(AssertionError):
    """The adapter gave something that is not true and said nothing."""


class VirtualTime:
    """Monotonic time in which waiting passes at once."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def clock(self) -> float:
        return time.monotonic() + self._ahead_s

    def sleep(self, seconds: float) -> None:
        self._ahead_s += seconds


@dataclass
class Stage:
    """One hostile local Kaggle with a finished session of two versions."""

    root: Path
    state: ServerState
    hostile: FaultMiddleware
    finished: SessionRef = field(init=False)
    outputs: dict[str, bytes] = field(init=False)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _read_timeout_s: float = READ_TIMEOUT_S

    def client(self, **options: float) -> KaggleClient:
        """A client whose waiting is virtual."""
        passing = VirtualTime()
        token = Credentials("token", None, self.state.account.token, "the stage")
        timeout_s = options.get("read_timeout_s", self._read_timeout_s)
        return KaggleClient(
            token, endpoint=self.state.address, read_timeout_s=timeout_s, sleep=passing.sleep, clock=passing.clock
        )

    def name(self, what: str) -> str:
        """A name nobody has used."""
        return f"km-{what}-{next(self._numbers)}"

    def play(self, *faults: dict[str, object], seed: int = 1) -> None:
        is_silent = any(fault["kind"] in SILENT_KINDS for fault in faults)
        self._read_timeout_s = IMPATIENT_S if is_silent else READ_TIMEOUT_S
        self.hostile.play(Plan.model_validate({"seed": seed, "fault": faults}))

    def run(self, slug: str, source: str, **options: str | int | tuple[str, ...]) -> SessionRef:
        """Push a kernel honestly and wait for its end."""
        with self.client(read_timeout_s=30) as client:
            version = client.start(SessionRequest(OWNER, slug, source, **options)).version  # type: ignore[arg-type]
            self.wait_for(client, version)
        return version

    def wait_for(self, client: KaggleClient, version: SessionRef) -> SessionState:
        deadline = time.monotonic() + 120
        while not (state := client.status(version).state).is_terminal:
            if time.monotonic() > deadline:
                raise TimeoutError(version.ref)
            time.sleep(0.02)
        return state

    def folder_of(self, version: SessionRef) -> Path:
        with self.state.transaction() as database:
            row = database.execute(
                "SELECT s.id FROM sessions s JOIN kernels k ON k.id = s.kernel_id WHERE k.slug = ? AND s.version = ?",
                (version.slug, int(version.id)),
            ).fetchone()
        return self.state.session_folder(row["id"])

    def versions_of(self, slug: str) -> int:
        with self.state.transaction() as database:
            query = "SELECT count(*) FROM sessions s JOIN kernels k ON k.id = s.kernel_id WHERE k.slug = ?"
            count: int = database.execute(query, (slug,)).fetchone()[0]
        return count


@contextmanager
def stage(root: Path) -> Iterator[Stage]:
    """Serve a hostile local Kaggle in `root` from this process."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "limits.json").write_text(json.dumps({"ingestion_s": 0.0, "cpu_sessions": 1000, "gpu_sessions": 1000}))
    listening = bound(0)
    state = ServerState(root, address=f"http://127.0.0.1:{listening.getsockname()[1]}")
    hostile = FaultMiddleware(create_app(state), state, Plan())
    server = uvicorn.Server(configuration(hostile, http=OpenProtocol))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    built = Stage(root, state, hostile)
    try:
        built.finished = built.run(SLUG, KERNEL.replace("VERSION", "1"))
        built.run(SLUG, KERNEL.replace("VERSION", "2"))
        working = built.folder_of(built.finished) / "working"
        built.outputs = {
            path.relative_to(working).as_posix(): path.read_bytes() for path in working.rglob("*") if path.is_file()
        }
        yield built
    finally:
        for session in (root / "sessions").glob("*"):
            (session / "cancel").touch()
        server.should_exit = True
        thread.join(timeout=10)
        listening.close()
        state.close()


# The adapter's calls. Each returns what to say of a right end, or raises Wrong, or an error of the project's.

Act = Callable[[Stage, KaggleClient], str]
RIGHT = "right"


def _check(truth: object, got: object) -> str:
    if got != truth:
        raise Wrong(f"{got!r:.80} instead of {truth!r:.80}")
    return RIGHT


def whoami(at: Stage, client: KaggleClient) -> str:
    return _check(OWNER, client.whoami())


def push(at: Stage, client: KaggleClient) -> str:
    slug = at.name("push")
    try:
        pushed = client.start(SessionRequest(OWNER, slug, "pass"))
    except AmbiguousPush:
        _check(True, at.versions_of(slug) <= 1)
        raise
    except KaggleManagerError:
        _check(0, at.versions_of(slug))
        raise
    _check(1, at.versions_of(slug))
    return _check(SessionRef(OWNER, slug, "1"), pushed.version)


def push_with_input(at: Stage, client: KaggleClient) -> str:
    slug = at.name("data")
    _publish(at, at.client(read_timeout_s=30), slug)
    pushed = client.start(SessionRequest(OWNER, slug, "pass", inputs=(f"{OWNER}/{slug}",)))
    return _check(SessionRef(OWNER, slug, "1"), pushed.version)


def kernel_status(at: Stage, client: KaggleClient) -> str:
    return _check(SessionState.COMPLETE, client.status(at.finished).state)


def newest_kernel(at: Stage, client: KaggleClient) -> str:
    found = client.newest(OWNER, SLUG)
    return _check((SessionRef(OWNER, SLUG, "2"), KERNEL.replace("VERSION", "2")), found)


def own_kernels(at: Stage, client: KaggleClient) -> str:
    return _check(True, SLUG in client.mine(OWNER))


def list_outputs(at: Stage, client: KaggleClient) -> str:
    listing = client.outputs(at.finished)
    _check(sorted(at.outputs), sorted(file.name for file in listing.files))
    return _check(True, any("of version 1" in line.text for line in listing.log))


def cancel_session(at: Stage, client: KaggleClient) -> str:
    client.cancel(at.finished, at.folder_of(at.finished).name)
    return RIGHT


def delete_kernel(at: Stage, client: KaggleClient) -> str:
    slug = at.name("gone")
    with at.state.transaction() as database:
        database.execute("INSERT INTO kernels (slug, title, created_at) VALUES (?, ?, 0)", (slug, slug))
    client.delete(OWNER, slug)
    with at.state.transaction() as database:
        row = database.execute("SELECT deleted_at FROM kernels WHERE slug = ?", (slug,)).fetchone()
    return _check(True, row["deleted_at"] is not None)


def quota(at: Stage, client: KaggleClient) -> str:
    got = client.quota()
    with at.state.transaction() as database:
        week = sessions.week(at.state, database)["GPU"]
    return _check((at.state.limits.gpu_week_s, round(week.reserved_s, -2)), (got.total_s, round(got.reserved_s, -2)))


def publish(at: Stage, client: KaggleClient) -> str:
    return _publish(at, client, at.name("data"))


def publish_again(at: Stage, client: KaggleClient) -> str:
    slug = at.name("data")
    _publish(at, at.client(read_timeout_s=30), slug)
    return _publish(at, client, slug)


def _publish(at: Stage, client: KaggleClient, slug: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tree.pack"
        file.write_bytes(slug.encode() * 20_000)
        published = publish_dataset(client, owner=OWNER, slug=slug, files=[file], notes="a note")
        if isinstance(published, NotReady):
            raise Unavailable("It did not become current in time.")
        with at.state.transaction() as database:
            row = database.execute("SELECT id FROM datasets WHERE slug = ?", (slug,)).fetchone()
        there = at.state.dataset_folder(row["id"], published.version) / "files/tree.pack"
        return _check(hashlib.sha256(file.read_bytes()).hexdigest(), hashlib.sha256(there.read_bytes()).hexdigest())


def download(at: Stage, client: KaggleClient) -> str:
    expected = [
        ExpectedFile(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in at.outputs.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        try:
            download_outputs(client, at.finished, expected, Path(folder))
        finally:
            _all_true(at, Path(folder))
        return _check(len(at.outputs), len(list(_files(Path(folder)))))


def download_unvouched(at: Stage, client: KaggleClient) -> str:
    """One file of which neither size nor hash is known."""
    with tempfile.TemporaryDirectory() as folder:
        link = next(file for file in client.outputs(at.finished).files if file.name == "model.bin")
        try:
            download_file(client, link, Path(folder) / link.name, size=None, sha256=None)
        finally:
            _all_true(at, Path(folder))
        return RIGHT


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".part")


def _all_true(at: Stage, folder: Path) -> None:
    """No file under its final name has other bytes than its own."""
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if path.read_bytes() != at.outputs[name]:
            raise Wrong(f"{name} has other bytes than its own")


def stored_log(at: Stage, client: KaggleClient) -> str:
    lines = [line.text for line in follow_log(client, at.finished, stop=lambda: False)]
    return _log_verdict(lines, [f"line {number} of version 1" for number in range(40)])


def live_log(at: Stage, client: KaggleClient) -> str:
    with at.client(read_timeout_s=30) as honest:
        version = honest.start(SessionRequest(OWNER, at.name("live"), LIVE_KERNEL)).version
    # The session's time is real, and so is this client's; it is only more impatient.
    client.sleep, client.retry = time.sleep, RetryPolicy(base_s=0.1, sleep=time.sleep)
    verdict = at.folder_of(version) / "verdict.json"

    def stop() -> bool:
        """Long after its end; how long a loaded machine takes to start it is not the client's fault."""
        return verdict.exists() and time.time() - verdict.stat().st_mtime > 4

    lines = [line.text for line in follow_log(client, version, stop=stop)]
    return _log_verdict(lines, [f"line {number}" for number in range(10)])


def _log_verdict(lines: list[str], truth: list[str]) -> str:
    """A log may have lost lines, or pieces of the one it was cut in; it has no line twice and none out of order."""
    known = [line for line in lines if line in truth]
    if len(lines) - len(known) > 1 or known != sorted(set(known), key=truth.index):
        raise Wrong(f"the log says {lines}")
    return RIGHT if known == truth else "part"
