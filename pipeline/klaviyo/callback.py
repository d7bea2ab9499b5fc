"""Takes the callback of `login` on this machine: a listener for one answer.

It answers anybody on this machine, so a call whose `state` is not ours is refused and
changes nothing. Source: RFC 8252, 7.3 (loopback redirect).
"""

import asyncio
from secrets import compare_digest
from typing import Final, Self
from urllib.parse import urlsplit

from aiohttp import web

from pipeline.errors import SettingsError
from pipeline.klaviyo.oauth import Asked

__all__ = ["Callback", "is_local"]

_STOP_LIMIT: Final = 1.0  # s for the browser to take the last page
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS: Final = {"http": 80, "https": 443}
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "Referrer-Policy": "no-referrer",
}


def is_local(redirect_url: str) -> bool:
    """Whether this machine can take that callback itself."""
    parts = urlsplit(redirect_url)
    return parts.scheme == "http" and parts.hostname in _LOCAL


class Callback:
    """Listens inside its block."""

    def __init__(self, redirect_url: str, asked: Asked) -> None:
        self._parts = urlsplit(redirect_url)
        self._state = asked.state
        self._runner: web.AppRunner | None = None
        self._came: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        """Listen. Raises `SettingsError` when the port is in use."""
        app = web.Application()
        app.router.add_get(self._parts.path, self._handle, allow_head=False)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_LIMIT)
        await runner.setup()
        host = self._parts.hostname or ""
        port = self._parts.port or _PORTS[self._parts.scheme]
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            raise SettingsError(
                f"Cannot listen on {host}:{port} for the callback: "
                f"{error.strerror or error}. If the service runs there, use its "
                "/connect; else stop what uses the port, set klaviyo.redirect_url to "
                "another one that is registered in the app, or use --paste."
            ) from None
        self._runner = runner
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def came(self) -> str:
        """Wait for the callback; its URL."""
        return await self._came

    async def _handle(self, request: web.Request) -> web.Response:
        given = request.query.get("state", "")
        if not compare_digest(given.encode(), self._state.encode()):
            return _page(400, "This callback does not belong to the login that waits.")
        if self._came.done():
            return _page(400, "This callback was used already. See the terminal.")
        self._came.set_result(str(request.url))
        return _page(200, "Klaviyo has answered. The terminal says how it went.")


def _page(status: int, text: str) -> web.Response:
    body = f"<!DOCTYPE html><title>klaviyo-pipeline</title><p>{text}</p>"
    return web.Response(
        status=status, text=body, content_type="text/html", headers=_HEADERS
    )
