"""The OAuth side: authorize page, token, revoke; what was given out and what it may do.

Authorization code with PKCE (S256 only) and the client's secret as HTTP Basic. Errors of
the token endpoint are 400 `{error, error_description}`; revoking a refresh token ends the
whole installation. At most ten refreshes a minute. Sources: Klaviyo, "Set up OAuth",
"Make API calls using OAuth", "Troubleshoot OAuth errors"; Klaviyo's node SDK.
"""

import base64
import hashlib
import html
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

from pipeline.sandbox.clock import Clock
from pipeline.sandbox.settings import Settings
from pipeline.sandbox.wire import Answer, Json

__all__ = ["Install", "OAuth"]

_MINUTE = 60.0  # s
_HTML = {"Content-Type": "text/html; charset=utf-8"}
_JSON = {"Content-Type": "application/json"}
_ASKED = ("client_id", "redirect_uri", "scope", "state", "code_challenge")
_PAGE = """<!DOCTYPE html><title>Sandbox</title><h1>Sandbox</h1>
<p>The app <b>{client}</b> asks for: {scope}</p>
<form method="post">{fields}<button id="approve" name="decision" value="approve">Allow
</button> <button id="deny" name="decision" value="deny">Deny</button></form>"""


@dataclass
class Install:
    """One user's consent, and the tokens in force that came of it."""

    scopes: list[str]
    account: str
    access: dict[str, float] = field(default_factory=dict)  # token -> end, Unix s
    refresh: str = ""


@dataclass
class _Code:
    challenge: str
    redirect: str
    install: Install
    until: float  # Unix s


class OAuth:
    """All that was given out; `counts` says how often what was done."""

    def __init__(self, clock: Clock) -> None:
        """Start with no installation."""
        self._clock = clock
        self.installs: list[Install] = []
        self.counts = {"authorized": 0, "refreshed": 0, "refused": 0, "revoked": 0}
        self._codes: dict[str, _Code] = {}
        self._refreshes: list[float] = []  # Unix s

    def install(self, token: str) -> Install | None:
        """Whose access token it is, None when it is not in force."""
        for install in self.installs:
            if install.access.get(token, 0.0) > self._clock.now():
                return install
        return None

    def expire(self) -> None:
        """End all access tokens now; they can be refreshed."""
        for install in self.installs:
            install.access.clear()

    def uninstall(self) -> None:
        """What a user does inside Klaviyo: all tokens end, nobody is told."""
        self.installs.clear()

    def handle(  # noqa: PLR0911 - one line per request
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        raw: bytes,
        settings: Settings,
    ) -> Answer:
        """Answer a request under /oauth/."""
        form = dict(parse_qsl(raw.decode("utf-8", "replace")))
        match method, path:
            case "GET", "/oauth/authorize":
                return self._page(query, settings)
            case "POST", "/oauth/authorize":
                return self._decided({**query, **form}, settings)
            case "POST", "/oauth/token" | "/oauth/revoke":
                if not _client(headers, settings):
                    return self._refused("invalid_client", 401)
                if not headers.get("Content-Type", "").startswith(
                    "application/x-www-form-urlencoded"
                ):
                    return self._refused("invalid_request")
                if path == "/oauth/revoke":
                    return self._revoke(form)
                return self._token(form, settings)
            case _:
                return Answer(404)

    def _page(self, query: Mapping[str, str], settings: Settings) -> Answer:
        wrong = _wrong(query, settings)
        if wrong:
            return Answer(400, html.escape(wrong).encode(), _HTML)
        fields = "".join(
            f'<input type="hidden" name="{name}" value="{html.escape(query[name])}">'
            for name in (*_ASKED, "response_type", "code_challenge_method")
        )
        page = _PAGE.format(
            client=html.escape(query["client_id"]),
            scope=html.escape(query["scope"]),
            fields=fields,
        )
        return Answer(200, page.encode(), _HTML)

    def _decided(self, form: Mapping[str, str], settings: Settings) -> Answer:
        wrong = _wrong(form, settings)
        if wrong:
            return Answer(400, html.escape(wrong).encode(), _HTML)
        given = {"state": form["state"]}
        if form.get("decision") == "approve":
            code = secrets.token_urlsafe(24)
            scopes = [
                scope
                for scope in form["scope"].split()
                if scope not in settings.oauth_withheld
            ]
            self._codes[code] = _Code(
                form["code_challenge"],
                form["redirect_uri"],
                Install(scopes, settings.account_id),
                self._clock.now() + settings.oauth_code_seconds,
            )
            given["code"] = code
        else:
            given["error"] = "access_denied"
            given["error_description"] = "The user denied the request"
        target = form["redirect_uri"]
        joint = "&" if urlsplit(target).query else "?"
        return Answer(302, b"", {"Location": f"{target}{joint}{urlencode(given)}"})

    def _token(self, form: Mapping[str, str], settings: Settings) -> Answer:
        match form.get("grant_type"):
            case "authorization_code":
                # A code is good once, even if what else is sent is wrong.
                code = self._codes.pop(form.get("code", ""), None)
                if (
                    code is None
                    or code.until <= self._clock.now()
                    or code.redirect != form.get("redirect_uri")
                    or code.challenge != _challenge(form.get("code_verifier", ""))
                ):
                    return self._refused("invalid_grant")
                self.counts["authorized"] += 1
                self.installs.append(code.install)
                return self._issue(code.install, settings, rotate=True)
            case "refresh_token":
                return self._refresh(form.get("refresh_token", ""), settings)
            case _:
                return self._refused("unsupported_grant_type")

    def _refresh(self, token: str, settings: Settings) -> Answer:
        now = self._clock.now()
        self._refreshes = [at for at in self._refreshes if at > now - _MINUTE]
        if settings.limits and len(self._refreshes) >= settings.oauth_refreshes:
            return Answer(429, b"", {"Retry-After": "60"})
        self._refreshes.append(now)
        for install in self.installs:
            if token and install.refresh == token:
                self.counts["refreshed"] += 1
                return self._issue(install, settings, rotate=settings.oauth_rotate)
        return self._refused("invalid_grant")

    def _issue(self, install: Install, settings: Settings, *, rotate: bool) -> Answer:
        access = f"access-{secrets.token_urlsafe(24)}"
        seconds = settings.oauth_token_seconds
        install.access[access] = self._clock.now() + seconds
        if rotate:
            install.refresh = f"refresh-{secrets.token_urlsafe(24)}"
        answer: Json = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": seconds,
            "refresh_token": install.refresh,
            "scope": " ".join(install.scopes),
        }
        return Answer(200, Answer.json(200, answer).body, _JSON)

    def _revoke(self, form: Mapping[str, str]) -> Answer:
        token = form.get("token", "")
        left = [
            each for each in self.installs if token not in (each.refresh, *each.access)
        ]
        self.counts["revoked"] += len(self.installs) - len(left)
        self.installs = left
        return Answer(200, b"{}", _JSON)

    def _refused(self, error: str, status: int = 400) -> Answer:
        self.counts["refused"] += 1
        body = {"error": error, "error_description": f"Sandbox says {error}."}
        return Answer(status, Answer.json(status, body).body, _JSON)


def _wrong(  # noqa: PLR0911 - one line per fault
    query: Mapping[str, str], settings: Settings
) -> str:
    """Say what is wrong with an authorization request; the user is not sent back."""
    missing = [name for name in _ASKED if not query.get(name)]
    if missing:
        return f"missing: {', '.join(missing)}"
    if query["client_id"] != settings.oauth_client_id:
        return "unknown client_id"
    if query.get("response_type") != "code":
        return "response_type must be code"
    if query.get("code_challenge_method") != "S256":
        return "code_challenge_method must be S256"
    if "accounts:read" not in query["scope"].split():
        return "scope must have accounts:read"
    known = settings.oauth_redirects
    if known and query["redirect_uri"] not in known:
        return "redirect_uri is not registered"
    return ""


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _client(headers: Mapping[str, str], settings: Settings) -> bool:
    pair = f"{settings.oauth_client_id}:{settings.oauth_client_secret}"
    expected = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return headers.get("Authorization") == expected
