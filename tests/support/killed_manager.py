"""A manager killed with SIGKILL before and after everything it does that somebody else can see.

Three kinds of deeds are counted: writes of the journal, requests over HTTP, and folders moved into their place. Each
has a point before it and one after it. A manager is a process of its own (a fork of this one): it is given points,
kills itself at the first of them that it comes to, and the next one goes on with the rest, until the run is finished.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from small_project import SECTION, Bench, installed

from kaggle_manager.checkpoints import CheckpointStore, Disk
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.transport import TimeoutAdapter
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions import bundle, reconcile, watch

TARGET, GENERATIONS = 6, 3
# Polls, downloads and facts are not the same number twice; the first of each are as good as all.
FIRST_OF_A_KIND = 3
TOO_MANY_PROCESSES = 2000
WRITES = (
    *("add_run", "change_run", "change_settings"),
    *("add_session", "update_session", "add_facts", "drop_intent", "note"),
)


class Point(NamedTuple):
    """Where a manager dies: how many sessions its journal had, what it did for the how-manieth time, and which side."""

    sessions: int
    deed: str
    number: int
    side: Literal["before", "after"]

    def __str__(self) -> str:
        return f"{self.sessions} {self.deed} #{self.number} {self.side}"

    @classmethod
    def of(cls, text: str) -> Point:
        sessions, deed, number, side = re.fullmatch(r"(\d+) (.+) #(\d+) (before|after)", text).groups()  # type: ignore[union-attr]
        return cls(int(sessions), deed, int(number), "before" if side == "before" else "after")


@dataclass
class Watched:
    """What the deeds of this process are reported to: counts them, and ends the process at one of `deadly`."""

    sessions: int
    reached: Callable[[Point], None]
    counts: Counter[tuple[int, str]] = field(default_factory=Counter)

    def wrap(self, owner: Any, name: str, deed: Callable[..., str | None]) -> None:
        """Make `owner.name` report what `deed` calls it; None is no deed."""
        real = getattr(owner, name)

        def reporting(*arguments: Any, **options: Any) -> Any:
            called = deed(*arguments, **options)
            if called is None:
                return real(*arguments, **options)
            place = (self.sessions, called)
            self.counts[place] += 1
            number = self.counts[place]
            self.reached(Point(*place, number, "before"))
            result = real(*arguments, **options)
            self.reached(Point(*place, number, "after"))
            self.sessions += {"add_session": 1, "drop_intent": -1}.get(name, 0)
            return result

        setattr(owner, name, reporting)

    def wrap_transactions(self) -> None:
        """After one of them is after its commit: what was written inside is on disk, all of it."""
        real = Journal.together

        @contextmanager
        def around(journal: Journal, where: str) -> Iterator[None]:
            if journal._db.in_transaction:  # the one around it commits
                yield
                return
            place = (self.sessions, f"journal: together in {where}")
            self.counts[place] += 1
            self.reached(Point(*place, self.counts[place], "before"))
            with real(journal):
                yield
            self.reached(Point(*place, self.counts[place], "after"))

        def named(journal: Journal) -> Any:
            frame: Any = sys._getframe(1)
            while frame.f_code.co_name in ("together", "__enter__"):  # RunState's, which calls the journal's
                frame = frame.f_back
            return around(journal, frame.f_code.co_name)

        Journal.together = named  # type: ignore[method-assign]

    def everything(self) -> None:
        self.wrap_transactions()
        for name in WRITES:
            self.wrap(Journal, name, lambda *a, name=name, **o: f"journal: {name} {written(name, a, o)}".strip())
        self.wrap(TimeoutAdapter, "send", lambda _adapter, request, **_: f"HTTP: {call(request)}")
        self.wrap(Disk, "replace", lambda _disk, source, to: move(Path(source), Path(to)))


def written(name: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> str:
    if name == "note":
        return str(arguments[3])
    if name == "update_session":
        return str(options.get("stage", ""))
    return " ".join(sorted(options)) if name == "add_facts" and "timings" not in options else ""


def call(request: Any) -> str:
    """The name of a call of the API; those for files have addresses of their own."""
    path = request.url.partition("?")[0]
    if match := re.search(r"Service/(\w+)$", path):
        return match[1]
    if "logs" in path or "stream" in path.lower():
        return "log stream"
    return f"{request.method} of a file"


def move(source: Path, to: Path) -> str | None:
    return f"disk: {source.suffix or source.name} becomes {to.suffix or to.name}" if source.is_dir() else None


def carry_on(bench: Bench, by: str) -> None:
    """The same command: `run`, or `tick` until the target is reached."""
    if by == "run":
        bench.run(timesteps=TARGET)
        return
    while (report := bench.manager().tick(SECTION, timesteps=TARGET)).state != "finished":
        time.sleep(0.1)  # the session is a real process
        if report.waiting_until is not None:
            bench.slept.append(60.0)


def in_a_process(bench: Bench, by: str, deadly: Collection[Point], reached: Path) -> Point | None:
    """Carry the run on in a new process; the point at which it killed itself, or None when the run is finished.

    Args:
        reached: a file that gets a line for each point the process came to.
    """
    died = reached.with_suffix(".died")
    for path in (reached, died):
        path.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            _live(bench, by, deadly, reached)
        except BaseException:
            reached.with_suffix(".error").write_text(f"{traceback.format_exc()}\n{bench.output}")
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return Point.of(died.read_text().splitlines()[0])
    if status != 0:
        raise AssertionError(reached.with_suffix(".error").read_text())
    return None


def _live(bench: Bench, by: str, deadly: Collection[Point], reached: Path) -> None:
    path = bench.workdir / "journal.sqlite"
    known = 0
    if path.exists():
        with closing(Journal(path)) as journal:
            known = sum(len(journal.sessions(run.run_id)) for run in journal.runs())

    def write_or_die(point: Point) -> None:
        with reached.open("a") as lines:
            lines.write(f"{point}\n")
        if point in deadly:
            with reached.with_suffix(".died").open("a") as lines:
                lines.write(f"{point}\n")
            os.kill(os.getpid(), signal.SIGKILL)

    watch.FIRST_POLL_S, reconcile.LOOK_EVERY_S = 0.1, 0.0
    bundle.INSTALLED = installed(bench.project)
    Watched(known, write_or_die).everything()
    carry_on(bench, by)


def points_of(bench: Bench, by: str, reached: Path) -> list[Point]:
    """The points of a run that nobody kills, in the order it comes to them."""
    assert in_a_process(bench, by, (), reached) is None
    points = map(Point.of, reached.read_text().splitlines())
    return [point for point in points if point.number <= FIRST_OF_A_KIND]


def kill_at(bench: Bench, by: str, points: Collection[Point], reached: Path) -> list[Point]:
    """Carry a run to its end although it is killed at each of `points` that it comes to; those it came to."""
    deadly = set(points)
    struck: list[Point] = []
    for _ in range(TOO_MANY_PROCESSES):
        died_at = in_a_process(bench, by, deadly, reached)
        if died_at is None:
            return struck
        deadly.discard(died_at)
        struck.append(died_at)
    raise AssertionError("the run does not end")


@dataclass(frozen=True)
class Left:
    """What a run has left: what must be the same, however often it was killed."""

    final: bytes
    checkpoints: tuple[bytes, ...]
    generations: tuple[int, ...]
    versions: int
    events: Mapping[tuple[str, int], int]


ONCE = ("pushed", "ended", "downloaded", "closed")


def left_by(bench: Bench) -> Left:
    """Raises AssertionError when there is no final model."""
    final = CheckpointStore(bench.tree).final()
    assert final is not None
    assert final.step == TARGET
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        (row,) = journal.runs()
        sessions: list[SessionRow] = journal.sessions(row.run_id)
        kinds = Counter((event["kind"], event["generation"] or 0) for event in journal.events(row.run_id))
    with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:
        newest = client.newest(row.owner, row.slug)
    folder = bench.tree.checkpoints
    return Left(
        final=bench.tree.final.read_bytes(),
        checkpoints=tuple(path.read_bytes() for path in sorted(folder.glob("*_steps.*")) if path.suffix != ".json"),
        generations=tuple(session.generation for session in sessions),
        versions=int(newest[0].id) if newest else 0,
        # Who asks again for a run that is finished is told so again.
        events={
            **{key: kinds[key] for key in sorted(kinds) if key[0] in ONCE},
            ("finished", 0): min(1, kinds["finished", 0]),
        },
    )


def wrong_with(left: Left, untouched: Left) -> list[str]:
    """What a killed run has left differently from one that was not."""
    return [name for name in Left.__dataclass_fields__ if getattr(left, name) != getattr(untouched, name)]


if __name__ == "__main__":
    sys.exit("This is imported by tests and by scripts/benchmarks/crash_every_step.py.")
