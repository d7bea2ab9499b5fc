"""A login is stored with what it grants, or changes nothing and says why; a logout."""

import asyncio

import pytest

from pipeline.klaviyo.account import AnotherAccount
from pipeline.klaviyo.oauth import (
    ClientRefused,
    Denied,
    NotGranted,
    Unavailable,
    WrongCallback,
)
from pipeline.sandbox.faults import Action, Match, Rule
from pipeline.sandbox.structure.load import operations
from tests.oauth_user import decide
from tests.unit.klaviyo.oauth_world import World
from tests.virtual_time import virtual


@virtual
async def test_a_login_is_stored_with_account_scopes_and_what_is_missing() -> None:
    async with World() as world:
        world.set(oauth_withheld=["lists:read"])
        connect = world.connect()
        assert await connect.connected() is None
        await world.login()
        tokens = await connect.connected()
        assert tokens is not None
        assert (tokens.account_id, tokens.account_name) == ("SaNdBx", "Sandbox")
        assert tokens.scopes == ("accounts:read", "profiles:write", "events:write")
        assert connect.missing(tokens) == ["lists:read"]
        secrets = [tokens.access_token, tokens.refresh_token]
        stored = b"".join(value or b"" for _, value in world.store.written)
        assert not any(secret.encode() in stored for secret in secrets)
        assert not any(secret in repr([connect, tokens]) for secret in secrets)


@virtual
async def test_callbacks_that_are_not_good_change_nothing_and_say_why() -> None:
    async with World() as world:
        connect = world.connect()
        asked = connect.ask()
        good = await decide(asked.url)
        denied = await decide(asked.url, "deny")
        with pytest.raises(WrongCallback, match="state"):
            await connect.finish(connect.ask(), good)
        with pytest.raises(Denied, match="denied"):
            await connect.finish(asked, denied)
        for empty in ("", "x", f"http://localhost/?state={asked.state}"):
            with pytest.raises(WrongCallback):
                await connect.finish(asked, empty)
        odd = f"http://localhost/?state={asked.state}&error=<script>"
        with pytest.raises(Denied, match="unknown") as raised:
            await connect.finish(asked, odd)
        assert "script" not in str(raised.value)
        assert world.store.values == {}
        await connect.finish(asked, good)
        with pytest.raises(NotGranted):  # twice
            await connect.finish(asked, good)
        late = connect.ask()
        callback = await decide(late.url)
        await asyncio.sleep(601)
        with pytest.raises(NotGranted, match="expired"):
            await connect.finish(late, callback)


@virtual
async def test_a_wrong_app_and_a_klaviyo_that_is_away_are_told_apart() -> None:
    async with World() as world:
        with pytest.raises(ClientRefused, match="client_secret"):
            await world.login(client_secret=lambda: "planted")
        world.answers("/oauth/token", 503)
        with pytest.raises(Unavailable, match="503"):
            await world.login()
        world.sandbox.faults.clear()
        world.set(oauth_withheld=["accounts:read"])
        with pytest.raises(Denied, match="accounts:read"):
            await world.login()
        assert world.store.values == {}


@virtual
async def test_an_app_is_known_or_not_before_anybody_is_asked() -> None:
    async with World() as world:
        await world.connect().known()
        with pytest.raises(ClientRefused, match=r"klaviyo\.client_id"):
            await world.connect(client_id="planted").known()
        with pytest.raises(ClientRefused, match=r"klaviyo\.client_secret"):
            await world.connect(client_secret=lambda: "planted").known()
        for status in (401, 404, 429, 503):  # nothing of the app's
            world.answers("/oauth/token", status)
            await world.connect(client_id="planted").known()
            world.sandbox.faults.clear()
        hang = Rule(match=Match(path="/oauth/token"), action=Action(kind="hang_before"))
        world.sandbox.faults.add(hang)
        began = asyncio.get_running_loop().time()
        await world.connect(client_id="planted").known()
        assert asyncio.get_running_loop().time() - began <= 5.1
        assert world.counts["refreshed"] == 0


@virtual
async def test_another_account_is_refused_unless_told() -> None:
    async with World() as world:
        await world.login()
        world.set(account_id="OTHER")
        with pytest.raises(AnotherAccount, match=r"OTHER.*SaNdBx"):
            await world.login()
        tokens = await world.connect().connected()
        assert tokens is not None
        assert tokens.account_id == "SaNdBx"
        assert world.counts["revoked"] == 0, "another service may deliver to the other"
        await world.login(replace=True)
        tokens = await world.connect().connected()
        assert tokens is not None
        assert tokens.account_id == "OTHER"


@virtual
async def test_a_logout_revokes_and_forgets_or_says_that_it_could_not() -> None:
    async with World() as world:
        assert await world.connect().disconnect() is None
        await world.login()
        rule = Rule(match=Match(path="/oauth/revoke"), action=Action(kind="reset_before"))
        world.sandbox.faults.add(rule)
        with pytest.raises(Unavailable):
            await world.connect().disconnect()
        assert await world.connect().connected() is not None
        world.sandbox.faults.clear()
        assert await world.connect().disconnect() is not None
        assert world.store.values == {}
        assert world.counts["revoked"] == 1


@virtual
async def test_a_token_that_is_not_known_at_once_is_tried_again() -> None:
    async with World() as world:
        rule = world.answers("/api/accounts", 401, times=1)
        await world.login()
        assert rule.fired == 1
        assert await world.connect().connected() is not None


@virtual
async def test_a_login_waits_its_turn_to_ask_for_the_account() -> None:
    """The code is used by then: an error would mean to log in anew."""
    async with World() as world:
        world.set(limits=True)
        accounts = operations("2026-07-15")["GET /api/accounts"]
        world.sandbox.account.windows.take(accounts, 15, world.sandbox.settings)
        await world.login()
        assert world.sandbox.ledger.statuses["GET /api/accounts"] == {200: 1, 429: 1}
        assert await world.connect().connected() is not None
