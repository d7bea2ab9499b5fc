"""A Klaviyo that only counts: accepts everything at once and has no limits.

    python -m tests.bench.sink

Prints its address on the first line. It reads of a request no more than the first line
and the length, counts rows by their unique_ids, and announces windows so large that a
program which follows the headers is not held back. `GET /sink` says what came in.
"""

import asyncio
import json
import time
from typing import Final, cast

import uvloop

__all__ = ["WINDOW"]

WINDOW: Final = 600_000_000  # calls a minute
_ROW: Final = b'"unique_id"'
_LENGTH: Final = b"content-length:"
_END: Final = b"\r\n\r\n"

_JOB: Final = (  # each that was started, and it has ended
    b'{"type":"profile-bulk-import-job","id":"01BENCH","attributes":'
    b'{"status":"complete","total_count":1,"completed_count":1,"failed_count":0}}'
)
_ANSWERS: Final = (
    (b"/api/accounts", b"200 OK", b'{"data":[{"type":"account","id":"BENCH"}]}'),
    (b"/api/profile-import", b"200 OK", b'{"data":{"type":"profile","id":"01BENCH"}}'),
    (b"/api/profile-bulk-import-jobs/", b"200 OK", b'{"data":%s}' % _JOB),
    (b"/api/profile-bulk-import-jobs?", b"200 OK", b'{"data":[%s]}' % _JOB),
    (
        b"/api/profile-bulk-import-jobs",
        b"202 Accepted",
        b'{"data":{"type":"profile-bulk-import-job","id":"01BENCH"}}',
    ),
    (b"/api/", b"202 Accepted", b""),
)


def _answer(status: bytes, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 %s\r\nContent-Type: application/vnd.api+json\r\n"
        b"RateLimit-Limit: %d, %d;w=1, %d;w=60\r\nRateLimit-Remaining: %d\r\n"
        b"RateLimit-Reset: 30\r\nX-Klaviyo-Api-Revision: 2026-07-15\r\n"
        b"Content-Length: %d\r\n\r\n%s"
        % (status, WINDOW, WINDOW // 60, WINDOW, WINDOW // 2, len(body), body)
    )


_READY: Final = tuple((path, _answer(status, body)) for path, status, body in _ANSWERS)


class _Count:
    def __init__(self) -> None:
        self.calls = 0
        self.requests = 0  # those with a body
        self.rows = 0  # events, and profiles of single calls
        self.bytes = 0
        self.arrivals: list[float] = []  # monotonic s, of the first small requests

    def told(self) -> bytes:
        return json.dumps({**vars(self), "cpu": time.process_time()}).encode()


class _Connection(asyncio.Protocol):
    def __init__(self, count: _Count) -> None:
        self._count = count
        self._head = b""
        self._left = 0  # bytes of the body still to come
        self._tail = b""  # an id may stand on two chunks
        self._reply = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._left:
            data = self._begin(self._head + data)
            if not self._reply:
                return
        self._count.rows += (self._tail + data).count(_ROW)
        self._tail = data[-len(_ROW) + 1 :]
        self._left -= len(data)
        if self._left <= 0:
            self._transport.write(self._reply)
            self._reply = self._head = self._tail = b""

    def _begin(self, data: bytes) -> bytes:
        """Read the head; what stands behind it. Clients here never pipeline."""
        end = data.find(_END)
        if end < 0:
            self._head = data
            return b""
        count = self._count
        head = data[:end].lower()
        path = head.split(b" ", 2)[1]
        at = head.find(_LENGTH)
        self._left = int(head[at + len(_LENGTH) :].split(b"\r", 1)[0]) if at > 0 else 0
        count.calls += path != b"/sink"
        if self._left:
            count.requests += 1
            count.bytes += self._left
            if len(count.arrivals) < 10_000:
                count.arrivals.append(time.monotonic())
        if path == b"/sink":
            self._reply = _answer(b"200 OK", count.told())
        else:
            self._reply = next(reply for start, reply in _READY if path.startswith(start))
            count.rows += path.startswith(b"/api/profile-import")
        return data[end + len(_END) :]


async def _serve() -> None:
    count = _Count()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(count), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
