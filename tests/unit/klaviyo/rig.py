"""A scripted server and a whole client against it, in one virtual loop."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

import msgspec
import orjson
from aiohttp import web

from pipeline.klaviyo.auth import ApiKey
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.limits import Limits
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from tests.parts import session
from tests.virtual_time import LoopClock

__all__ = ["EVENT", "PROFILE", "Reply", "Rig", "Seen", "document"]

EVENT = b'{"data":{"type":"event"}}'
PROFILE = b'{"data":{"type":"profile"}}'
FREE = {
    "RateLimit-Limit": "1000, 1000;w=1, 60000;w=60",
    "RateLimit-Remaining": "59000",
    "RateLimit-Reset": "60",
    "X-Klaviyo-Api-Revision": "2026-07-15",
}
GOOD: dict[str, tuple[int, bytes]] = {
    "/api/events": (202, b""),
    "/api/profile-import": (201, b'{"data":{"type":"profile","id":"01J"}}'),
    "/api/accounts": (200, b'{"data":[{"type":"account","id":"AbCdEf"}]}'),
}


class Seen(msgspec.Struct):
    """A request as the server saw it."""

    at: float
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Reply(msgspec.Struct):
    """What to answer: good by path unless a status is given, after `delay` s."""

    status: int | None = None
    body: bytes = b""
    headers: dict[str, str] = {}
    delay: float = 0.0
    raw: bytes | None = None  # these bytes, then the connection is cut


def document(*faults: dict[str, Any], status: int = 400) -> Reply:
    """Klaviyo's error document."""
    entries = [
        {"id": "1", "code": "invalid", "title": "No.", "detail": "x"} | fault
        for fault in faults or ({},)
    ]
    return Reply(status, orjson.dumps({"errors": entries}))


class Rig:
    """`script` is worked off reply by reply, then `always` decides."""

    def __init__(
        self,
        *script: Reply,
        key: Callable[[], str] = lambda: "pk_right",
        revision: str = "2026-07-15",
        strict: bool = False,
        connections: int = 11,
    ) -> None:
        self.script = list(script)
        self.always: Callable[[Seen], Reply] = lambda _: Reply()
        self.seen: list[Seen] = []
        self.metrics = Metrics()
        self._key = key
        self._revision = revision
        self._strict = strict
        self._connections = connections

    async def __aenter__(self) -> Self:
        server = web.Server(self._handle)
        self._runner = web.ServerRunner(server, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self.clock = LoopClock()
        self.health = Health(self.metrics, self.clock)
        self.health.phase = "running"
        self.limits = Limits(self.clock, lambda: 0.5)
        self.session = session(
            self.url + "/",
            self.limits,
            self.metrics,
            self.health,
            credential=ApiKey(self._key),
            revision=self._revision,
            strict=self._strict,
            connections=self._connections,
        )
        self.client = Client(self.session, self.limits)
        await self.session.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.__aexit__()
        await self._runner.cleanup()

    def number(self, name: str, **labels: str) -> float:
        """A metric's value now; 0 when it has none."""
        full = f"klaviyo_pipeline_{name}"
        return self.metrics.registry.get_sample_value(full, labels) or 0.0

    def times(self) -> list[float]:
        """When the requests came."""
        return [each.at for each in self.seen]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        seen = Seen(
            asyncio.get_running_loop().time(),
            request.method,
            request.path_qs,
            dict(request.headers),
            await request.read(),
        )
        self.seen.append(seen)
        reply = self.script.pop(0) if self.script else self.always(seen)
        await asyncio.sleep(reply.delay)
        if reply.raw is not None:
            if request.transport is not None:  # None: the client is gone
                request.transport.write(reply.raw)
                request.transport.close()
            return web.Response()
        status, body = GOOD.get(request.path, (404, b""))
        if reply.status is not None:
            status, body = reply.status, reply.body
        return web.Response(status=status, body=body, headers=FREE | reply.headers)
