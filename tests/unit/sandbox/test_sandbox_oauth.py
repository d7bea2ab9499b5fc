"""The OAuth side of the sandbox is as strict as Klaviyo's."""

import base64
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import pytest

from pipeline.sandbox import HeldClock, Sandbox

# RFC 7636, appendix B
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
REDIRECT = "http://localhost:1/back"
ASK = {
    "response_type": "code",
    "client_id": "sandbox",
    "redirect_uri": REDIRECT,
    "scope": "accounts:read events:write",
    "state": "s",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


class User:
    """Somebody who asks the sandbox by hand."""

    def __init__(self, sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
        self._url = sandbox.url
        self._http = http

    async def page(self, **ask: str) -> int:
        query = urlencode(ASK | ask)
        async with self._http.get(f"{self._url}/oauth/authorize?{query}") as answer:
            return answer.status

    async def decide(self, decision: str, **ask: str) -> dict[str, list[str]]:
        async with self._http.post(
            f"{self._url}/oauth/authorize",
            data=ASK | ask | {"decision": decision},
            allow_redirects=False,
        ) as answer:
            assert answer.status == 302
            return parse_qs(urlsplit(answer.headers["Location"]).query)

    async def code(self) -> str:
        return (await self.decide("approve"))["code"][0]

    async def post(
        self, path: str, *, client: str = "sandbox:sandbox", **form: str
    ) -> tuple[int, dict[str, Any]]:
        basic = base64.b64encode(client.encode()).decode()
        async with self._http.post(
            f"{self._url}/oauth/{path}",
            data=form,
            headers={"Authorization": f"Basic {basic}"},
        ) as answer:
            return answer.status, await answer.json() if answer.status != 429 else {}

    async def tokens(self, **form: str) -> tuple[int, dict[str, Any]]:
        given = {
            "grant_type": "authorization_code",
            "code_verifier": VERIFIER,
            "redirect_uri": REDIRECT,
        }
        return await self.post("token", **(given | form))

    async def refresh(self, token: str) -> tuple[int, dict[str, Any]]:
        return await self.post("token", grant_type="refresh_token", refresh_token=token)

    async def call(self, token: str, path: str = "/api/accounts") -> int:
        headers = {"Authorization": f"Bearer {token}", "revision": "2026-07-15"}
        async with self._http.get(self._url + path, headers=headers) as answer:
            return answer.status


@pytest.fixture
async def user(sandbox: Sandbox) -> Any:
    sandbox.settings = sandbox.settings.changed({"limits": False})
    async with aiohttp.ClientSession() as http:
        yield User(sandbox, http)


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": "other"},
        {"response_type": "token"},
        {"code_challenge_method": "plain"},
        {"code_challenge": ""},
        {"state": ""},
        {"scope": "events:write"},
    ],
)
async def test_a_wrong_question_is_not_asked(user: User, wrong: dict[str, str]) -> None:
    assert await user.page() == 200
    assert await user.page(**wrong) == 400


async def test_approved_refreshed_rotated_revoked(user: User, clock: HeldClock) -> None:
    status, first = await user.tokens(code=await user.code())
    assert status == 200
    assert first["scope"] == "accounts:read events:write"
    assert await user.call(first["access_token"]) == 200
    assert await user.call(first["access_token"], "/api/lists") == 403
    clock.advance(3600)
    assert await user.call(first["access_token"]) == 401
    _, second = await user.refresh(first["refresh_token"])
    assert second["refresh_token"] != first["refresh_token"]
    assert await user.call(second["access_token"]) == 200
    assert await user.refresh(first["refresh_token"]) == (
        400,
        {"error": "invalid_grant", "error_description": "Sandbox says invalid_grant."},
    )
    await user.post("revoke", token=second["refresh_token"])
    assert await user.call(second["access_token"]) == 401
    assert (await user.refresh(second["refresh_token"]))[0] == 400


async def test_denied(user: User) -> None:
    assert await user.decide("deny") == {
        "error": ["access_denied"],
        "error_description": ["The user denied the request"],
        "state": ["s"],
    }


@pytest.mark.parametrize("wrong", [{"code_verifier": "x"}, {"redirect_uri": "http://x/"}])
async def test_a_code_is_good_once_in_time_and_for_who_asked(
    user: User, clock: HeldClock, wrong: dict[str, str]
) -> None:
    code = await user.code()
    assert (await user.tokens(code=code, **wrong))[0] == 400
    assert (await user.tokens(code=code))[0] == 400
    late = await user.code()
    clock.advance(600)
    assert (await user.tokens(code=late))[1]["error"] == "invalid_grant"


async def test_the_secret_counts(user: User) -> None:
    status, body = await user.post(
        "token", client="sandbox:x", grant_type="refresh_token"
    )
    assert (status, body["error"]) == (401, "invalid_client")


async def test_ten_refreshes_a_minute(
    user: User, sandbox: Sandbox, clock: HeldClock
) -> None:
    sandbox.settings = sandbox.settings.changed({"limits": True, "oauth_rotate": False})
    _, first = await user.tokens(code=await user.code())
    statuses = [(await user.refresh(first["refresh_token"]))[0] for _ in range(11)]
    assert statuses == [200] * 10 + [429]
    clock.advance(60)
    assert (await user.refresh(first["refresh_token"]))[0] == 200


async def test_by_hand_expired_and_removed(user: User, ask: Any) -> None:
    _, first = await user.tokens(code=await user.code())
    await ask("POST", "/sandbox/oauth", {"do": "expire"})
    assert await user.call(first["access_token"]) == 401
    _, second = await user.refresh(first["refresh_token"])
    assert await user.call(second["access_token"]) == 200
    await ask("POST", "/sandbox/oauth", {"do": "uninstall"})
    assert await user.call(second["access_token"]) == 401
    _, counted, _ = await ask("GET", "/sandbox/oauth")
    assert counted == {
        "installs": 0,
        "authorized": 1,
        "refreshed": 1,
        "refused": 0,
        "revoked": 0,
    }
    assert (await ask("POST", "/sandbox/oauth", {"do": "x"}))[0] == 404
