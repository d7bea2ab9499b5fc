"""The life of a connection: refresh, rotation, removal, and a new login.

Against the sandbox, in virtual time.
"""

import asyncio

from pipeline.kafka.producer import Unwritable
from pipeline.klaviyo.call import Accepted
from pipeline.klaviyo.tokens import Vault
from tests.oauth_user import KEY, OTHER_KEY, decide
from tests.unit.klaviyo.oauth_world import EVENT, HOUR, World, connected
from tests.virtual_time import LoopClock, virtual

# -- refresh -----------------------------------------------------------------------------


@virtual
async def test_a_token_is_refreshed_ahead_of_its_end_and_no_call_sees_a_401() -> None:
    async with connected() as (world, replica):
        first = replica.expires()
        for _ in range(20):
            await asyncio.sleep(600)
            assert isinstance(await replica.client.create_event(EVENT), Accepted)
        assert 3 <= world.counts["refreshed"] <= 4
        assert replica.expires() > first + 3 * HOUR - 1000
        assert "401" not in str(world.sandbox.ledger.statuses)


@virtual
async def test_a_hundred_calls_at_expiry_are_one_refresh_and_no_halt() -> None:
    async with connected() as (world, replica):
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
    async with connected() as (world, replica):
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
    async with connected() as (world, replica):
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
    async with connected() as (world, replica):
        await asyncio.sleep(100)
        world.sandbox.oauth.expire()
        world.answers("/oauth/token", 502, seconds=300)
        call = asyncio.create_task(replica.client.create_event(EVENT))
        await asyncio.sleep(200)
        assert "502" in str(replica.health.waits())
        assert replica.reasons() == ""
        assert isinstance(await call, Accepted)
        assert replica.health.waits() == {}


@virtual
async def test_a_secret_of_the_app_that_is_mended_while_it_runs_ends_the_halt() -> None:
    async with connected() as (world, replica):
        await asyncio.sleep(100)
        world.set(oauth_client_secret="rotated")
        world.sandbox.oauth.expire()
        call = asyncio.create_task(replica.client.create_event(EVENT))
        await asyncio.sleep(10)
        assert "klaviyo.client_secret" in replica.reasons()
        assert "PIPELINE_SECRETS_DIR" in replica.reasons()
        world.secret = "rotated"
        await asyncio.sleep(70)
        assert isinstance(await call, Accepted)
        assert replica.reasons() == ""


@virtual
async def test_a_limit_of_the_token_endpoint_is_waited_out_as_it_says() -> None:
    async with connected() as (world, replica):
        await asyncio.sleep(100)
        world.sandbox.oauth.expire()
        rule = world.answers("/oauth/token", 429, seconds=30, retry_after=30)
        assert isinstance(await replica.client.create_event(EVENT), Accepted)
        assert rule.fired == 1
        assert replica.reasons() == ""


@virtual
async def test_tokens_sealed_with_another_key_meanwhile_halt_until_they_open() -> None:
    """A login with a new secrets.key alone, while the service has the former one."""
    async with connected() as (world, replica):
        before = dict(world.store.values)
        other = Vault(world.store, OTHER_KEY, LoopClock(), lambda: 0.5)
        tokens = replica.access.tokens
        assert tokens is not None
        await other.write(tokens)
        await asyncio.sleep(HOUR / 2)
        assert isinstance(await replica.client.create_event(EVENT), Accepted)
        await asyncio.sleep(HOUR / 2)
        assert replica.reasons().startswith("needs_authorisation")
        assert "secrets.key" in replica.reasons()
        assert "restart" in replica.reasons()
        call = asyncio.create_task(replica.client.create_event(EVENT))
        world.store.values |= before
        assert isinstance(await call, Accepted)
        assert replica.reasons() == ""


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

    async with connected() as (world, replica):
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
    async with connected() as (world, replica):
        await asyncio.sleep(100)
        await world.connect().disconnect()
        await asyncio.sleep(120)
        assert "no account is connected" in replica.reasons()


@virtual
async def test_a_logout_elsewhere_is_noticed_at_the_next_call() -> None:
    async with connected() as (world, replica):
        await world.connect().disconnect()
        call = asyncio.create_task(replica.client.create_event(EVENT))
        await asyncio.sleep(3)
        assert "no account is connected" in replica.reasons()
        await world.login()
        await asyncio.sleep(10)
        assert call.done()


@virtual
async def test_a_token_refused_when_it_is_new_is_not_refreshed_in_a_circle() -> None:
    async with connected() as (world, replica):
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
    async with connected() as (world, replica):
        await replica.client.create_event(EVENT)
        rule = world.answers("/api/events", 401, times=20)
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
async def test_a_look_gives_a_new_token_its_second_chance_too() -> None:
    async with connected() as (world, replica):
        rule = world.answers("/api/accounts", 401, times=1)
        assert (await replica.client.look.probe()).standing == "ok"
        assert rule.fired == 1
        world.set(revoked_keys=["*"])
        assert (await replica.client.look.probe()).standing == "unauthorized"


@virtual
async def test_a_new_token_has_one_second_chance_and_no_more() -> None:
    async with connected() as (world, replica):
        for halts in (False, True):
            world.answers("/api/events", 401, times=1)
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
    async with connected() as (world, replica):
        await asyncio.sleep(100)
        world.set(oauth_client_secret="changed")
        world.sandbox.oauth.expire()
        call = asyncio.create_task(replica.client.create_event(EVENT))
        await asyncio.sleep(30)
        assert "klaviyo.client_secret" in replica.reasons()
        world.set(oauth_client_secret="sandbox")
        assert isinstance(await call, Accepted)
        assert replica.reasons() == ""
