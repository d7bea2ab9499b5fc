"""/connect of the running service: who is connected, and two buttons.

So that a cluster can be connected through a port-forward. Whoever opens it proves with a
one-time ticket, which stands in the log, that they may read the log; a cookie then
carries the session. Forms carry the session's CSRF value and must come from this page;
the callback must come back to the session that asked. No token is ever on the page.

Sources: OWASP, "Cross-Site Request Forgery Prevention"; RFC 6749, 10.12.
"""

import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from html import escape
from typing import Final
from urllib.parse import urlsplit

import msgspec
import structlog
from aiohttp import web

from pipeline.clock import Clock
from pipeline.errors import PipelineError
from pipeline.klaviyo.connect import Connect
from pipeline.klaviyo.oauth import Asked
from pipeline.klaviyo.tokens import Tokens
from pipeline.observe.health import Health

__all__ = ["ConnectPage"]

PATH: Final = "/connect"
SESSION: Final = 3600.0  # s
SESSIONS: Final = 16  # at a time; the oldest goes
ANNOUNCE: Final = 60.0  # s between two links in the log, unless one was used
_COOKIE: Final = "klaviyo_pipeline_connect"
_STYLE: Final = "body{font:16px sans-serif;max-width:42em;margin:3em auto}"

_Handler = Callable[[web.Request, "_Session"], Awaitable[web.Response]]


class _Session(msgspec.Struct):
    until: float  # monotonic s
    csrf: str
    asked: Asked | None = None
    replace: bool = False
    said: str = ""  # shown once


class ConnectPage:
    """The page and its forms; `routes` go into the service's HTTP server."""

    def __init__(self, connect: Connect, health: Health, clock: Clock) -> None:
        self._connect = connect
        self._health = health
        self._clock = clock
        self._log = structlog.get_logger("connect")
        self._back = urlsplit(connect.redirect_url)
        self._ticket = secrets.token_urlsafe(32)
        self._announced = float("-inf")  # monotonic s
        self._sessions: dict[str, _Session] = {}
        self._headers = {
            "Cache-Control": "no-store",
            # Browsers hold the redirect that follows a form to form-action as well.
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
            f"form-action 'self' {connect.authorize_origin}; frame-ancestors 'none'; "
            "base-uri 'none'",
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
        }

    def routes(self) -> list[web.RouteDef]:
        """What the server has to serve."""
        return [
            web.get(PATH, self._open, allow_head=False),
            web.get(self._back.path, self._guarded(self._callback), allow_head=False),
            web.post(f"{PATH}/authenticate", self._guarded(self._authenticate)),
            web.post(f"{PATH}/disconnect", self._guarded(self._disconnect)),
        ]

    def announce(self) -> None:
        """Write the link with the ticket to the log; once a minute, unless it was used.

        Its host is that of the redirect URL: the cookie must be there at the callback.
        """
        now = self._clock.monotonic()
        if now - self._announced < ANNOUNCE:
            return
        self._announced = now
        origin = f"{self._back.scheme}://{self._back.netloc}"
        self._log.info(
            "connect or disconnect an account here, once",
            open=f"{origin}{PATH}?ticket={self._ticket}",
        )

    # -- requests ----------------------------------------------------------------------

    async def _open(self, request: web.Request) -> web.Response:
        ticket = request.query.get("ticket", "")
        if ticket and secrets.compare_digest(ticket.encode(), self._ticket.encode()):
            return self._enter()
        session = self._session(request)
        if session is None:
            return self._stranger()
        return await self._show(session)

    def _enter(self) -> web.Response:
        """Take the ticket; the next one is another."""
        self._ticket = secrets.token_urlsafe(32)
        self._announced = float("-inf")
        now = self._clock.monotonic()
        self._sessions = {k: s for k, s in self._sessions.items() if s.until > now}
        while len(self._sessions) >= SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        name = secrets.token_urlsafe(32)
        self._sessions[name] = _Session(now + SESSION, secrets.token_urlsafe(32))
        response = self._to(PATH)
        response.set_cookie(
            _COOKIE,
            name,
            max_age=int(SESSION),
            httponly=True,
            samesite="Lax",  # not strict: the callback comes from Klaviyo's site
            secure=self._back.scheme == "https",  # a port-forward is http
        )
        return response

    async def _authenticate(
        self, request: web.Request, session: _Session
    ) -> web.Response:
        session.asked = self._connect.ask()
        session.replace = "replace" in await request.post()
        return self._to(session.asked.url)

    async def _callback(self, request: web.Request, session: _Session) -> web.Response:
        asked, session.asked = session.asked, None
        if asked is None:
            session.said = "This callback was used already, or nothing waited for it."
            return self._to(PATH)
        try:
            tokens = await self._connect.finish(
                asked, str(request.url), replace=session.replace
            )
        except PipelineError as error:
            session.said = str(error)
        else:
            session.said = "Connected. The service goes on by itself in a few seconds."
            self._log.info("account connected", account=tokens.account_id)
        return self._to(PATH)

    async def _disconnect(self, _: web.Request, session: _Session) -> web.Response:
        try:
            tokens = await self._connect.disconnect()
        except PipelineError as error:
            session.said = str(error)
        else:
            session.said = "Disconnected: the tokens are revoked and forgotten."
            if tokens is not None:
                self._log.info("account disconnected", account=tokens.account_id)
        return self._to(PATH)

    def _guarded(self, handler: _Handler) -> Callable[..., Awaitable[web.Response]]:
        """Let in only a session, and a form only if it is this page's."""

        async def guarded(request: web.Request) -> web.Response:
            session = self._session(request)
            if session is None:
                return self._stranger()
            if request.method == "POST":
                given = str((await request.post()).get("csrf", ""))
                if not _same_site(request) or not secrets.compare_digest(
                    given.encode(), session.csrf.encode()
                ):
                    return self._page(403, "<p>This form is not from here.</p>")
            return await handler(request, session)

        return guarded

    def _session(self, request: web.Request) -> _Session | None:
        session = self._sessions.get(request.cookies.get(_COOKIE, ""))
        if session is None or session.until <= self._clock.monotonic():
            return None
        return session

    # -- answers -----------------------------------------------------------------------

    async def _show(self, session: _Session) -> web.Response:
        said, session.said = session.said, ""
        tokens, state = None, ""
        try:
            tokens = await self._connect.connected()
        except PipelineError as error:
            state = f"<p id=state>{escape(str(error))}</p>"
        else:
            state = self._state(tokens)
        halts = "".join(f"<li>{escape(why)}</li>" for why in self._health.reasons())
        csrf = f'<input type=hidden name=csrf value="{session.csrf}">'
        replace = (
            "<label><input type=checkbox name=replace> It may be another account than "
            "before</label>"
        )
        return self._page(
            200,
            (f"<p id=said role=status>{escape(said)}</p>" if said else "")
            + state
            + (f"<p>The service is not ready:</p><ul>{halts}</ul>" if halts else "")
            + f"<form method=post action={PATH}/authenticate>{csrf}"
            f"<p><button id=authenticate>Authenticate</button> {replace}</p></form>"
            f"<form method=post action={PATH}/disconnect>{csrf}"
            f"<p><button id=disconnect>Disconnect</button></p></form>",
        )

    def _state(self, tokens: Tokens | None) -> str:
        if tokens is None:
            return "<p id=state>Not connected.</p>"
        expires = datetime.fromtimestamp(tokens.expires, UTC).isoformat(" ", "seconds")
        missing = self._connect.missing(tokens)
        lack = f"<p id=missing>Missing scopes: {escape(', '.join(missing))}</p>"
        return (
            f"<p id=state>Connected to {escape(tokens.account_name)} "
            f"({escape(tokens.account_id)}); the token is renewed before {expires}.</p>"
            f"<p>Scopes: {escape(' '.join(tokens.scopes))}</p>"
        ) + (lack if missing else "")

    def _stranger(self) -> web.Response:
        self.announce()
        return self._page(
            403, "<p>Open the link that stands in the log of the service.</p>"
        )

    def _page(self, status: int, content: str) -> web.Response:
        body = (
            "<!DOCTYPE html><html lang=en><meta charset=utf-8>"
            f"<title>klaviyo-pipeline</title><style>{_STYLE}</style>"
            f"<h1>Klaviyo</h1>{content}</html>"
        )
        return web.Response(
            status=status, text=body, content_type="text/html", headers=self._headers
        )

    def _to(self, place: str) -> web.Response:
        return web.Response(status=303, headers={**self._headers, "Location": place})


def _same_site(request: web.Request) -> bool:
    """Whether a form came from this server, as far as the browser says."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return False
    origin = request.headers.get("Origin")
    # Without the scheme: there may be a proxy that ends TLS.
    return origin is None or urlsplit(origin).netloc == request.host
