"""Follow a session's log while it runs.

Promises: each line once and in order, through any number of broken connections; ends when the log does. The server
sends the log from its start on every connection, so lines already given are recognised and left out. What a log costs
is linear in its length, and in memory next to nothing. Never says how a session ended: only its status does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import requests

from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.platforms.kaggle.connection import ApiConnection
from kaggle_manager.platforms.kaggle.log_lines import event_lines, stored_events
from kaggle_manager.platforms.kaggle.models import label_of
from kaggle_manager.platforms.kaggle.transport import Refused, read_body
from kaggle_manager.platforms.long_strings import lines, texts, with_short_strings
from kaggle_manager.platforms.platform import LogLine, SessionRef

_END = "END_OF_LOG"
# Kaggle's load balancer cuts a silent stream after about three minutes; this many read time-outs (four minutes) only
# catch a connection that is dead.
_SILENT_TIMEOUTS = 4
_CHUNK = 64 * 1024
# In characters. Of a longer one the head and the tail are kept.
_LONGEST_EVENT = 1_000_000
# How often to look at `stop` while waiting to connect again.
_LOOK_S = 0.5


def follow_log(client: ApiConnection, version: SessionRef, *, stop: Callable[[], bool]) -> Iterator[LogLine]:
    """Yield the lines of exactly this session's log as they are printed; for a finished session, all of them at once.

    Args:
        stop: looked at between lines, between connections, and at least every four minutes.

    Raises:
        AuthError, NotFound, RemoteError: the log could not be opened, for as often as the client's patience lasts.
    """
    replay = _Replay()
    failures = silences = 0
    while not stop():
        seen = replay.count
        failure: KaggleManagerError | None = None
        try:
            with _open(client, version) as response:
                replay.restart()
                is_live = response.headers.get("Content-Type", "").lower().startswith("text/event-stream")
                events = _live(response) if is_live else _stored(response, client.transport.read_timeout_s)
                for line in replay.new_lines(events):
                    yield line
                    if stop():
                        return
                if not is_live or replay.ended:
                    return
            # Cut off without a word, as load balancers do: no failure, however often, and no sequel to one.
            silences, failures = silences + 1, 0
        except requests.RequestException as error:
            failure = client.transport.failure(error, "log stream")
        except KaggleManagerError as error:
            failure = error
        if replay.count > seen:
            failures = silences = 0
        if failure is not None:
            failures += 1
            if failures >= client.retry.attempts or not failure.retryable:
                raise failure
        _wait(client, client.retry.pause_s(max(1, failures + silences), failure), stop)


def _open(client: ApiConnection, version: SessionRef) -> requests.Response:
    path = f"kernels/logs/stream/{quote(version.owner, safe='')}/{quote(version.slug, safe='')}"
    silence_s = _SILENT_TIMEOUTS * client.transport.read_timeout_s
    failure: KaggleManagerError
    try:
        return client.transport.stream(path, {"versionLabel": label_of(version)}, silence_s)
    except Refused as error:
        refused = error
    failure = client.explain(refused, f"log of {version.ref}")
    raise failure


def _live(response: requests.Response) -> Iterator[Mapping[str, Any] | None]:
    """Server-sent events; None stands for the end of the log."""
    for line in lines(_pieces(response), _LONGEST_EVENT):
        field, _, payload = line.rstrip("\r").partition(":")
        if field != "data":
            continue
        payload = payload.removeprefix(" ")
        if payload == _END:
            yield None
            return
        yield _event(payload)


def _stored(response: requests.Response, stalled_after_s: float) -> Iterator[Mapping[str, Any]]:
    return stored_events(_pieces(response, stalled_after_s))


def _pieces(response: requests.Response, stalled_after_s: float | None = None) -> Iterator[str]:
    pieces = texts(read_body(response, _CHUNK, stalled_after_s=stalled_after_s))
    return with_short_strings(pieces, head=_LONGEST_EVENT // 4, tail=_LONGEST_EVENT // 4)


def _event(payload: str) -> Mapping[str, Any]:
    try:
        event = json.loads(payload)
    except (ValueError, RecursionError):
        event = None
    return event if isinstance(event, dict) else {"data": payload}


def _wait(client: ApiConnection, seconds: float, stop: Callable[[], bool]) -> None:
    while seconds > 0 and not stop():
        client.sleep(min(_LOOK_S, seconds))
        seconds -= _LOOK_S


class _Replay:
    """Leaves out what an earlier connection gave.

    Lines are counted. When the log's head is gone (its first line is another one than before) counting means nothing
    any more, and the newest time seen decides; lines of that same instant are then taken as given.
    """

    def __init__(self) -> None:
        self.count = 0
        self.ended = False
        self._first: LogLine | None = None
        self._newest_s = float("-inf")
        self._position = 0
        self._is_whole = True

    def restart(self) -> None:
        self._position = 0

    def new_lines(self, events: Iterator[Mapping[str, Any] | None]) -> Iterator[LogLine]:
        for event in events:
            if event is None:
                self.ended = True
                return
            for line in event_lines(event, self._position):
                if line.index == 0:
                    self._first = self._first or line
                    self._is_whole = line == self._first
                self._position += 1
                if self._position > self.count if self._is_whole else line.time_s > self._newest_s:
                    self._newest_s = max(self._newest_s, line.time_s)
                    yield LogLine(self.count, line.stream, line.time_s, line.text)
                    self.count += 1
