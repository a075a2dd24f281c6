"""A live log gives each line once and in order, through any number of broken connections."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest
from scripted_kaggle import Reply, ScriptedKaggle, SeenRequest, answer, page, reset

from kaggle_manager.errors import AuthError, NotFound, Unavailable
from kaggle_manager.platforms.kaggle.log_stream import follow_log
from kaggle_manager.platforms.platform import LogLine, SessionRef

VERSION = SessionRef("alice", "km-run", "7")


def event(n: int, text: str | None = None) -> dict[str, object]:
    return {"stream_name": "stdout", "time": float(n), "data": f"{text or f'line {n} é'}\n"}


def live(
    *events: dict[str, object],
    end: bool = False,
    pause: float = 0.0,
    chunked: bool = True,
    tear: bool = False,
    turn: threading.Semaphore | None = None,
) -> Reply:
    """A live stream of these events, each sent when `turn` lets it; without `end` the connection is over after them."""

    def send(handler, seen: SeenRequest) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Connection", "close")))
        handler.end_headers()
        payloads = [json.dumps(one, ensure_ascii=False) for one in events] + (["END_OF_LOG"] if end else [])
        for payload in payloads:
            assert turn is None or turn.acquire(timeout=60)
            data = f": comment\ndata: {payload}\n\n".encode()
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)
            handler.wfile.flush()
            time.sleep(pause)
        if tear:
            reset(handler, seen)
            return
        if chunked:
            handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = True

    return send


@pytest.fixture
def kaggle():
    with ScriptedKaggle() as scripted:
        yield scripted


def follow(kaggle, *replies: Reply, **options) -> Iterator[LogLine]:
    kaggle.script("km-run", *replies)
    options.setdefault("stop", lambda: False)
    return follow_log(kaggle.client(read_timeout_s=30), VERSION, **options)


def numbers(lines) -> list[tuple[int, float]]:
    return [(line.index, line.time_s) for line in lines]


def test_a_whole_log_in_one_connection(kaggle):
    lines = list(follow(kaggle, live(event(0), event(1), end=True)))
    assert lines == [LogLine(0, "stdout", 0.0, "line 0 é"), LogLine(1, "stdout", 1.0, "line 1 é")]
    assert kaggle.seen[0].path == "/api/v1/kernels/logs/stream/alice/km-run?versionLabel=v7"


@pytest.mark.parametrize("tear", [False, True])
def test_lines_that_are_replayed_are_given_once(kaggle, tear):
    lines = follow(
        kaggle,
        live(event(0), event(1), tear=tear, pause=0.02),
        answer({}, 503),
        live(event(0), event(1), event(2), tear=tear, pause=0.02),
        live(event(0)),
        live(event(0), event(1), event(2), event(3), end=True),
    )
    assert numbers(lines) == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]


def test_a_session_that_finished_meanwhile_gives_the_rest_from_its_stored_log(kaggle):
    lines = follow(kaggle, live(event(0), event(1)), answer([event(n) for n in range(4)]))
    assert numbers(lines) == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]


def test_a_log_whose_head_is_gone_goes_on_by_time(kaggle):
    lines = follow(kaggle, live(event(0), event(1), event(2)), live(event(1), event(2), event(3), event(4), end=True))
    assert numbers(lines) == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]


def test_a_stored_log_that_was_cut_at_its_head_is_read_as_far_as_it_goes(kaggle):
    text = json.dumps([event(n) for n in range(3)])
    lines = follow(kaggle, answer(text[20:].encode()))
    assert [line.text for line in lines] == ["line 1 é", "line 2 é"]


@pytest.mark.parametrize("chunked", [True, False])
def test_a_line_arrives_when_it_is_printed(kaggle, chunked):
    turn = threading.Semaphore(1)
    arrived = []
    for line in follow(kaggle, live(*(event(n) for n in range(4)), end=True, chunked=chunked, turn=turn)):
        arrived.append(line.index)
        turn.release()  # the next one is printed once this one is here
    assert arrived == [0, 1, 2, 3]


def test_bytes_split_anywhere_are_put_together(kaggle):
    data = f"data: {json.dumps(event(0), ensure_ascii=False)}\r\n\r\ndata: END_OF_LOG\n\n".encode()

    def bytewise(handler, seen: SeenRequest) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for byte in data:
            handler.wfile.write(b"1\r\n%c\r\n" % byte)
            handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")

    assert [line.text for line in follow(kaggle, bytewise)] == ["line 0 é"]


def test_an_event_that_cannot_be_read_is_shown_as_it_is(kaggle):
    def broken(handler, seen: SeenRequest) -> None:
        answer(b"data: {broken\ndata: \xff\xfe\ndata: END_OF_LOG\n", content_type="text/event-stream")(handler, seen)

    assert [line.text for line in follow(kaggle, broken)] == ["{broken", "��"]


def test_silence_is_no_failure_and_stop_ends_it(kaggle):
    lines = follow(kaggle, live(), stop=lambda: len(kaggle.seen) >= 20)
    assert list(lines) == []
    assert len(kaggle.seen) == 20


def test_stop_is_looked_at_between_lines(kaggle):
    stopped = threading.Event()
    got = []
    for line in follow(kaggle, live(*(event(n) for n in range(9))), stop=stopped.is_set):
        got.append(line.index)
        if line.index == 3:
            stopped.set()
    assert got == [0, 1, 2, 3]


def test_what_cannot_be_opened_is_a_typed_error(kaggle):
    with pytest.raises(Unavailable):
        list(follow(kaggle, page(502)))
    assert len(kaggle.seen) == 6
    with pytest.raises(NotFound):
        list(follow(kaggle, answer({"code": 404, "message": "no"}, 404)))
    kaggle.script("IntrospectToken", answer({}, 401))
    with pytest.raises(AuthError):
        list(follow(kaggle, answer({"code": 403, "message": "no"}, 403)))


def test_failures_between_quiet_connections_do_not_add_up(kaggle):
    def stop() -> bool:
        return len(kaggle.seen) >= 30

    lines = follow(kaggle, *[reset, live()] * 20, stop=stop)
    assert list(lines) == []
