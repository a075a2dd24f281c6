"""Answers that break on their way: cut, slow, altered, under a wrong length, or torn down with their connection.

The true answer is taken from the application piece by piece, so memory stays flat, and sent on spoiled. What HTTP
forbids is written to the connection past the server, which is then closed. Never decides whether an answer is to break.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from kaggle_manager.local_kaggle.faults import fault_plan

_BUFFERED = 256 * 1024
_TICKS_PER_S = 20.0


class OpenProtocol(H11Protocol):
    """uvicorn's HTTP, with the connection in the scope: `scope["state"]["connection"]`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "connection": transport}


@dataclass
class Exchange:
    """One request, as an ASGI application is given it."""

    scope: Scope
    receive: Receive
    send: Send

    @property
    def connection(self) -> asyncio.Transport:
        connection: asyncio.Transport = self.scope["state"]["connection"]
        return connection

    async def reset(self) -> None:
        """Tear the connection down: the other side sees it reset, not closed."""
        linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        with contextlib.suppress(OSError):  # it is gone already
            self.connection.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.abort()
        await self.gone()

    async def close(self) -> None:
        """Send what is written, then close; nothing more of this answer comes."""
        self.connection.close()
        await self.gone()

    async def gone(self) -> None:
        """Wait until the connection is over; then the server does not mind an unfinished answer."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def silence(self, seconds: float) -> None:
        """Say nothing for so long, or until the other side hangs up; then the connection is over."""
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):  # cancelled: the server ends
            await asyncio.wait_for(self.gone(), seconds)
        await self.reset()

    async def write(self, data: bytes) -> None:
        """Write past the server, at the pace of the reader."""
        self.connection.write(data)
        while self.connection.get_write_buffer_size() > _BUFFERED and not self.connection.is_closing():
            await asyncio.sleep(0.002)


@dataclass
class TrueAnswer:
    """What the application answers: its head, then its body in pieces."""

    head: Message = field(default_factory=dict)
    _messages: asyncio.Queue[Message | None] = field(default_factory=lambda: asyncio.Queue(2))

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return list(self.head["headers"])

    @property
    def length(self) -> int | None:
        """Bytes of the body, as Content-Length says."""
        values = [value for name, value in self.headers if name.lower() == b"content-length"]
        return int(values[0]) if values else None

    async def pieces(self) -> AsyncIterator[bytes]:
        while (message := await self._messages.get()) is not None:
            if body := message.get("body", b""):
                yield body

    async def body(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])


@contextlib.asynccontextmanager
async def true_answer(app: ASGIApp, exchange: Exchange) -> AsyncIterator[TrueAnswer]:
    """Let `app` answer into this block; what it has not said by the end of the block it never says."""
    answer = TrueAnswer()
    begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.head = message
            begun.set_result(None)
        else:
            await answer._messages.put(message)

    async def run() -> None:
        try:
            await app(exchange.scope, exchange.receive, send)
        except Exception:
            await answer._messages.put(None)
            raise
        await answer._messages.put(None)

    task = asyncio.create_task(run())
    try:
        await asyncio.wait({task, begun}, return_when=asyncio.FIRST_COMPLETED)
        if not begun.done():
            await task  # raises what kept it from answering
        yield answer
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def send_broken(fault: fault_plan.Fault, answer: TrueAnswer, exchange: Exchange, rng: random.Random) -> None:
    """Send `answer` as `fault` leaves it. The faults without a true answer are not for here."""
    match fault:
        case fault_plan.Reset(after_bytes=int(limit)):
            await _begin(answer, exchange, limit)
            await exchange.reset()
        case fault_plan.Stall(after_bytes=int(limit)):
            await _begin(answer, exchange, limit)
            await exchange.silence(fault.seconds)
        case fault_plan.Truncate():
            await _truncated(fault, answer, exchange)
        case fault_plan.Length():
            await _mislabelled(fault, answer, exchange)
        case fault_plan.Drip():
            await _dripping(fault, answer, exchange)
        case fault_plan.Flip():
            at = rng.randrange(answer.length or 1)
            await _pass_on(answer.head, _with_flipped_bit(answer.pieces(), at, 1 << rng.randrange(8)), exchange)
        case fault_plan.LogCut():
            await _pass_on(_without_length(answer.head), _without_first(answer.pieces(), fault.lost_bytes), exchange)
        case _:
            raise AssertionError(fault)


async def _begin(answer: TrueAnswer, exchange: Exchange, limit: int) -> None:
    """The head and the first `limit` bytes of the body."""
    await exchange.send(answer.head)
    async for piece in _first(answer.pieces(), limit):
        await exchange.send({"type": "http.response.body", "body": piece, "more_body": True})
    await asyncio.sleep(0.05)  # a reset overtakes what is still on its way


async def _truncated(fault: fault_plan.Truncate, answer: TrueAnswer, exchange: Exchange) -> None:
    whole = answer.length
    pieces = answer.pieces()
    if whole is None:  # a stream: its first piece stands for the whole
        body = await anext(pieces, b"")
        whole, pieces = len(body), _once(body)
    kept = int(whole * fault.keep)
    claim = {"whole": whole, "kept": kept, "none": None}[fault.length]
    await exchange.write(_raw_head(answer.head, claim))
    async for piece in _first(pieces, kept):
        await exchange.write(piece)
    await exchange.close()


async def _mislabelled(fault: fault_plan.Length, answer: TrueAnswer, exchange: Exchange) -> None:
    body = await answer.body() if answer.length is None else None
    true = len(body) if body is not None else answer.length or 0
    claim = {"short": true // 2, "long": true + 1000, "none": None}[fault.says]
    await exchange.write(_raw_head(answer.head, claim))
    async for piece in answer.pieces() if body is None else _once(body):
        await exchange.write(piece)
    await exchange.close()


async def _dripping(fault: fault_plan.Drip, answer: TrueAnswer, exchange: Exchange) -> None:
    at_once = max(1, int(fault.bytes_per_s / _TICKS_PER_S))

    async def drops() -> AsyncIterator[bytes]:
        async for piece in answer.pieces():
            for start in range(0, len(piece), at_once):
                drop = piece[start : start + at_once]
                yield drop
                await asyncio.sleep(len(drop) / fault.bytes_per_s)

    await _pass_on(answer.head, drops(), exchange)


async def _pass_on(head: Message, pieces: AsyncIterator[bytes], exchange: Exchange) -> None:
    await exchange.send(head)
    async for piece in pieces:
        if exchange.connection.is_closing():
            return
        await exchange.send({"type": "http.response.body", "body": piece, "more_body": True})
    await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _first(pieces: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """The first `limit` bytes."""
    if limit <= 0:
        return
    async for piece in pieces:
        yield piece[:limit]
        limit -= len(piece)
        if limit <= 0:
            return


async def _without_first(pieces: AsyncIterator[bytes], lost: int) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece[lost:]
        lost = max(0, lost - len(piece))


async def _with_flipped_bit(pieces: AsyncIterator[bytes], at: int, mask: int) -> AsyncIterator[bytes]:
    async for piece in pieces:
        if 0 <= at < len(piece):
            piece = piece[:at] + bytes([piece[at] ^ mask]) + piece[at + 1 :]
        at -= len(piece)
        yield piece


def _without_length(head: Message) -> Message:
    return {**head, "headers": [item for item in head["headers"] if item[0].lower() != b"content-length"]}


def _raw_head(head: Message, length: int | None) -> bytes:
    """A response head as bytes; without a length the body ends with the connection."""
    skipped = (b"content-length", b"transfer-encoding", b"connection")
    headers = [item for item in head["headers"] if item[0].lower() not in skipped] + [(b"connection", b"close")]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    status: Any = head["status"]
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    return b"\r\n".join([*lines, *(name + b": " + value for name, value in headers), b"", b""])
