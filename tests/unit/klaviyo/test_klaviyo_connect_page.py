"""/connect: who may open it, and what its forms and the callback refuse."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from structlog.testing import capture_logs

from pipeline.clock import SYSTEM
from pipeline.klaviyo import connect_page
from pipeline.klaviyo.account import Belongs
from pipeline.klaviyo.connect import Connect
from pipeline.klaviyo.connect_page import ConnectPage
from pipeline.klaviyo.oauth import App, OAuth
from pipeline.klaviyo.tokens import Vault
from pipeline.observe.health import Health
from pipeline.observe.http import Probes
from pipeline.observe.metrics import Metrics
from pipeline.sandbox import Sandbox
from pipeline.settings import Http
from tests.oauth_user import KEY, MemoryStore, decide
from tests.ports import free_port


class Visitor:
    """A browser without a screen, in front of a served page."""

    def __init__(self, sandbox: Sandbox) -> None:
        port = free_port()
        self.base = f"http://localhost:{port}"
        self.sandbox = sandbox
        self.store = MemoryStore()
        self.accounts = MemoryStore()
        app = App(
            client_id="sandbox",
            client_secret=lambda: "sandbox",
            redirect_url=f"{self.base}/connect/callback",
            scopes=("accounts:read", "events:write"),
        )
        oauth = OAuth(app, sandbox.url, "test", "2026-07-15", SYSTEM)
        vault = Vault(self.store, KEY, SYSTEM, lambda: 0.5)
        self.connect = Connect(oauth, vault, Belongs(MemoryStore()))
        metrics = Metrics()
        self.health = Health(metrics, SYSTEM)
        self.page = ConnectPage(self.connect, self.health, SYSTEM)
        http = Http(host="localhost", port=port)
        self.probes = Probes(http, self.health, metrics, self.page.routes())
        self.http = aiohttp.ClientSession()

    async def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        **form: str,
    ) -> tuple[int, str, str]:
        """Status, body and Location; redirects are not followed."""
        url = path if path.startswith("http") else self.base + path
        async with self.http.request(
            method, url, data=form or None, headers=headers, allow_redirects=False
        ) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            text = await answer.text()
            return answer.status, text, answer.headers.get("Location", "")

    def link(self) -> str:
        """The link that stands in the log."""
        self.page._announced = float("-inf")
        with capture_logs() as lines:
            self.page.announce()
        return str(lines[0]["open"])

    async def enter(self) -> str:
        """Open the link; the CSRF value of the page."""
        status, _, place = await self.ask("GET", self.link())
        assert (status, place) == (303, "/connect")
        return await self.csrf()

    async def csrf(self) -> str:
        status, text, _ = await self.ask("GET", "/connect")
        assert status == 200
        found = re.search(r'name=csrf value="([^"]+)"', text)
        assert found
        return found[1]

    async def shown(self) -> str:
        return (await self.ask("GET", "/connect"))[1]


@pytest.fixture
async def visitor() -> AsyncIterator[Visitor]:
    async with Sandbox(limits=False) as sandbox:
        made = Visitor(sandbox)
        await made.probes.start()
        yield made
        await made.http.close()
        await made.probes.stop()


async def test_connected_and_disconnected_by_the_buttons(visitor: Visitor) -> None:
    csrf = await visitor.enter()
    assert "Not connected" in await visitor.shown()
    status, _, place = await visitor.ask("POST", "/connect/authenticate", csrf=csrf)
    assert status == 303
    assert place.startswith(f"{visitor.sandbox.url}/oauth/authorize?")
    callback = await decide(place)
    assert (await visitor.ask("GET", callback))[2] == "/connect"
    text = await visitor.shown()
    assert "Connected to Sandbox (SaNdBx)" in text
    tokens = await visitor.connect.connected()
    assert tokens is not None
    assert tokens.access_token not in text
    assert tokens.refresh_token not in text
    await visitor.ask("GET", callback)
    assert "used already" in await visitor.shown()
    await visitor.ask("POST", "/connect/disconnect", csrf=csrf)
    assert "Not connected" in await visitor.shown()
    assert visitor.sandbox.oauth.installs == []


async def test_only_who_reads_the_log_gets_in_and_a_link_is_good_once(
    visitor: Visitor,
) -> None:
    for path in ("/connect", "/connect?ticket=", "/connect?ticket=x"):
        assert (await visitor.ask("GET", path))[0] == 403
    for path in ("/connect/authenticate", "/connect/disconnect"):
        assert (await visitor.ask("POST", path, csrf="x"))[0] == 403
    assert (await visitor.ask("GET", "/connect/callback?code=x&state=y"))[0] == 403
    link = visitor.link()
    assert (await visitor.ask("GET", link))[0] == 303
    visitor.http.cookie_jar.clear()
    assert (await visitor.ask("GET", link))[0] == 403
    assert visitor.link() != link


async def test_a_form_from_elsewhere_does_nothing(visitor: Visitor) -> None:
    csrf = await visitor.enter()
    assert (await visitor.ask("POST", "/connect/disconnect"))[0] == 403
    assert (await visitor.ask("POST", "/connect/disconnect", csrf="x"))[0] == 403
    elsewhere: list[dict[str, str]] = [
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ]
    for headers in elsewhere:
        for path in ("/connect/disconnect", "/connect/authenticate"):
            assert (await visitor.ask("POST", path, headers, csrf=csrf))[0] == 403
    own = {"Origin": visitor.base, "Sec-Fetch-Site": "same-origin"}
    assert (await visitor.ask("POST", "/connect/disconnect", own, csrf=csrf))[0] == 303


async def test_a_callback_of_another_session_is_refused(visitor: Visitor) -> None:
    csrf = await visitor.enter()
    _, _, place = await visitor.ask("POST", "/connect/authenticate", csrf=csrf)
    callback = await decide(place)
    visitor.http.cookie_jar.clear()
    assert (await visitor.ask("GET", callback))[0] == 403
    await visitor.enter()
    assert (await visitor.ask("GET", callback))[0] == 303
    assert "nothing waited" in await visitor.shown()
    assert await visitor.connect.connected() is None


@pytest.mark.parametrize(
    ("decision", "change", "said"),
    [
        ("deny", "", "denied"),
        ("approve", "&state=other", "does not belong"),
        ("approve", "&code=x", "invalid_grant"),
    ],
)
async def test_what_goes_wrong_at_klaviyo_is_said(
    visitor: Visitor, decision: Any, change: str, said: str
) -> None:
    csrf = await visitor.enter()
    _, _, place = await visitor.ask("POST", "/connect/authenticate", csrf=csrf)
    await visitor.ask("GET", await decide(place, decision) + change)
    assert said in await visitor.shown()
    assert await visitor.connect.connected() is None


async def test_another_account_needs_the_tick(visitor: Visitor) -> None:
    csrf = await visitor.enter()

    async def authenticate(*tick: str) -> str:
        form = {"csrf": csrf} | dict.fromkeys(tick, "on")
        _, _, place = await visitor.ask("POST", "/connect/authenticate", None, **form)
        await visitor.ask("GET", await decide(place))
        return await visitor.shown()

    await authenticate()
    changed = {"account_id": "<OTHER>"}
    visitor.sandbox.settings = visitor.sandbox.settings.changed(changed)
    text = await authenticate()
    assert "Connected to Sandbox (SaNdBx)" in text
    assert "&lt;OTHER&gt;" in text
    assert "<OTHER>" not in text
    assert "Connected to Sandbox (&lt;OTHER&gt;)" in await authenticate("replace")


async def test_a_session_ends_and_only_a_few_are_kept(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(connect_page.SESSIONS + 5):
        visitor.http.cookie_jar.clear()
        await visitor.enter()
    assert len(visitor.page._sessions) == connect_page.SESSIONS
    for session in visitor.page._sessions.values():
        session.until = 0.0
    assert (await visitor.ask("GET", "/connect"))[0] == 403


async def test_the_link_goes_to_the_log_once_a_minute_however_often_asked(
    visitor: Visitor,
) -> None:
    visitor.page.announce()
    with capture_logs() as lines:
        for _ in range(20):
            await visitor.ask("GET", "/connect")
    assert lines == []


async def test_the_link_has_the_host_of_the_redirect(visitor: Visitor) -> None:
    assert urlsplit(visitor.link()).netloc == urlsplit(visitor.base).netloc
