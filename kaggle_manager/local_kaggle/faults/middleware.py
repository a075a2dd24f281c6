"""Fault injection: a plan of faults, played over the application from outside.

Deterministic: whether a fault strikes at its n-th matching call depends on the plan, its seed and n alone. A call that
no fault strikes passes unchanged. `fault_plan` defines the faults, `broken_responses` and `false_responses` spoil
answers, `session_faults` spoils sessions.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.local_kaggle.faults import false_responses, fault_plan, session_faults
from kaggle_manager.local_kaggle.faults.broken_responses import Exchange, send_broken, true_answer

_PLACES = (
    (r"/v1/kernels/logs/stream/", fault_plan.LOG),
    (r"/upload/", fault_plan.UPLOAD),
    (r"/files/", fault_plan.DOWNLOAD),
)


def call_of(path: str) -> str:
    """The call a request path stands for, by the names of `fault_plan.CALLS`; "" for what no fault may touch."""
    for place, name in _PLACES:
        if re.search(rf"^(https?://[^/]+)?(/api)?{place}", path):
            return name
    match = re.search(r"/v1/[^/]+/(\w+)$", path)
    return match.group(1) if match else ""


@dataclass
class _Track:
    """How far one fault of a plan has come."""

    fault: fault_plan.Fault
    rng: random.Random
    seen: int = 0
    struck: int = 0

    def meets(self, call: str) -> bool:
        """Count one call; whether the fault strikes there, were it alone."""
        if call not in self.fault.calls:
            return False
        self.seen += 1
        if self.seen < self.fault.first or (self.fault.times is not None and self.struck >= self.fault.times):
            return False
        return self.rng.random() < self.fault.probability


@dataclass
class Schedule:
    """Which fault of a plan strikes which call; remembers how often each has."""

    plan: fault_plan.Plan
    tracks: list[_Track] = field(init=False)

    def __post_init__(self) -> None:
        self.tracks = [
            _Track(fault, random.Random(f"{self.plan.seed} {number}")) for number, fault in enumerate(self.plan.fault)
        ]

    def strike(self, call: str) -> _Track | None:
        """The fault that decides this call: the first in the plan's order that strikes; every fault counts the call."""
        struck = [track for track in self.tracks if track.meets(call)]
        if not struck:
            return None
        struck[0].struck += 1
        return struck[0]


class FaultMiddleware:
    """`app` under a plan of faults. Needs a server that speaks `OpenProtocol`.

    Args:
        app: the application without faults.
        state: of the application; a fault of the weekly quota changes its limits.
        faults: the plan; `play` starts another one.
    """

    def __init__(self, app: ASGIApp, state: ServerState, faults: fault_plan.Plan) -> None:
        self._app, self._state = app, state
        self.play(faults)

    def play(self, faults: fault_plan.Plan) -> None:
        self._schedule = Schedule(faults)
        self._file_before: tuple[Message, bytes] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A large body lets its connection read on in the context of its request, which the next one then begins with.
        session_faults.current.set(session_faults.SessionFaults())
        exchange = Exchange(scope, receive, send)
        call = call_of(scope["path"]) if scope["type"] == "http" else ""
        track = self._schedule.strike(call) if call else None
        if track is None:
            await self._app(scope, receive, send)
        else:
            await self._suffer(track, call, exchange)

    async def _suffer(self, track: _Track, call: str, exchange: Exchange) -> None:
        fault = track.fault
        match fault:
            case fault_plan.Refuse() | fault_plan.ExpiredLink() | fault_plan.TokenExpires():
                if getattr(fault, "carried_out", False):
                    await self._carry_out(exchange)
                await _refusal(fault, call)(exchange.scope, exchange.receive, exchange.send)
            case fault_plan.Reset(after_bytes=None) | fault_plan.Stall(after_bytes=None):
                if fault.carried_out:
                    await self._carry_out(exchange)
                await (exchange.reset() if isinstance(fault, fault_plan.Reset) else exchange.silence(fault.seconds))
            case fault_plan.Delay():
                await asyncio.sleep(fault.seconds)
                await self._app(exchange.scope, exchange.receive, exchange.send)
            case fault_plan.QuotaShrinks():
                self._state.limits = replace(self._state.limits, gpu_week_s=fault.hours * 3600)
                await self._app(exchange.scope, exchange.receive, exchange.send)
            case fault_plan.ImageMoves():
                newest = self._state.limits.newest_image + 1
                oldest = newest if fault.gone else self._state.limits.oldest_image
                self._state.limits = replace(self._state.limits, oldest_image=oldest, newest_image=newest)
                await self._app(exchange.scope, exchange.receive, exchange.send)
            case fault_plan.SlowIngestion():
                self._state.limits = replace(self._state.limits, ingestion_s=fault.seconds)
                await self._app(exchange.scope, exchange.receive, exchange.send)
            case fault_plan.IgnoresVersion():
                await self._app(*await _about_the_newest(exchange))
            case fault_plan.Swap():
                await self._swap(track, exchange)
            case fault_plan.SaysStatus() | fault_plan.PartialList() | fault_plan.SaysQuota() | fault_plan.SaysSizes():
                await self._falsify(track, exchange)
            case fault_plan.LogCut() if call != fault_plan.LOG:
                await self._falsify(track, exchange)
            case _ if (session := _session_faults(fault)) is not None:
                token = session_faults.current.set(session)
                try:
                    await self._app(exchange.scope, exchange.receive, exchange.send)
                finally:
                    session_faults.current.reset(token)
            case _:
                async with true_answer(self._app, exchange) as answer:
                    await send_broken(fault, answer, exchange, track.rng)

    async def _carry_out(self, exchange: Exchange) -> None:
        async with true_answer(self._app, exchange) as answer:
            await answer.body()

    async def _falsify(self, track: _Track, exchange: Exchange) -> None:
        async with true_answer(self._app, exchange) as answer:
            body = await answer.body()
            false = false_responses.falsified(track.fault, json.loads(body)) if answer.head["status"] == 200 else None
            if false is None:
                track.struck -= 1  # it had nothing to change
                await _send_whole(answer.head, body, exchange)
            else:
                await JSONResponse(false)(exchange.scope, exchange.receive, exchange.send)

    async def _swap(self, track: _Track, exchange: Exchange) -> None:
        async with true_answer(self._app, exchange) as answer:
            true = (answer.head, await answer.body())
            before, self._file_before = self._file_before, true
            if before is None:
                track.struck -= 1
            await _send_whole(*(before or true), exchange)


def _session_faults(fault: fault_plan.Fault) -> session_faults.SessionFaults | None:
    match fault:
        case fault_plan.PushRefused():
            return session_faults.SessionFaults(refused=fault.message)
        case fault_plan.DroppedSources():
            return session_faults.SessionFaults(sources="dropped")
        case fault_plan.StaleMount():
            return session_faults.SessionFaults(sources="stale")
        case fault_plan.EmptyMount():
            return session_faults.SessionFaults(sources="empty", filled_after_s=fault.filled_after_s)
        case fault_plan.WrongAccelerator():
            return session_faults.SessionFaults(accelerator=fault.found)
        case fault_plan.KilledAtWall():
            return session_faults.SessionFaults(dies_after_s=fault.after_s)
    return None


def _refusal(fault: fault_plan.Fault, call: str) -> Response:
    """The answer of a fault that refuses."""
    if isinstance(fault, fault_plan.TokenExpires):
        if call == "IntrospectToken":
            return JSONResponse({"active": False})
        return JSONResponse({"code": 401, "message": "Unauthenticated"}, 401)
    if isinstance(fault, fault_plan.ExpiredLink):
        xml = "<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>Invalid argument.</Message></Error>"
        return Response(xml, 400, media_type="application/xml")
    assert isinstance(fault, fault_plan.Refuse)
    message = f"The local Kaggle was told to answer {fault.status}."
    content, kind = {
        "json": (json.dumps({"code": fault.status, "message": message}), "application/json"),
        "html": (f"<!doctype html><title>{fault.status}</title><h1>{message}</h1>", "text/html"),
        "xml": (f"<?xml version='1.0'?><Error><Message>{message}</Message></Error>", "application/xml"),
        "empty": ("", "application/json"),
    }[fault.body]
    headers = {} if fault.retry_after_s is None else {"Retry-After": f"{fault.retry_after_s:g}"}
    return Response(content, fault.status, headers, media_type=kind)


async def _about_the_newest(exchange: Exchange) -> tuple[Scope, Receive, Send]:
    """The exchange with a question that names no version."""
    scope = dict(exchange.scope)
    query = [(name, value) for name, value in parse_qsl(scope["query_string"].decode()) if name != "versionLabel"]
    scope["query_string"] = urlencode(query).encode()
    given = await Request(scope, exchange.receive).body()
    asked = json.dumps(false_responses.asked_without_version(json.loads(given))).encode() if given else b""
    messages: list[Any] = [{"type": "http.request", "body": asked, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else await exchange.receive()

    return scope, receive, exchange.send


async def _send_whole(head: Message, body: bytes, exchange: Exchange) -> None:
    await exchange.send(head)
    await exchange.send({"type": "http.response.body", "body": body, "more_body": False})
