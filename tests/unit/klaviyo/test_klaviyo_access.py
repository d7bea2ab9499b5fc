"""The life of a connection: login, refresh, rotation, removal, and a new login.

Against the sandbox, in virtual time.
"""

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Self

import pytest

from pipeline.kafka.producer import Unwritable
from pipeline.klaviyo.access import Access
from pipeline.klaviyo.account import AnotherAccount, Belongs
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.connect import Connect
from pipeline.klaviyo.limits import Limits
from pipeline.klaviyo.oauth import (
    App,
    ClientRefused,
    Denied,
    NotGranted,
    OAuth,
    Unavailable,
    WrongCallback,
)
from pipeline.klaviyo.revision import Revision
from pipeline.klaviyo.session import Accepted, Session
from pipeline.klaviyo.tokens import Vault
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.sandbox import Sandbox
from pipeline.sandbox.faults import Action, Match, Rule
from tests.oauth_user import KEY, MemoryStore, decide
from tests.virtual_time import LoopClock, virtual

SCOPES = ("accounts:read", "profiles:write", "events:write", "lists:read")
EVENT = (
    b'{"data":{"type":"event","attributes":{"properties":{},"metric":{"data":{"type":'
    b'"metric","attributes":{"name":"M"}}},"profile":{"data":{"type":"profile",'
    b'"attributes":{"email":"a@b.dev"}}}}}}'
)
HOUR = 3600


class Replica:
    """One process: its own access, client and health."""

    def __init__(self, world: "World", number: int = 0) -> None:
        clock = LoopClock()
        self.metrics = Metrics()
        self.health = Health(self.metrics, clock)
        self.health.phase = "running"
        chance = lambda: (number * 0.37 + 0.1) % 1  # noqa: E731
        self.access = Access(
            world.oauth(),
            Vault(world.store, KEY, clock, chance),
            health=self.health,
            metrics=self.metrics,
            clock=clock,
            chance=chance,
        )
        limits = Limits(clock, chance)
        self.session = Session(
            api_url=world.sandbox.url,
            agent="test",
            credential=self.access,
            revision=Revision(
                "2026-07-15", strict=False, metrics=self.metrics, clock=clock
            ),
            limits=limits,
            connections=100,
            health=self.health,
            metrics=self.metrics,
            clock=clock,
            chance=chance,
        )
        self.client = Client(self.session, limits)

    def reasons(self) -> str:
        return "; ".join(self.health.reasons())

    def expires(self) -> float:
        name = "klaviyo_pipeline_token_expires_timestamp_seconds"
        return self.metrics.registry.get_sample_value(name) or 0.0


class World:
    """A Klaviyo, a store, and any number of replicas."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.accounts = MemoryStore()
        self.sandbox = Sandbox(clock=LoopClock(), limits=False)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.sandbox)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def oauth(self, **other: Any) -> OAuth:
        given: dict[str, Any] = {
            "client_id": "sandbox",
            "client_secret": "sandbox",
            "redirect_url": "http://localhost:8080/connect/callback",
            "scopes": SCOPES,
        }
        app = App(**(given | other))
        return OAuth(app, self.sandbox.url, "test", "2026-07-15", LoopClock())

    def connect(self, **other: Any) -> Connect:
        vault = Vault(self.store, KEY, LoopClock(), lambda: 0.5)
        return Connect(self.oauth(**other), vault, Belongs(self.accounts))

    async def login(self, *, replace: bool = False, **other: Any) -> None:
        connect = self.connect(**other)
        asked = connect.ask()
        await connect.finish(asked, await decide(asked.url), replace=replace)

    async def replica(self, number: int = 0) -> Replica:
        made = Replica(self, number)
        await self._stack.enter_async_context(made.access)
        await self._stack.enter_async_context(made.session)
        return made

    def set(self, **settings: Any) -> None:
        self.sandbox.settings = self.sandbox.settings.changed(settings)

    @property
    def accepted(self) -> int:
        return self.sandbox.ledger.statuses["POST /api/events"].get(202, 0)

    @property
    def counts(self) -> dict[str, int]:
        return self.sandbox.oauth.counts


# -- login -------------------------------------------------------------------------------


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
            await world.login(client_secret="planted")
        world.sandbox.faults.add(
            Rule(
                match=Match(path="/oauth/token"), action=Action(kind="status", status=503)
            )
        )
        with pytest.raises(Unavailable, match="503"):
            await world.login()
        world.sandbox.faults.clear()
        world.set(oauth_withheld=["accounts:read"])
        with pytest.raises(Denied, match="accounts:read"):
            await world.login()
        assert world.store.values == {}


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


# -- refresh -----------------------------------------------------------------------------


@virtual
async def test_a_token_is_refreshed_ahead_of_its_end_and_no_call_sees_a_401() -> None:
    async with World() as world:
        await world.login()
        replica = await world.replica()
        first = replica.expires()
        for _ in range(20):
            await asyncio.sleep(600)
            assert isinstance(await replica.client.create_event(EVENT), Accepted)
        assert 3 <= world.counts["refreshed"] <= 4
        assert replica.expires() > first + 3 * HOUR - 1000
        assert "401" not in str(world.sandbox.ledger.statuses)


@virtual
async def test_a_hundred_calls_at_expiry_are_one_refresh_and_no_halt() -> None:
    async with World() as world:
        await world.login()
        replica = await world.replica()
        await asyncio.sleep(100)
        world.sandbox.oauth.expire()
        calls = (replica.client.create_event(EVENT) for _ in range(100))
        answers = await asyncio.gather(*calls)
        assert all(isinstance(answer, Accepted) for answer in answers)
        assert world.counts == {
            "authorized": 1,
            "refreshed": 1,
            "refused": 0,
            "revoked": 0,
        }
        assert replica.reasons() == ""
        assert world.accepted == 100


@virtual
async def test_three_replicas_refresh_once_per_expiry() -> None:
    async with World() as world:
        await world.login()
        replicas = [await world.replica(number) for number in range(3)]
        for hour in range(1, 4):
            await asyncio.sleep(100)
            world.sandbox.oauth.expire()
            calls = [
                one.client.create_event(EVENT) for one in replicas for _ in range(20)
            ]
            assert len(await asyncio.gather(*calls)) == 60
            assert world.counts["refreshed"] == hour
        assert world.counts["refused"] == 0
        assert [one.reasons() for one in replicas] == [""] * 3


@virtual
async def test_a_rotated_token_is_stored_before_it_is_used() -> None:
    async with World() as world:
        await world.login()
        replica = await world.replica()
        await asyncio.sleep(100)
        world.sandbox.oauth.expire()
        put = world.store.put

        async def refusing(key: str, value: bytes | None) -> None:
            if key == "tokens" and asyncio.get_running_loop().time() < 200:
                raise Unwritable("down")
            await put(key, value)

        world.store.put = refusing  # type: ignore[method-assign]
        call = asyncio.create_task(replica.client.create_event(EVENT))
        await asyncio.sleep(60)
        assert world.counts["refreshed"] == 1
        assert not call.done(), "the new token is used, but not stored"
        assert "stored" in str(replica.health.waits())
        assert isinstance(await call, Accepted)
        assert world.counts["refreshed"] == 1
        assert replica.health.waits() == {}
        stored = await world.connect().connected()
        assert stored == replica.access.tokens


@virtual
async def test_a_caller_that_gives_up_does_not_lose_the_rotated_token() -> None:
    async with World() as world:
        await world.login()
        replica = await world.replica()
        await asyncio.sleep(100)
        for step in range(40):
            await asyncio.sleep(61)
            world.sandbox.oauth.expire()
            call = asyncio.create_task(replica.client.create_event(EVENT))
            await asyncio.sleep(step / 200)
            call.cancel()
            await asyncio.wait([call])
        await asyncio.sleep(5)
        assert isinstance(await replica.client.create_event(EVENT), Accepted)
        assert world.counts["refused"] == 0


@virtual
async def test_an_outage_of_the_token_endpoint_is_waited_out_visibly() -> None:
    async with World() as world:
        await world.login()
        replica = await world.replica()
        await asyncio.sleep(100)
        world.sandbox.oauth.expire()
        rule = Rule(
            match=Match(path="/oauth/token", seconds=300),
            action=Action(kind="status", status=502),
        )
        world.sandbox.faults.add(rule)
        call = asyncio.create_task(replica.client.create_event(EVENT))
        await asyncio.sleep(200)
        assert "502" in str(replica.health.waits())
        assert replica.reasons() == ""
        assert isinstance(await call, Accepted)
        assert replica.health.waits() == {}


# -- removal -----------------------------------------------------------------------------


@virtual
async def test_removed_at_klaviyo_halts_and_a_login_ends_it_without_a_restart() -> None:
    async with World() as world:
        await world.login()
        replicas = [await world.replica(number) for number in range(2)]
        await asyncio.sleep(100)
        world.sandbox.oauth.uninstall()
        calls = [
            asyncio.create_task(one.client.create_event(EVENT)) for one in replicas * 10
        ]
        await asyncio.sleep(30)
        for one in replicas:
            assert one.reasons().startswith("needs_authorisation")
            assert "klaviyo-pipeline login" in one.reasons()
            assert one.expires() == 0
        assert not any(call.done() for call in calls)
        asked = world.counts["refused"]
        await asyncio.sleep(2 * HOUR)
        assert world.counts["refused"] == asked <= 2, "a dead token is not tried again"
        await world.login()
        started = asyncio.get_running_loop().time()
        await asyncio.gather(*calls)
        assert asyncio.get_running_loop().time() - started < 10
        assert [one.reasons() for one in replicas] == ["", ""]
        assert world.accepted == 20


@virtual
async def test_a_login_by_a_clock_far_behind_ends_the_halt_too() -> None:
    class Behind(LoopClock):
        def now(self) -> float:
            return super().now() - 600

    async with World() as world:
        await world.login()
        replica = await world.replica()
        world.sandbox.oauth.uninstall()
        sending = asyncio.create_task(replica.client.create_event(EVENT))
        while "needs_authorisation" not in replica.reasons():
            await asyncio.sleep(1)
        await Vault(world.store, KEY, LoopClock(), lambda: 0.5).write(None)  # a logout
        connect = world.connect()
        connect._oauth._clock = Behind()
        asked = connect.ask()
        await connect.finish(asked, await decide(asked.url))
        await sending
        assert replica.reasons() == ""


@virtual
async def test_a_service_that_starts_before_the_first_login_waits_for_it() -> None:
    async with World() as world:
        replica = await world.replica()
        call = asyncio.create_task(replica.client.accounts())
        await asyncio.sleep(60)
        assert replica.reasons().startswith(
            "needs_authorisation: no account is connected"
        )
        assert world.sandbox.ledger.statuses == {}, "nothing is sent without a token"
        await world.login()
        await call
        assert replica.reasons() == ""


@virtual
async def test_a_logout_elsewhere_halts_within_two_minutes() -> None:
    async with World() as world:
        await world.login()
        replica = await world.replica()
        await asyncio.sleep(100)
        await world.connect().disconnect()
        await asyncio.sleep(120)
        assert "no account is connected" in replica.reasons()


@virtual
async def test_a_logout_elsewhere_is_noticed_at_the_next_call() -> None:
    async with World() as world:
        await world.login()
        replica = await world.replica()
        await world.connect().disconnect()
        call = asyncio.create_task(replica.client.create_event(EVENT))
        await asyncio.sleep(3)
        assert "no account is connected" in replica.reasons()
        await world.login()
        await asyncio.sleep(10)
        assert call.done()


@virtual
async def test_a_token_refused_when_it_is_new_is_not_refreshed_in_a_circle() -> None:
    async with World() as world:
        await world.login()
        replica = await world.replica()
        world.set(revoked_keys=["*"])
        call = asyncio.create_task(replica.client.create_event(EVENT))
        await asyncio.sleep(600)
        assert replica.reasons().startswith("unauthorized")
        assert world.counts["refreshed"] <= 10
        world.set(revoked_keys=[])
        assert isinstance(await call, Accepted)
        assert replica.reasons() == ""


@virtual
async def test_a_401_to_a_new_token_is_tried_again_without_halt_or_refresh() -> None:
    async with World() as world:
        await world.login()
        replica = await world.replica()
        await replica.client.create_event(EVENT)
        rule = Rule(
            match=Match(path="/api/events", times=20),
            action=Action(kind="status", status=401),
        )
        world.sandbox.faults.add(rule)
        calls = [
            asyncio.create_task(replica.client.create_event(EVENT)) for _ in range(20)
        ]
        while not all(call.done() for call in calls):
            assert not replica.health.halted, replica.reasons()
            await asyncio.sleep(0.1)
        answers = await asyncio.gather(*calls)
        assert all(isinstance(answer, Accepted) for answer in answers)
        assert rule.fired == 20
        assert world.counts["refreshed"] == 0


@virtual
async def test_a_new_token_has_one_second_chance_and_no_more() -> None:
    async with World() as world:
        await world.login()
        replica = await world.replica()
        for halts in (False, True):
            rule = Rule(
                match=Match(path="/api/events", times=1),
                action=Action(kind="status", status=401),
            )
            world.sandbox.faults.add(rule)
            call = asyncio.create_task(replica.client.create_event(EVENT))
            await asyncio.sleep(3)
            assert replica.health.halted is halts
            assert isinstance(await call, Accepted)
            assert replica.reasons() == ""
        assert world.counts["refreshed"] == 0


@virtual
async def test_a_missing_scope_halts_until_a_login_grants_it() -> None:
    async with World() as world:
        world.set(oauth_withheld=["events:write"])
        await world.login()
        replica = await world.replica()
        call = asyncio.create_task(replica.client.create_event(EVENT))
        await asyncio.sleep(30)
        assert replica.reasons().startswith("forbidden")
        assert "klaviyo.scopes" in replica.reasons()
        world.set(oauth_withheld=[])
        await world.login()
        assert isinstance(await call, Accepted)
        assert replica.reasons() == ""


@virtual
async def test_a_wrong_client_secret_at_refresh_halts_and_heals_by_itself() -> None:
    async with World() as world:
        await world.login()
        replica = await world.replica()
        await asyncio.sleep(100)
        world.set(oauth_client_secret="changed")
        world.sandbox.oauth.expire()
        call = asyncio.create_task(replica.client.create_event(EVENT))
        await asyncio.sleep(30)
        assert "klaviyo.client_secret" in replica.reasons()
        world.set(oauth_client_secret="sandbox")
        assert isinstance(await call, Accepted)
        assert replica.reasons() == ""
