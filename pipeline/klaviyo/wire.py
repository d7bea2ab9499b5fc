"""One attempt over HTTP: bytes out, bytes in, bounded in time and size.

The answer's body is read here, so that the 30 s cover it and no connection is left half
read. Redirects are not followed and cookies not kept: nothing but Klaviyo ever sees the
credential.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import aiohttp
import msgspec
from yarl import URL

from pipeline.klaviyo.revision import Revision
from pipeline.klaviyo.trust import SYSTEM, Trust

__all__ = ["LARGEST", "Answer", "TooMuch", "Wire"]

TOTAL: Final = 30.0  # s for one attempt, to the end of the body
CONNECT: Final = 5.0  # s for TCP and TLS
SILENCE: Final = 20.0  # s without a byte
LARGEST: Final = 16 * 1024 * 1024  # bytes of an answer after decompression
_JSON_API: Final = "application/vnd.api+json"


class TooMuch(Exception):
    """The answer is larger than `LARGEST`: a broken server or a decompression bomb."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """Status, headers (case does not matter) and the whole body of an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:  # the body is a customer's
        return f"Answer({self.status})"


class Wire:
    """The HTTP client: one connection pool, the headers every call carries."""

    def __init__(
        self, api_url: str, agent: str, revision: Revision, trust: Trust = SYSTEM
    ) -> None:
        """`api_url` is the base URL."""
        self._base = api_url.rstrip("/")
        self._headers = {
            "Accept": _JSON_API,
            "revision": revision.asked,
            "User-Agent": "".join(c for c in agent if c.isascii() and c.isprintable()),
        }
        if revision.strict:
            self._headers["X-Klaviyo-Revision-Fall-Forward-Opt-Out"] = "1"
        self._trust = trust
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Make the session; needs a running loop."""
        self._session = session = aiohttp.ClientSession(
            # The session bounds them.
            connector=aiohttp.TCPConnector(limit=0, ssl=self._trust),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT, sock_read=SILENCE
            ),
        )
        # aiohttp sends a GET again by itself when a kept-alive connection was dropped:
        # a second call on one permit. Its test client turns that off the same way.
        session._retry_connection = False  # noqa: SLF001 - no public switch

    async def close(self) -> None:
        """Close all connections; calls in flight fail."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self, method: str, path: str, body: bytes | None, authorization: str
    ) -> Answer:
        """One attempt. Raises what `retry.FAILURES` lists, or `TooMuch`."""
        if self._session is None:
            raise RuntimeError("the session is not open")
        headers = {**self._headers, "Authorization": authorization}
        if body is not None:
            headers["Content-Type"] = _JSON_API
        async with asyncio.timeout(TOTAL):
            response = await self._session.request(
                method,
                URL(self._base + path, encoded=True),
                data=body,
                headers=headers,
                allow_redirects=False,
            )
            try:
                content = await _read(response.content)
            except BaseException:  # cancelled too: half read, not to be used again
                response.close()
                raise
            return Answer(response.status, response.headers, content)


async def _read(stream: aiohttp.StreamReader) -> bytes:
    body = await stream.readany()
    if stream.at_eof():  # nearly always
        return body
    chunks, size = [body], len(body)
    while not stream.at_eof():
        if size > LARGEST:
            raise TooMuch
        chunks.append(chunk := await stream.readany())
        size += len(chunk)
    return b"".join(chunks)
