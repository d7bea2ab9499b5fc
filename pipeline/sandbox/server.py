"""The HTTP side of the sandbox: requests in, answers out, and the faults between.

`Sandbox` runs inside a process, for tests and the demo; `serve` runs it alone. State is
changed by plain functions between two awaits, so two requests never see half a change.
"""

import asyncio
import gzip
import random
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Self

from aiohttp import web

from pipeline.sandbox import control
from pipeline.sandbox.account import Account, Admitted, Asked
from pipeline.sandbox.clock import SYSTEM, Clock
from pipeline.sandbox.faults import Action, Faults
from pipeline.sandbox.ledger import Entry, Ledger
from pipeline.sandbox.oauth import OAuth
from pipeline.sandbox.settings import Settings
from pipeline.sandbox.state import State
from pipeline.sandbox.touched import rows, touched
from pipeline.sandbox.validate import loads
from pipeline.sandbox.wire import Answer, Refused, dump

__all__ = ["Sandbox", "serve"]

_READ_LIMIT = 64 * 1024 * 1024  # bytes aiohttp takes in; the 5 MB rule is ours to answer
_NO_ANSWER = 0
_DRIP_PIECES = 10
_BOMB = 64 * 2**20  # bytes that a fault's small answer unpacks to
_OLD_MEDIA_UNTIL = "2024-10-15"  # application/json before it, vnd.api+json from it on

Sleep = Callable[[float], Awaitable[object]]


class Sandbox:
    """A local Klaviyo: `async with Sandbox() as sandbox:` and send to `sandbox.url`."""

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        limits: bool = True,
        key: str | None = None,
        settings: Settings | None = None,
        clock: Clock = SYSTEM,
        sleep: Sleep = asyncio.sleep,
        seed: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare a sandbox.

        `port` 0 takes a free one; `key` is the only key accepted, None accepts any pk_
        key; `settings` replaces `limits` and `key`; `clock` and `sleep` let tests hold
        time; `tls` makes it speak https.
        """
        self._tls = tls
        self._host = host
        self._port = port
        self._initial = settings or Settings(limits=limits, key=key)
        self._clock = clock
        self._sleep = sleep
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - latency, not secrets
        self._runner: web.AppRunner | None = None
        self.url = ""  # http://host:port once it runs
        self.account = Account(clock, self._initial, seed)

    async def __aenter__(self) -> Self:
        """Listen."""
        app = web.Application(client_max_size=_READ_LIMIT)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        # A client that goes away takes its unprocessed request with it.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0
        )
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, self._host, self._port, backlog=1024, ssl_context=self._tls
        )
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http{'s' if self._tls else ''}://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection and stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def state(self) -> State:
        """Profiles, events, lists, jobs."""
        return self.account.state

    @property
    def ledger(self) -> Ledger:
        """Every request and what the client did wrong."""
        return self.account.ledger

    @property
    def faults(self) -> Faults:
        """Scripted faults."""
        return self.account.faults

    @property
    def oauth(self) -> OAuth:
        """Consents and tokens given out."""
        return self.account.oauth

    @property
    def settings(self) -> Settings:
        """The settings in force; assign `settings.changed({...})` to change some."""
        return self.account.settings

    @settings.setter
    def settings(self, value: Settings) -> None:
        self.account.settings = value

    def now(self) -> float:
        """Return the sandbox's monotonic time, in which usage is counted."""
        return self._clock.monotonic()

    def reset(self) -> None:
        """Forget everything: data, ledger, windows, faults, changed settings."""
        self.account = Account(self._clock, self._initial, self._seed)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.account.state.catch_up()
        if request.path.startswith("/sandbox"):
            return control.handle(self, request, raw)
        if request.path.startswith("/oauth/"):
            return await self._oauth(request, raw)
        body, fault = loads(raw) if raw else (None, "the body is empty")
        asked = Asked(
            request.method,
            request.path.rstrip("/"),
            request.headers,
            request.query,
            f"{request.scheme}://{request.host}",
            raw,
            body,
            fault,
        )
        asked.operation = self.account.operation(asked)
        return await self._watched(request, asked)

    async def _oauth(self, request: web.Request, raw: bytes) -> web.StreamResponse:
        """Serve the OAuth side; scripted faults hit it before it does anything."""
        account = self.account
        action = account.faults.hit(request.method, request.path, raw)
        if action is not None:
            early = await self._before(request, action)
            if early is not None:
                return early
        answer = account.oauth.handle(
            request.method,
            request.path,
            request.query,
            request.headers,
            raw,
            account.settings,
        )
        if action is not None and action.kind == "reset_after":
            return _reset(request)
        return web.Response(
            status=answer.status, body=answer.body, headers=answer.headers
        )

    async def _watched(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        """Serve one request under the eyes of the ledger."""
        account = self.account
        settings, ledger = account.settings, account.ledger
        entry = Entry(
            number=0,
            time=self._clock.now(),
            monotonic=self._clock.monotonic(),
            method=asked.method,
            path=request.path_qs,
            operation=asked.operation,
            requested=account.requested(asked),
            served="",
            status=_NO_ANSWER,
            rows=rows(asked.operation, asked.body),
            size=len(asked.raw),
            touched=[],
            # Parsed anew: what is stored of the other one changes with the profile.
            body=loads(asked.raw)[0] if settings.keep_bodies and asked.raw else None,
        )
        keys = touched(asked.operation, asked.body, account.state.profiles)
        number = ledger.begin(entry, keys)
        held = False
        try:
            action = None
            if account.faults.rules:
                action = account.faults.hit(asked.method, entry.path, asked.raw)
            if action is not None:
                entry.fault = action.kind
                early = await self._before(request, action)
                if early is not None:
                    scripted = action.kind == "status"
                    ledger.answered(number, early.status if scripted else _NO_ANSWER)
                    return early
            answer, held = await self._answer(account, asked, entry)
            answer.headers = {"Date": formatdate(self._clock.now(), usegmt=True)} | (
                answer.headers
            )
            if action is not None:
                return await self._after(request, ledger, entry, action, answer)
            ledger.answered(number, answer.status)
            return _response(answer, entry.served)
        finally:
            if not held:
                ledger.end(number)

    async def _answer(
        self, account: Account, asked: Asked, entry: Entry
    ) -> tuple[Answer, bool]:
        headers: dict[str, str] = {}
        try:
            admitted: Admitted = account.admit(asked)
            headers = admitted.headers
            entry.served = admitted.revision
            if account.settings.latency:
                await self._sleep(self._latency(account.settings))
            answer, held = account.answer(asked, admitted, entry.number)
        except Refused as refused:
            refused.headers = headers | refused.headers
            return account.refusal(refused), False
        answer.headers = headers | answer.headers
        return answer, held

    def _latency(self, settings: Settings) -> float:
        if isinstance(settings.latency, tuple):
            return self._random.uniform(*settings.latency)
        return settings.latency

    async def _before(
        self, request: web.Request, action: Action
    ) -> web.StreamResponse | None:
        """Carry out what happens before processing; a response ends the request."""
        match action.kind:
            case "status" if not action.processed:
                return _scripted(action, request)
            case "reset_before":
                return _reset(request)
            case "hang_before":
                await self._sleep(action.seconds)
                return _reset(request)
            case "delay":
                await self._sleep(action.seconds)
                return None
            case _:
                return None

    async def _after(
        self,
        request: web.Request,
        ledger: Ledger,
        entry: Entry,
        action: Action,
        answer: Answer,
    ) -> web.StreamResponse:
        """Carry out what happens after processing."""
        match action.kind:
            case "reset_after":
                ledger.answered(entry.number, _NO_ANSWER)
                return _reset(request)
            case "hang_after":
                ledger.answered(entry.number, _NO_ANSWER)
                await self._sleep(action.seconds)
                return _reset(request)
            case "status":
                response = _scripted(action, request)
            case "garbage":
                headers = {"Content-Type": "text/html", **action.headers}
                status = action.status or 200
                text = action.text.encode()
                response = web.Response(status=status, body=text, headers=headers)
            case "bomb":
                headers = {"Content-Encoding": "gzip", **action.headers}
                body = await asyncio.to_thread(gzip.compress, bytes(_BOMB))
                status = action.status or answer.status
                response = web.Response(status=status, body=body, headers=headers)
            case "truncate":
                answer.body = answer.body[: len(answer.body) // 2]
                response = _response(answer, entry.served)
            case "drip":
                ledger.answered(entry.number, answer.status)
                return await self._drip(request, action, answer)
            case _:
                response = _response(answer, entry.served)
        ledger.answered(entry.number, response.status)
        return response

    async def _drip(
        self, request: web.Request, action: Action, answer: Answer
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        response.content_length = len(answer.body)
        await response.prepare(request)
        step = max(1, -(-len(answer.body) // _DRIP_PIECES))
        for start in range(0, len(answer.body), step):
            await self._sleep(action.seconds / _DRIP_PIECES)
            await response.write(answer.body[start : start + step])
        await response.write_eof()
        return response


def _response(answer: Answer, served: str) -> web.Response:
    old = "" < served < _OLD_MEDIA_UNTIL
    media = "application/json" if old else "application/vnd.api+json"
    headers = {"Content-Type": media, **answer.headers}
    return web.Response(status=answer.status, body=answer.body, headers=headers)


def _scripted(action: Action, request: web.Request) -> web.Response:
    headers = {"Content-Type": "application/vnd.api+json", **action.headers}
    if action.retry_after is not None:
        headers["Retry-After"] = str(action.retry_after)
    body = action.body
    raw = body.encode() if isinstance(body, str) else b"" if body is None else dump(body)
    credential = request.headers.get("Authorization", "").rpartition(" ")[2]
    raw = raw.replace(b"$credential", credential.encode())
    return web.Response(status=action.status or 500, body=raw, headers=headers)


def _reset(request: web.Request) -> web.Response:
    """Reset the connection: RST, nothing flushed."""
    transport = request.transport
    if transport is not None:
        peer = transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=500)


async def serve(
    port: int,
    *,
    limits: bool = True,
    key: str | None = None,
    host: str = "127.0.0.1",
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Run a sandbox until cancelled; `on_ready` gets its URL once it listens."""
    async with Sandbox(port=port, host=host, limits=limits, key=key) as sandbox:
        if on_ready is not None:
            on_ready(sandbox.url)
        await asyncio.Event().wait()
