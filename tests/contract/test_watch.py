"""A session is watched to its end, or for one look, and nothing its log or its platform does keeps the watch for ever.

Real HTTP and the real log reader; only the clock is turned by hand: it moves when the log is silent.
"""

from __future__ import annotations

import io
import json
import queue
import threading
from typing import Any

import pytest
from scripted_kaggle import Reply, ScriptedKaggle, answer
from scripted_kaggle import SeenRequest as Request

from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import NotFound, Unavailable
from kaggle_manager.platforms.platform import LogLine, SessionRef, SessionState, SessionStatus
from kaggle_manager.protocol.events import ContainerEvent, Event, ProgressEvent, ResultEvent, format_event
from kaggle_manager.sessions.log_reader import LogQueue
from kaggle_manager.sessions.progress import SILENT_AT_START_S, SILENT_S, SessionProgress
from kaggle_manager.sessions.watch import QUEUED_LONG_S, RESULT_GRACE_S, UNKNOWN_FOR_S, watch

VERSION = SessionRef("alice", "km-run", "7")
CODE = "c" * 64
STATUS, LOG = "GetKernelSessionStatus", "km-run"
TAG = "run/2"


def told(event: Event, tag: str = TAG) -> str:
    """An event as its line."""
    return format_event(event, tag).strip()


def result(code: str) -> ResultEvent:
    return ResultEvent(
        run_id="run",
        generation=2,
        bundle_sha256=code,
        outcome="completed",
        reason="",
        exit_code=0,
        step=1000,
        output_files=5,
    )


PROGRESS = told(ProgressEvent(step=500, target=1000, steps_per_s=2.5, reward=-3.25, checkpoint=400))
RESULT = told(result(CODE))
CONTAINER = told(ContainerEvent(container="k-42"))


def log(*texts: str, end: bool = False, head: int = 0, end_at: threading.Event | None = None) -> Reply:
    """A live log of these lines, a second apart; without `end` it then stays silent and open, until `end_at` is set."""

    def send(handler: Any, seen: Request) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        for number, text in enumerate(texts, start=head):
            event = {"stream_name": "stdout", "time": float(number), "data": f"{text}\n"}
            handler.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        handler.wfile.flush()
        if not end:
            (end_at or handler.server.released).wait(120)
        if end or end_at:
            handler.wfile.write(b"data: END_OF_LOG\n\n")
            handler.wfile.flush()
        handler.close_connection = True

    return send


def status(word: str) -> Reply:
    return answer({"status": word})


class Bench:
    """A scripted Kaggle, and a clock that moves only while the log is silent."""

    def __init__(self, kaggle: ScriptedKaggle) -> None:
        self.kaggle, self.now, self.said = kaggle, 1_000_000.0, io.StringIO()
        self.seen: list[SessionProgress] = []
        self.lines = 0  # how many lines the test waits for before the clock may move

    def clock(self) -> float:
        return self.now

    def wait(self, lines: LogQueue, seconds: float) -> LogLine | None:
        try:
            line = lines.get(timeout=60.0 if self.lines > 0 else 0.0002)
        except queue.Empty:
            self.now += seconds
            raise
        self.lines -= 1
        return line

    def watch(self, *, lines: int = 0, **options: Any) -> SessionStatus:
        self.lines = lines
        return watch(
            self.kaggle.client(read_timeout_s=30),
            VERSION,
            Reporter(self.said, clock=self.clock),
            tag=TAG,
            bundle_sha256=CODE,
            on_seen=self.seen.append,
            clock=self.clock,
            wall=self.clock,
            random_share=lambda: 1.0,
            **{"wait": self.wait, **options},
        )

    @property
    def text(self) -> str:
        return self.said.getvalue()


@pytest.fixture
def bench():
    with ScriptedKaggle() as kaggle:
        yield Bench(kaggle)


def test_the_end_of_the_log_asks_for_the_status_at_once(bench):
    over = threading.Event()
    bench.kaggle.script(STATUS, lambda *at: status("COMPLETE" if over.is_set() else "RUNNING")(*at))
    bench.kaggle.script(LOG, log("hello", PROGRESS, end_at=over))
    begun = bench.now

    def wait(lines: LogQueue, seconds: float) -> LogLine | None:
        if bench.now - begun >= 600 and not over.is_set():  # polls are minutes apart by now
            assert len(bench.kaggle.asked(STATUS)) < 16
            over.set()
            bench.lines = 1
        return Bench.wait(bench, lines, seconds)

    ended = bench.watch(lines=2, wait=wait)
    assert ended == SessionStatus(SessionState.COMPLETE, "", "COMPLETE")
    assert 600 <= bench.now - begun < 620
    assert "hello" in bench.text
    assert "step 500/1000 · target in 3 min 20 s · 2.5 steps/s · reward -3.25 · last checkpoint 400" in bench.text


def test_why_a_session_waits_is_said_once_and_again_when_it_is_another_reason(bench):
    held, down = ({"status": "QUEUED", "failureMessage": why} for why in ("it is held", "its partition is down"))
    bench.kaggle.script(STATUS, *map(answer, (held, held, down)), status("COMPLETE"))
    bench.kaggle.script(LOG, log(end=True))
    bench.watch()
    assert bench.text.count("): it is held") == 1
    assert bench.text.count("): its partition is down") == 1


def test_a_watch_that_lasts_makes_few_requests(bench):
    seconds = 2400
    bench.kaggle.script(LOG, log("hello", PROGRESS))
    bench.kaggle.script(STATUS, status("RUNNING"))
    assert bench.watch(lines=2, until=bench.now + seconds).state is SessionState.RUNNING
    assert len(bench.kaggle.asked(STATUS)) < 15 + seconds / 240
    assert len(bench.seen) <= 2 + seconds / 10


def test_a_running_session_that_falls_silent_is_reported_once_and_left_alone(bench):
    bench.kaggle.script(STATUS, status("RUNNING"))
    bench.kaggle.script(LOG, log("hello", PROGRESS))
    bench.watch(lines=2, until=bench.now + SILENT_S - 60)
    assert "wedged" not in bench.text
    bench.watch(lines=2, until=bench.now + 3 * SILENT_S)
    assert bench.text.count("may be wedged") == 1
    assert bench.seen[-1].wedged
    assert bench.kaggle.asked("CancelKernelSession") == []


def test_a_session_that_still_installs_may_be_silent_for_longer(bench):
    bench.kaggle.script(STATUS, status("RUNNING"))
    bench.kaggle.script(LOG, log("installing"))
    bench.watch(lines=1, until=bench.now + SILENT_AT_START_S - 60)
    assert "wedged" not in bench.text
    bench.watch(lines=1, until=bench.now + SILENT_AT_START_S + 60)
    assert "wedged" in bench.text


def test_silence_counts_on_from_one_look_to_the_next_and_ends_with_a_line(bench):
    bench.kaggle.script(STATUS, status("RUNNING"))
    bench.kaggle.script(LOG, log("hello", PROGRESS))
    bench.watch(lines=2, until=0)
    bench.now += SILENT_S + 60
    bench.watch(lines=2, until=0, earlier=bench.seen[-1])
    assert bench.text.count("may be wedged") == 1
    bench.watch(lines=2, until=0, earlier=bench.seen[-1])
    assert bench.text.count("may be wedged") == 1
    bench.kaggle.script(LOG, log("hello", PROGRESS, "there again"))
    bench.watch(lines=3, until=0, earlier=bench.seen[-1])
    assert "prints again" in bench.text
    assert not bench.seen[-1].wedged


def test_a_log_that_cannot_be_read_is_not_a_silent_session(bench):
    bench.kaggle.script(STATUS, status("RUNNING"))
    bench.kaggle.script(LOG, log(PROGRESS))
    bench.watch(lines=1, until=0)
    bench.kaggle.script(LOG, answer({}, 503))
    bench.now += 2 * SILENT_S
    bench.watch(until=0, earlier=bench.seen[-1])
    assert "wedged" not in bench.text


def test_a_machine_that_slept_does_not_take_its_own_silence_for_the_sessions(bench):
    bench.kaggle.script(STATUS, status("RUNNING"))
    bench.kaggle.script(LOG, log(PROGRESS))
    asked = iter([None] * 3)

    def wait(lines: LogQueue, seconds: float) -> LogLine | None:
        try:
            return bench.__class__.wait(bench, lines, seconds)
        finally:
            if next(asked, 0) == 0 and bench.now < 1_000_100:
                bench.now += 8 * 3600  # the lid was closed

    client = bench.kaggle.client(read_timeout_s=30)
    bench.lines = 1
    watch(
        client,
        VERSION,
        Reporter(bench.said),
        tag=TAG,
        bundle_sha256=CODE,
        until=bench.now + 8 * 3600 + 300,
        clock=bench.clock,
        wall=bench.clock,
        wait=wait,
    )
    assert "wedged" not in bench.text


def test_a_last_word_ends_a_session_that_is_called_running_for_ever(bench):
    bench.kaggle.script(STATUS, status("RUNNING"))
    bench.kaggle.script(LOG, log(PROGRESS, RESULT))
    begun = bench.now
    ended = bench.watch(lines=2)
    assert (ended.state, ended.ended_by_log) == (SessionState.RUNNING, True)
    assert RESULT_GRACE_S <= bench.now - begun < RESULT_GRACE_S + 60


def test_a_last_word_counts_on_from_one_look_to_the_next(bench):
    bench.kaggle.script(STATUS, status("RUNNING"))
    bench.kaggle.script(LOG, log(RESULT))
    assert not bench.watch(lines=1, until=0).ended_by_log
    bench.now += RESULT_GRACE_S + 1
    assert bench.watch(until=0, earlier=SessionProgress.of(bench.seen[-1].as_facts())).ended_by_log


def test_the_last_word_of_other_code_ends_nothing(bench):
    bench.kaggle.script(STATUS, status("RUNNING"))
    bench.kaggle.script(LOG, log(told(result("other"))))
    assert not bench.watch(lines=1, until=bench.now + 2 * RESULT_GRACE_S).ended_by_log


def test_an_event_is_seen_behind_text_without_a_line_end_and_shown_as_words(bench):
    bench.kaggle.script(STATUS, status("RUNNING"))
    # As Kaggle cuts what was printed: dots, the event's own line end, the event; then dots that run into one.
    bench.kaggle.script(LOG, log("one", "", "two", "", PROGRESS, "...", "", CONTAINER, f"...{RESULT}"))
    bench.watch(lines=9, until=0)
    assert (bench.seen[-1].step, bench.seen[-1].container) == (500, "k-42")
    assert bench.seen[-1].result_at is not None
    assert "KM_" not in bench.text
    kernel = [line.strip() for line in bench.text.splitlines() if line.startswith("  |")]
    assert kernel == ["| one", "|", "| two", "| ..."]


def test_an_event_of_another_session_is_shown_as_text_and_changes_nothing(bench):
    bench.kaggle.script(STATUS, status("RUNNING"))
    other = told(ProgressEvent(step=900, target=1000), "run/1")
    bench.kaggle.script(LOG, log(PROGRESS, other, told(result(CODE), "run/1")))
    bench.watch(lines=3, until=0)
    assert (bench.seen[-1].step, bench.seen[-1].result_at) == (500, None)
    assert other in bench.text


def test_one_look_reads_what_the_log_has_and_the_next_shows_only_what_is_new(bench):
    bench.kaggle.script(STATUS, status("RUNNING"))
    bench.kaggle.script(LOG, log(CONTAINER, "hello", PROGRESS))
    assert bench.watch(lines=3, until=0, session_s=100.0).state is SessionState.RUNNING
    seen = bench.seen[-1]
    assert (seen.step, seen.target, seen.steps_per_s, seen.reward) == (500, 1000, 2.5, -3.25)
    assert (seen.last_checkpoint, seen.container, seen.lines) == (400, "k-42", 3)
    assert "session ends in 1 min" in bench.text
    bench.kaggle.script(LOG, log(CONTAINER, "hello", PROGRESS, "news"))
    bench.watch(lines=4, until=0, earlier=seen)
    assert (bench.text.count("hello"), bench.text.count("news")) == (1, 1)
    assert len(bench.kaggle.asked(STATUS)) == 2


def test_a_log_that_lost_its_head_still_gives_what_is_new(bench):
    bench.kaggle.script(STATUS, status("RUNNING"))
    bench.kaggle.script(LOG, log("one", "two", "three"))
    bench.watch(lines=3, until=0)
    bench.kaggle.script(LOG, log("three", "four", head=2))
    bench.watch(lines=2, until=0, earlier=bench.seen[-1])
    assert (bench.text.count("three"), bench.text.count("four")) == (1, 1)


def test_one_look_at_a_queued_session_asks_once_and_waits_for_nothing(bench):
    bench.kaggle.script(STATUS, status("QUEUED"))
    bench.kaggle.script(LOG, answer({"code": 404, "message": "no"}, 404))
    begun = bench.now
    assert bench.watch(until=0).state is SessionState.QUEUED
    assert bench.now == begun


def test_a_long_wait_in_the_queue_is_told(bench):
    bench.kaggle.script(STATUS, status("QUEUED"))
    bench.kaggle.script(LOG, log())
    bench.watch(until=bench.now + QUEUED_LONG_S - 60)
    assert "has been QUEUED" not in bench.text
    bench.watch(until=bench.now + QUEUED_LONG_S + 120, earlier=bench.seen[-1])
    assert bench.text.count("has been QUEUED") == 1


def test_a_session_that_is_not_known_yet_is_no_verdict_until_it_stays_so(bench):
    bench.kaggle.script(STATUS, answer({"code": 404, "message": "no"}, 404))
    bench.kaggle.script(LOG, answer({"code": 404, "message": "no"}, 404))
    looked = bench.watch(until=0)
    assert looked.state is SessionState.UNKNOWN
    assert not looked.state.is_terminal
    bench.now += UNKNOWN_FOR_S + 1
    with pytest.raises(NotFound):
        bench.watch(until=0, earlier=bench.seen[-1])


def test_one_look_that_gets_no_answer_says_so(bench):
    bench.kaggle.script(STATUS, answer({}, 503))
    bench.kaggle.script(LOG, answer({}, 503))
    with pytest.raises(Unavailable):
        bench.watch(until=0)


def test_what_was_seen_is_told_when_the_watch_is_interrupted(bench):
    bench.kaggle.script(STATUS, status("RUNNING"))
    bench.kaggle.script(LOG, log(PROGRESS))

    def press_ctrl_c(lines: LogQueue, seconds: float) -> LogLine | None:
        if bench.lines == 0:
            raise KeyboardInterrupt
        return Bench.wait(bench, lines, seconds)

    bench.lines = 1
    with pytest.raises(KeyboardInterrupt):
        watch(
            bench.kaggle.client(),
            VERSION,
            Reporter(bench.said),
            tag=TAG,
            bundle_sha256=CODE,
            on_seen=bench.seen.append,
            wait=press_ctrl_c,
        )
    assert bench.seen[-1].step == 500


def test_what_has_come_of_the_log_lies_in_a_file_once_however_often_it_is_watched(bench, tmp_path):
    copy = tmp_path / "generation_1" / "kernel.log"
    bench.kaggle.script(STATUS, status("RUNNING"))
    bench.kaggle.script(LOG, log("hello", PROGRESS))
    bench.watch(lines=2, until=0.0, log_copy=copy)
    bench.watch(lines=2, until=0.0, log_copy=copy, earlier=bench.seen[-1])
    assert copy.read_text() == f"hello\n{PROGRESS}\n"


def test_a_disk_that_refuses_the_copy_ends_nothing(bench, tmp_path):
    (tmp_path / "file").write_text("")
    bench.kaggle.script(STATUS, status("RUNNING"))
    bench.kaggle.script(LOG, log("hello"))
    bench.watch(lines=1, until=0.0, log_copy=tmp_path / "file" / "kernel.log")
    assert "hello" in bench.text
