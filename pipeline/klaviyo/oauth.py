"""OAuth as Klaviyo speaks it: ask the user, take the code, get, refresh, revoke tokens.

Authorization code with PKCE (S256) and the client's secret as HTTP Basic; oauthlib makes
and reads the messages. Authorize lives on www.klaviyo.com, token and revoke on the API's
host only. Sources: Klaviyo, "Set up OAuth", "Make API calls using OAuth", "Troubleshoot
OAuth errors"; RFC 6749, 7636, 7009.
"""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
from oauthlib.oauth2 import OAuth2Error, WebApplicationClient

from pipeline.clock import Clock
from pipeline.errors import PipelineError
from pipeline.klaviyo.headers import retry_after
from pipeline.klaviyo.retry import explain, name_failure
from pipeline.klaviyo.tokens import Tokens
from pipeline.klaviyo.trust import SYSTEM, Trust

__all__ = [
    "App",
    "Asked",
    "ClientRefused",
    "Denied",
    "NotGranted",
    "OAuth",
    "Unavailable",
    "WrongCallback",
]

KLAVIYO: Final = "https://a.klaviyo.com"
AUTHORIZE: Final = "https://www.klaviyo.com/oauth/authorize"
TOTAL: Final = 30.0  # s for one call, as for the API
ACCOUNT_LIMIT: Final = 15.0  # s
LIMITED: Final = 75.0  # s, while all that is wrong is a 429: its window is a minute
_ACCOUNT_AGAIN: Final = 1.1  # s; its window is 1 s
_CONNECT: Final = 5.0  # s
_KNOWN: Final = 5.0  # s; the user waits, and an answer is no must
_NOBODYS: Final = "none"  # a refresh token that was never given to anybody
_LARGEST: Final = 1024 * 1024  # bytes of an answer
_LIFE: Final = 3600  # s, when an answer does not say expires_in
_VERIFIER: Final = 64  # characters; RFC 7636 allows 43 to 128
# oauthlib refuses http; whether that is right here (loopback, the sandbox) is decided by
# the settings. Only the query or the body of what it makes with this URL is used.
_PLACE: Final = "https://localhost/"
_OK, _BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _TOO_MANY = 200, 400, 401, 403, 429


class ClientRefused(PipelineError):
    """Klaviyo does not know the app's id or secret."""

    exit_code = 3


class NotGranted(PipelineError):
    """`invalid_grant`: the code or the refresh token is not good any more."""

    exit_code = 3


class Denied(PipelineError):
    """The user, or Klaviyo, said no on the authorize page."""

    exit_code = 3


class WrongCallback(PipelineError):
    """The callback does not belong to this login."""


class Unavailable(PipelineError):
    """No answer, or none that says anything: try again later."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        """`wait` are the seconds before which it would be vain, as a 429 told."""
        super().__init__(message)
        self.wait = wait


class App(msgspec.Struct, frozen=True):
    """The OAuth app as it is registered at Klaviyo."""

    client_id: str
    client_secret: Callable[[], str]  # the one in force; cheap, and does not block
    redirect_url: str
    scopes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"App({self.client_id})"


class Asked(msgspec.Struct, frozen=True):
    """One authorization asked for: where to send the user, and what proves it."""

    url: str
    state: str
    verifier: str

    def __repr__(self) -> str:
        return "Asked(***)"


class OAuth:
    """The calls. Each is one attempt and raises `Unavailable` when it may be repeated."""

    def __init__(
        self,
        app: App,
        api_url: str,
        agent: str,
        revision: str,
        clock: Clock,
        trust: Trust = SYSTEM,
    ) -> None:
        """`agent` is the User-Agent; `revision` is sent with the account's read."""
        self.app = app
        base = api_url.rstrip("/")
        self._authorize = AUTHORIZE if base == KLAVIYO else f"{base}/oauth/authorize"
        self._base = base
        self._headers = {"Accept": "application/json", "User-Agent": agent}
        self._revision = revision
        self._clock = clock
        self._trust = trust

    @property
    def authorize_origin(self) -> str:
        """Scheme and host of the page the user is sent to."""
        parts = urlsplit(self._authorize)
        return f"{parts.scheme}://{parts.netloc}"

    def ask(self) -> Asked:
        """Begin: a new URL with its own state and verifier."""
        client = WebApplicationClient(self.app.client_id)
        verifier = client.create_code_verifier(_VERIFIER)
        # Unguessable by oauthlib's own generator; it also makes the verifier.
        state = WebApplicationClient("").create_code_verifier(43)
        made = client.prepare_request_uri(
            _PLACE,
            redirect_uri=self.app.redirect_url,
            scope=list(self.app.scopes),
            state=state,
            code_challenge=client.create_code_challenge(verifier, "S256"),
            code_challenge_method="S256",
        )
        return Asked(f"{self._authorize}?{urlsplit(made).query}", state, verifier)

    async def known(self) -> None:
        """Make sure that Klaviyo knows the app, before a user is sent there.

        Refreshes with a token of nobody's: `invalid_grant` says that the app is good. No
        answer, or another one, says nothing and stops nothing. Raises `ClientRefused`.
        """
        client = WebApplicationClient(self.app.client_id)
        body = client.prepare_refresh_body(refresh_token=_NOBODYS)
        try:
            async with asyncio.timeout(_KNOWN):
                _, answer = await self._post("/oauth/token", body)
        except (Unavailable, TimeoutError):
            return
        _check_client(_OK, answer)

    async def exchange(self, asked: Asked, callback: str) -> Tokens:
        """Turn the URL that the user came back with into tokens, without account yet.

        Raises `WrongCallback`, `Denied`, `NotGranted`, `ClientRefused`, `Unavailable`.
        """
        client = WebApplicationClient(self.app.client_id)
        query = urlsplit(callback.strip()).query
        try:
            found = client.parse_request_uri_response(f"{_PLACE}?{query}", asked.state)
        except OAuth2Error as error:
            raise _callback_error(error) from None
        body = client.prepare_request_body(
            code=found["code"],
            redirect_uri=self.app.redirect_url,
            code_verifier=asked.verifier,
            include_client_id=False,
        )
        return await self._tokens(client, body, "")

    async def refresh(self, tokens: Tokens) -> Tokens:
        """Get the next tokens; the refresh token may be another one: store it first.

        Raises `NotGranted`, `ClientRefused`, `Unavailable`.
        """
        client = WebApplicationClient(self.app.client_id)
        body = client.prepare_refresh_body(refresh_token=tokens.refresh_token)
        fresh = await self._tokens(client, body, tokens.refresh_token)
        return msgspec.structs.replace(
            fresh,
            account_id=tokens.account_id,
            account_name=tokens.account_name,
            serial=max(fresh.serial, tokens.serial + 1),
            scopes=fresh.scopes or tokens.scopes,
        )

    async def revoke(self, tokens: Tokens) -> None:
        """End both tokens and the app's installation; what is gone already is no error.

        Raises `ClientRefused`, `Unavailable`.
        """
        client = WebApplicationClient(self.app.client_id)
        _, _, body = client.prepare_token_revocation_request(
            f"{_PLACE}oauth/revoke", tokens.refresh_token, "refresh_token"
        )
        status, answer = await self._post("/oauth/revoke", body)
        _check_client(status, answer)
        if status not in {_OK, _BAD_REQUEST}:
            raise Unavailable(f"Klaviyo answered {status} to revoke; try again later.")

    async def account(self, tokens: Tokens) -> Tokens:
        """Ask whose tokens they are, and note it in them.

        Tries for `ACCOUNT_LIMIT` s, or `LIMITED`: accounts allow one call a second and
        15 a minute, and the code that led here cannot be used again. Raises `Denied`
        without the scope accounts:read, else `Unavailable`.
        """
        started = self._clock.monotonic()
        while True:
            try:
                return await self._account(tokens)
            except Unavailable as error:
                pause = max(error.wait, _ACCOUNT_AGAIN)
                limit = LIMITED if error.wait else ACCOUNT_LIMIT
                if self._clock.monotonic() + pause > started + limit:
                    raise
            await asyncio.sleep(pause)

    async def _account(self, tokens: Tokens) -> Tokens:
        headers = {
            "Accept": "application/vnd.api+json",
            "Authorization": f"Bearer {tokens.access_token}",
            "revision": self._revision,
        }
        status, body = await self._send("GET", "/api/accounts", None, headers)
        if status == _FORBIDDEN:
            raise Denied(
                f"Klaviyo does not show the account ({status}): the app was not granted "
                "the scope accounts:read. Add it to klaviyo.scopes and to the app at "
                "Klaviyo, then login again."
            )
        # A 401 too may be over in a moment: the token is new.
        try:
            data = json.loads(body)["data"][0]
            contact = data["attributes"].get("contact_information") or {}
            return msgspec.structs.replace(
                tokens,
                account_id=str(data["id"]),
                account_name=str(contact.get("organization_name") or ""),
            )
        except (ValueError, LookupError, TypeError, AttributeError):
            raise Unavailable(
                f"Klaviyo did not tell the account ({status}); try again later."
            ) from None

    async def _tokens(
        self, client: WebApplicationClient, body: str, refresh_token: str
    ) -> Tokens:
        asked = self._clock.now()
        status, answer = await self._post("/oauth/token", body)
        _check_client(status, answer)
        try:
            found: dict[str, Any] = client.parse_request_body_response(answer)
        except OAuth2Error as error:
            code = str(error.error or "")
            if code.startswith("invalid_grant"):  # also spelt invalid_grant_type
                raise NotGranted(
                    "Klaviyo does not take the authorization any more (invalid_grant): "
                    "it has expired, was used, or the app was removed. Login again."
                ) from None
            if status == _BAD_REQUEST and code in _MISTAKES:
                raise ClientRefused(
                    f"Klaviyo refuses the app ({code}): compare klaviyo.client_id, "
                    "klaviyo.redirect_url and klaviyo.scopes with the app at Klaviyo."
                ) from None
            found = {}
        except (ValueError, TypeError, AttributeError):
            found = {}
        if status != _OK or not isinstance(found.get("access_token"), str):
            raise Unavailable(
                f"Klaviyo's token endpoint answered {status} without tokens; try again "
                "later."
            )
        scopes = found.get("scope") or ()
        return Tokens(
            access_token=found["access_token"],
            refresh_token=str(found.get("refresh_token") or refresh_token),
            lifetime=float(found.get("expires_in") or _LIFE),
            scopes=tuple(scopes.split() if isinstance(scopes, str) else scopes),
            client_id=self.app.client_id,
            obtained=asked,
            serial=int(asked * 1000),
        )

    async def _post(self, path: str, body: str) -> tuple[int, str]:
        login = f"{self.app.client_id}:{self.app.client_secret()}".encode()
        headers = {
            "Authorization": f"Basic {base64.b64encode(login).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return await self._send("POST", path, body, headers)

    async def _send(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[int, str]:
        # A session for each: there is one call an hour.
        try:
            async with (
                asyncio.timeout(TOTAL),
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=self._trust),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT),
                ) as session,
                session.request(
                    method,
                    self._base + path,
                    data=body,
                    headers=self._headers | headers,
                    allow_redirects=False,
                ) as answer,
            ):
                raw = await answer.content.read(_LARGEST)
                while not answer.content.at_eof() and len(raw) < _LARGEST:
                    raw += await answer.content.read(_LARGEST - len(raw))
        except Exception as error:  # FAILURES tells ours to wait out from bugs
            if (reason := name_failure(error)) is None:
                raise
            raise Unavailable(
                f"Klaviyo does not answer at {self._base}{path} ({explain(reason)}). "
                "Check klaviyo.api_url and the way to it (DNS, proxy, firewall)."
            ) from None
        if answer.status == _TOO_MANY:
            told, date = answer.headers.get("Retry-After"), answer.headers.get("Date")
            wait = retry_after(told, date, self._clock.now()) or 0.0
            raise Unavailable(
                f"Klaviyo's limit for {path} is used up (429); try again later.", wait
            )
        return answer.status, raw.decode("utf-8", "replace")


_MISTAKES: Final = frozenset(
    {
        "invalid_request",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)


def _check_client(status: int, answer: str) -> None:
    if status == _UNAUTHORIZED or '"invalid_client"' in answer:
        raise ClientRefused(
            "Klaviyo does not know the app (invalid_client): set klaviyo.client_id and "
            "klaviyo.client_secret to those of the app at Klaviyo."
        )


def _callback_error(error: OAuth2Error) -> PipelineError:
    code = str(error.error or "")
    match code:
        case "mismatching_state":
            return WrongCallback(
                "The callback does not belong to this login (its state is another). "
                "Start over with the URL that was printed last."
            )
        case "missing_code":
            return WrongCallback(
                "The callback carries no code. Give the whole URL that the browser shows "
                "after you allowed the access."
            )
        case "access_denied":
            return Denied("The access was denied at Klaviyo. Login again to allow it.")
        case _:
            # Only what has the form of a code: anybody can call a callback.
            name = code if code.replace("_", "").isalpha() else "unknown"
            return Denied(
                f"Klaviyo did not give access ({name[:40]}). Compare klaviyo.client_id, "
                "klaviyo.redirect_url and klaviyo.scopes with the app at Klaviyo."
            )
