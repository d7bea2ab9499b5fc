"""A refused credential halts everything; one probe at a time ends it; nothing is lost."""

import asyncio

import pytest

from pipeline.klaviyo.call import Accepted
from pipeline.klaviyo.look import Account
from pipeline.observe.health import Halt
from tests.unit.klaviyo.fixed_windows import gaps, soon
from tests.unit.klaviyo.rig import EVENT, PROFILE, Reply, Rig, Seen, document
from tests.virtual_time import virtual


def now() -> float:
    return asyncio.get_running_loop().time()


def halts(rig: Rig) -> list[str]:
    """The reasons that /readyz gives."""
    return [reason.partition(":")[0] for reason in rig.health.reasons()]


class Lock:
    """A server that knows one key, and a program whose key may change."""

    def __init__(self, right: str = "pk_right", key: str = "pk_wrong") -> None:
        self.right = right
        self.key = key

    def answer(self, seen: Seen) -> Reply:
        """401 with any other key."""
        given = seen.headers["Authorization"].removeprefix("Klaviyo-API-Key ")
        return Reply() if given == self.right else document(status=401)


@virtual
async def test_ten_401s_in_flight_are_one_halt_and_one_probe_at_a_time() -> None:
    lock = Lock(key="pk_right")
    async with Rig(key=lambda: lock.key) as rig:
        rig.always = lock.answer
        await rig.client.create_event(EVENT)
        lock.right = "pk_new"
        calls = [asyncio.create_task(rig.client.create_event(EVENT)) for _ in range(10)]
        await asyncio.sleep(1)
        assert len(rig.seen) == 1 + 10
        assert halts(rig) == ["unauthorized"]
        await asyncio.sleep(200)
        probes = rig.times()[11:]
        pauses = gaps([0.0, *probes])
        assert pauses[:3] == pytest.approx([5, 7.5, 11.25], abs=0.1)
        assert pauses[-1] <= 60.1
        assert not any(call.done() for call in calls)
        lock.key = "pk_new"
        await asyncio.sleep(1.1)  # the key is looked at once a second
        answers = await asyncio.gather(*calls)
        assert all(isinstance(answer, Accepted) for answer in answers)
        assert halts(rig) == []
        assert rig.number("halted", reason="unauthorized") == 0
        assert len(rig.seen) == 11 + len(probes) + 10


@virtual
async def test_it_ends_by_itself_when_the_server_knows_the_key_again() -> None:
    lock = Lock(right="pk_other", key="pk_right")
    async with Rig(key=lambda: lock.key) as rig:
        rig.always = lock.answer
        call = asyncio.create_task(rig.client.create_event(EVENT))
        await asyncio.sleep(1)
        lock.right = "pk_right"
        assert (await call).attempts == 2
        assert now() == pytest.approx(5, abs=0.1)


@virtual
async def test_a_key_that_changed_in_flight_is_no_halt() -> None:
    lock = Lock(key="pk_old")
    async with Rig(Reply(401, delay=3), key=lambda: lock.key) as rig:
        rig.always = lock.answer
        call = asyncio.create_task(rig.client.create_event(EVENT))
        await asyncio.sleep(1)
        lock.key = "pk_right"
        assert (await call).attempts == 2
        assert now() == pytest.approx(3, abs=0.1)
        assert "pk_old" in rig.seen[0].headers["Authorization"]


@virtual
async def test_a_late_401_from_before_the_halt_ended_is_no_new_halt() -> None:
    lock = Lock(key="pk_right")
    async with Rig(Reply(), Reply(401, delay=12), key=lambda: lock.key) as rig:
        await rig.client.create_event(EVENT)
        slow = asyncio.create_task(rig.client.create_event(EVENT))
        await soon()
        rig.script = [Reply(401)]
        assert (await rig.client.create_event(EVENT)).attempts == 2
        assert now() == pytest.approx(5, abs=0.1)
        assert (await slow).attempts == 2
        assert now() == pytest.approx(12, abs=0.1)


@pytest.mark.parametrize(
    ("reply", "reason", "advice"),
    [
        (Reply(401), "unauthorized", "klaviyo.api_key"),
        (document(status=403), "forbidden", "events:write"),
        (document(status=410), "revision_retired", "klaviyo.api_revision"),
        (document({"source": {"parameter": "revision"}}), "revision_retired", "2026-07"),
    ],
)
@virtual
async def test_each_reason_says_what_to_do(
    reply: Reply, reason: Halt, advice: str
) -> None:
    async with Rig(reply) as rig:
        call = asyncio.create_task(rig.client.create_event(EVENT))
        await asyncio.sleep(1)
        assert halts(rig) == [reason]
        assert advice in rig.health.reasons()[0]
        assert rig.number("halted", reason=reason) == 1
        await call
        assert halts(rig) == []


@virtual
async def test_a_400_to_accounts_is_the_credential() -> None:
    async with Rig(document()) as rig:
        call = asyncio.create_task(rig.client.accounts())
        await asyncio.sleep(1)
        assert halts(rig) == ["unauthorized"]
        assert await call == Account("AbCdEf")


@virtual
async def test_calls_of_all_operations_wait() -> None:
    async with Rig(Reply(401)) as rig:
        event = asyncio.create_task(rig.client.create_event(EVENT))
        await asyncio.sleep(1)
        profile = asyncio.create_task(rig.client.import_profile(PROFILE))
        await asyncio.sleep(3)
        assert len(rig.seen) == 1
        await asyncio.gather(event, profile)
        assert now() == pytest.approx(5, abs=0.1)


@virtual
async def test_a_missing_scope_is_proved_by_its_own_operation() -> None:
    """Profiles would be allowed, but that says nothing about events."""
    allowed = False
    async with Rig() as rig:
        rig.always = lambda seen: (
            Reply() if allowed or "events" not in seen.path else document(status=403)
        )
        event = asyncio.create_task(rig.client.create_event(EVENT))
        await asyncio.sleep(1)
        profile = asyncio.create_task(rig.client.import_profile(PROFILE))
        await asyncio.sleep(60)
        assert halts(rig) == ["forbidden"]
        assert {seen.path for seen in rig.seen} == {"/api/events"}
        allowed = True
        await asyncio.gather(event, profile)
        assert halts(rig) == []


@virtual
async def test_two_missing_scopes_are_both_to_be_proved() -> None:
    async with Rig() as rig:
        rig.script = [Reply(), Reply(), Reply(403, delay=1), Reply(403, delay=2)]
        await rig.client.create_event(EVENT)
        await rig.client.import_profile(PROFILE)
        calls = [
            asyncio.create_task(rig.client.create_event(EVENT)),
            asyncio.create_task(rig.client.import_profile(PROFILE)),
        ]
        await asyncio.sleep(3)
        rig.script = [Reply(), document(status=403)]  # whichever probes first is allowed
        await asyncio.sleep(4)
        assert halts(rig) == ["forbidden"]
        assert sum(call.done() for call in calls) == 1
        await asyncio.gather(*calls)
        assert halts(rig) == []


@virtual
async def test_when_nobody_of_the_refused_operation_waits_another_one_probes() -> None:
    async with Rig(document(status=403)) as rig:
        event = asyncio.create_task(rig.client.create_event(EVENT))
        await asyncio.sleep(1)
        profile = asyncio.create_task(rig.client.import_profile(PROFILE))
        await asyncio.sleep(1)
        event.cancel()
        await profile
        assert halts(rig) == []


@virtual
async def test_a_cancelled_probe_hands_its_role_on_while_waiting_and_in_flight() -> None:
    async with Rig() as rig:
        rig.script = [Reply(401), Reply(401, delay=9)]
        calls = [asyncio.create_task(rig.client.create_event(EVENT)) for _ in range(3)]
        await asyncio.sleep(1)
        calls[0].cancel()  # waited to be sent as the probe
        await asyncio.sleep(5)
        assert len(rig.seen) == 2
        calls[1].cancel()  # was in flight as the probe
        assert isinstance(await calls[2], Accepted)
        assert now() <= 12
        assert halts(rig) == []


@virtual
async def test_a_permit_held_before_the_halt_does_not_block_the_probe() -> None:
    """It may be the family's only slot, or its gate's probe."""
    async with Rig() as rig:
        rig.script = [Reply(401)]
        profile = asyncio.create_task(rig.client.import_profile(PROFILE))
        permit = await rig.client.acquire("create_event")  # the first: its gate's probe
        await asyncio.sleep(1)
        held = asyncio.create_task(rig.client.create_event(EVENT, permit))
        await asyncio.sleep(1)
        profile.cancel()  # so an event must probe
        other = asyncio.create_task(rig.client.create_event(EVENT))
        await asyncio.gather(held, other)
        assert halts(rig) == []


@virtual
async def test_an_outage_of_the_probe_proves_nothing() -> None:
    async with Rig() as rig:
        rig.script = [Reply(401), Reply(503), Reply(raw=b""), Reply(429)]
        call = asyncio.create_task(rig.client.create_event(EVENT))
        await asyncio.sleep(11)
        assert len(rig.seen) >= 2
        assert halts(rig) == ["unauthorized"]
        assert (await call).attempts == 5
        assert halts(rig) == []


@virtual
async def test_a_refused_record_proves_the_credential() -> None:
    async with Rig(Reply(401), document()) as rig:
        await rig.client.create_event(EVENT)
        assert halts(rig) == []


@virtual
async def test_looking_at_the_credential_halts_nothing() -> None:
    async with Rig(document(status=401)) as rig:
        assert (await rig.client.look.probe()).standing == "unauthorized"
        assert halts(rig) == []
