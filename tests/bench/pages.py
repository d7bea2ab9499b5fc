"""A Klaviyo that only lists: so many profiles, each page after so many seconds.

    python -m tests.bench.pages PROFILES LATENCY

Prints its address on the first line. `GET /pages` says when the pages were asked for.
"""

import asyncio
import json
import re
import sys
import time
from email.utils import formatdate
from typing import Final, cast
from urllib.parse import unquote

import uvloop

from tests.bench.sink import WINDOW

__all__: list[str] = []

PAGE: Final = 100
BEGAN: Final = 1_750_000_000  # `updated` of the first profile, Unix seconds
TIES: Final = 40  # profiles a second
_END: Final = b"\r\n\r\n"
_AFTER: Final = re.compile(r"greater-than\(updated,(\d{4})-")
_ROW: Final = """\
{"type":"profile","id":"01BENCH%010d","attributes":{"email":"customer.%d@shop.dev",\
"phone_number":"+1202555%04d","external_id":"C-%d","first_name":"Ada",\
"last_name":"Lovelace %d","organization":null,"locale":"en-US","title":null,\
"image":null,"created":"2025-06-15T15:06:40+00:00","updated":"%s",\
"last_event_date":"2025-06-15T15:06:40+00:00","location":{"address1":"%d Main Street",\
"address2":null,"city":"New York","country":"United States","latitude":null,\
"longitude":null,"region":"NY","zip":"10001","timezone":"America/New_York","ip":null},\
"properties":{"tier":"gold","points":%d,"born":"1990-05-01","tags":["a","b","c"],\
"newsletter":true,"source":"checkout"},"subscriptions":{"email":{"marketing":{\
"can_receive_email_marketing":true,"consent":"SUBSCRIBED",\
"consent_timestamp":"2025-06-15T15:06:40+00:00","last_updated":null,\
"method":"PRIVATE_API","method_detail":null,"custom_method_detail":null,\
"double_optin":false,"suppression":[],"list_suppressions":[]}},"sms":{"marketing":{\
"can_receive_sms_marketing":false,"consent":"NEVER_SUBSCRIBED",\
"consent_timestamp":null,"last_updated":null,"method":null,"method_detail":null}}}}}"""


class _Told:
    def __init__(self) -> None:
        self.asked: list[float] = []  # monotonic s, of the pages of the long chain
        self.answered: list[float] = []


class _Connection(asyncio.Protocol):
    def __init__(
        self, told: _Told, profiles: int, latency: float, url: list[str]
    ) -> None:
        self._told = told
        self._profiles = profiles
        self._latency = latency
        self._url = url
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._data.endswith(_END):
            return
        path = unquote(self._data.split(b" ", 2)[1].decode())
        self._data = b""
        loop = asyncio.get_running_loop()
        if path == "/pages":
            self._write(json.dumps(vars(self._told)).encode())
        elif path.startswith("/api/accounts"):
            self._write(b'{"data":[{"type":"account","id":"BENCH"}]}')
        elif (start := self._start(path)) is None:
            loop.call_later(
                self._latency, self._write, b'{"data":[],"links":{"next":null}}'
            )
        else:
            self._told.asked.append(time.monotonic())
            body = self._body(start)
            left = self._latency - (time.monotonic() - self._told.asked[-1])
            loop.call_later(max(0.0, left), self._page, body)

    def _start(self, path: str) -> int | None:
        """The first profile of the page; None if there are none."""
        if "page[cursor]=" in path:
            return int(path.rpartition("page[cursor]=")[2])
        found = _AFTER.search(path)
        # All profiles changed long ago: the first poll sees them, later ones do not.
        return 0 if found and found[1] == "1970" else None

    def _body(self, start: int) -> bytes:
        end = min(start + PAGE, self._profiles)
        rows = []
        for number in range(start, end):
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(BEGAN + number // TIES))
            numbers = (number, number, number % 10_000, number, number)
            rows.append(_ROW % (*numbers, at, number, number))
        following = "null"
        if end < self._profiles:
            following = f'"{self._url[0]}/api/profiles?page[cursor]={end}"'
        return f'{{"data":[{",".join(rows)}],"links":{{"next":{following}}}}}'.encode()

    def _page(self, body: bytes) -> None:
        self._told.answered.append(time.monotonic())
        self._write(body)

    def _write(self, body: bytes) -> None:
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.api+json\r\n"
            f"Date: {formatdate(usegmt=True)}\r\n"
            f"RateLimit-Limit: {WINDOW}, {WINDOW // 60};w=1, {WINDOW};w=60\r\n"
            f"RateLimit-Remaining: {WINDOW // 2}\r\nRateLimit-Reset: 30\r\n"
            f"X-Klaviyo-Api-Revision: 2026-07-15\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)


async def _serve(profiles: int, latency: float) -> None:
    told, url = _Told(), [""]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(told, profiles, latency, url), "127.0.0.1", 0
    )
    host, port = server.sockets[0].getsockname()
    url[0] = f"http://{host}:{port}"
    print(url[0], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
