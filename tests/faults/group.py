"""Faults in and around the consumer group, and topics that change under it."""

import asyncio
import time
from contextlib import AsyncExitStack

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from tests.brokers.apache import PASSWORD, USER
from tests.faults.scenario import fault
from tests.faults.world import Shift, World, errors, eventually, hold, running
from tests.flow.rig import until

STORM = 60.0  # s
PATIENCE = 3  # turns of 5 s without a delivery: each turn stops all for a rebalance


@fault(4, "a member joins, leaves or dies each 5 s for 60 s, beside three", "I1 I2 I4 I9")
async def rebalance_storm(world: World) -> str:
    async with AsyncExitStack() as stack:
        shift = await stack.enter_async_context(world.shift(seed=104, latency=0.02))
        members = [shift.service() for _ in range(3)]
        for member in members:
            await stack.enter_async_context(member)
        guest = await stack.enter_async_context(shift.service())
        async with shift.selling(300, 1100, a_second=45):
            accepted: list[int] = []
            for turn in range(int(STORM // 5)):
                await hold(5, *members)
                accepted.append(shift.accepted)
                if turn > PATIENCE:
                    before = accepted[-1 - PATIENCE]
                    assert shift.accepted > before, f"nothing delivered before {turn}"
                if not guest.running:
                    guest.output = ""  # `running` must not read of the time before
                    await guest.start()
                    continue
                await running(guest)
                if turn % 4 == 1:
                    await guest.kill()
                else:
                    assert await guest.terminate() == 0, guest.output[-1500:]
        if guest.running:
            await guest.terminate()
        rebalances = [await each.metric("rebalances_total") for each in members]
        await shift.done(*members)
        ledger = await shift.balance()
        return f"{ledger}; rebalances {', '.join(f'{each:.0f}' for each in rebalances)}"


@fault(45, "a rolling restart of three replicas under load", "I1 I2 I4 I9")
async def rolling_restart(world: World) -> str:
    async with AsyncExitStack() as stack:
        shift = await stack.enter_async_context(world.shift(seed=145, limits=True))
        members = [shift.service() for _ in range(3)]
        for member in members:
            await stack.enter_async_context(member)
        async with shift.selling(200, 700, a_second=30):
            await hold(8, *members)
            for member in members:
                assert await member.terminate() == 0, member.output[-1500:]
                member.output = ""  # `running` must not read of the time before
                await member.start()
                await running(member)
                await hold(4, *members)
        await shift.drained(90)  # the lag goes by itself
        await shift.done(*members)
        # Klaviyo lets one call a second ask for the account, and each start asks once.
        ledger = shift.sandbox.ledger
        asked = ledger.statuses["GET /api/accounts"].get(429, 0)
        assert ledger.throttled == asked, ledger.statuses
        return f"{await shift.balance(throttled=True)}; accounts asked too soon: {asked}"


@fault(5, "64 calls hang for 40 s while another member joins", "I1 I4 I9")
async def revoked_in_flight(world: World) -> str:
    async with world.shift(seed=105) as shift:
        shift.fault(
            {
                "match": {"method": "POST", "seconds": 15},
                "action": {"kind": "hang_after", "seconds": 40},
            }
        )
        await shift.sell(200, 200)
        first = shift.service(throttle__concurrent_connections="64")
        async with first, shift.service() as second:
            await until(lambda: shift.sandbox.ledger.in_flight > 1, what="calls hang")
            hanging = shift.sandbox.ledger.in_flight
            await hold(30, first, second)
            for each in (first, second):
                assert await each.metric("rebalances_total") > 0, each.output[-1500:]
            await shift.done(first, second)
            return f"{await shift.balance()}; {hanging} calls hung"


@fault(6, "two replicas alike in every setting", "I2 I9")
async def twins(world: World) -> str:
    """The program never sets group.instance.id: nothing to fence, or to fight for."""
    async with (
        world.shift(seed=106) as shift,
        shift.service() as one,
        shift.service() as other,
    ):
        await running(one)
        await running(other)
        async with shift.selling(100, 200, a_second=60):
            await hold(8, one, other)
            before = [await each.metric("rebalances_total") for each in (one, other)]
            members = await asyncio.to_thread(_members, shift)
            await hold(3, one, other)
        after = [await each.metric("rebalances_total") for each in (one, other)]
        assert after == before, f"they throw each other out: {before} to {after}"
        await shift.done(one, other)
        assert members == [None, None], f"static membership: {members}"
        return await shift.balance()


def _members(shift: Shift) -> list[str | None]:
    """The group.instance.id of each member, None where there is none."""
    admin = AdminClient({"bootstrap.servers": shift.bootstrap})
    group = f"klaviyo-test-{shift.number}"
    (asked,) = admin.describe_consumer_groups([group]).values()
    return [member.group_instance_id or None for member in asked.result(10).members]


@fault(35, "offsets expired, cut by retention, the topic made anew", "no silent jump")
async def offsets_gone(world: World) -> str:
    async with world.shift(seed=135) as shift:
        await shift.sell(20, 20)
        async with shift.service() as service:
            await shift.done(service)
        said = []
        for what, harm in (
            ("cut by retention", _cut),
            ("made anew", _recreate),
            ("expired", _expire),
        ):
            await asyncio.to_thread(harm, shift)
            service = shift.service(kafka__start="none")
            async with service, asyncio.timeout(30):
                code = await service.wait()
            assert code in {1, 2}, (what, code, service.output[-1500:])
            assert "PIPELINE_KAFKA__START=earliest" in service.output, (what, "no cure")
            said.append(f"{what}: exit {code}")
        # The cure, as said.
        await shift.sell(20, 40)
        shift.sent = await asyncio.to_thread(_ends, shift)
        async with shift.service(kafka__start="earliest") as service:
            await shift.done(service)
        return f"{'; '.join(said)}, each with its cure; then {await shift.balance()}"


def _cut(shift: Shift) -> None:
    """Records nobody has read yet are deleted."""
    _write_more(shift)
    admin = AdminClient({"bootstrap.servers": shift.bootstrap})
    ends = [TopicPartition(shift.customers, n, -1) for n in range(shift.partitions)]
    for done in admin.delete_records(ends).values():
        done.result(20)


def _write_more(shift: Shift) -> None:
    """More records, which nobody will read."""
    producer = Producer({"bootstrap.servers": shift.bootstrap})
    for number in range(shift.partitions):
        producer.produce(shift.customers, b"gone", b"gone", partition=number)
    assert producer.flush(20) == 0


def _recreate(shift: Shift) -> None:
    admin = AdminClient({"bootstrap.servers": shift.bootstrap})
    for done in admin.delete_topics([shift.orders], operation_timeout=20).values():
        done.result(20)
    _until_created(admin, NewTopic(shift.orders, shift.partitions, 1))


def _until_created(admin: AdminClient, topic: NewTopic) -> None:
    """The deletion of its namesake may not have ended."""
    for _ in range(50):
        (made,) = admin.create_topics([topic]).values()
        try:
            made.result(20)
        except KafkaException:
            time.sleep(0.2)
        else:
            return
    raise AssertionError("the topic cannot be made anew")


def _expire(shift: Shift) -> None:
    admin = AdminClient({"bootstrap.servers": shift.bootstrap})
    (gone,) = admin.delete_consumer_groups([f"klaviyo-test-{shift.number}"]).values()
    gone.result(20)


def _ends(shift: Shift) -> int:
    """The sum of all ends: what the group's offsets must reach."""
    eyes = Consumer({"bootstrap.servers": shift.bootstrap, "group.id": "ends"})
    try:
        return sum(
            eyes.get_watermark_offsets(TopicPartition(topic, number), 10)[1]
            for topic in (shift.customers, shift.orders)
            for number in range(shift.partitions)
        )
    finally:
        eyes.close()


@fault(36, "partitions are added while it runs", "I1 I2 I9", quick=True)
async def partitions_added(world: World) -> str:
    async with world.shift(seed=136) as shift, shift.service() as service:
        await shift.sell(30, 30)
        # A key's new partition knows nothing of its old one: order over both holds only
        # when the backlog has gone first (README).
        await shift.drained()
        before = await service.metric("rebalances_total")
        await asyncio.to_thread(_widen, shift, 6)
        shift.partitions = 6
        await shift.sell(30, 60)

        async def rebalanced() -> bool:
            return await service.metric("rebalances_total") > before

        await eventually(rebalanced, "the new partitions are seen")
        await shift.done(service)
        return await shift.balance()


def _widen(shift: Shift, count: int) -> None:
    admin = AdminClient({"bootstrap.servers": shift.bootstrap})
    wanted = [NewPartitions(name, count) for name in (shift.customers, shift.orders)]
    for done in admin.create_partitions(wanted).values():
        done.result(20)


@fault(37, "a transaction upstream stays open for 20 s", "I1 I9")
async def open_transaction(world: World) -> str:
    async with world.shift(seed=137) as shift, shift.service() as service:
        await shift.sell(30, 30)
        await shift.drained()
        upstream = Producer(
            {"bootstrap.servers": shift.bootstrap, "transactional.id": shift.number}
        )
        await asyncio.to_thread(upstream.init_transactions, 20)
        upstream.begin_transaction()
        for number in range(shift.partitions):
            for topic in (shift.customers, shift.orders):
                upstream.produce(topic, None, b"open", partition=number)
        await asyncio.to_thread(upstream.flush, 20)
        shift.sent += 2 * shift.partitions
        before = await service.metric("rebalances_total")
        made = await shift.sell(30, 60)
        await hold(20, service)
        lag = await service.metric("consumer_lag")
        assert lag >= made, f"the lag shown is {lag}, {made} records wait"
        assert await service.metric("rebalances_total") == before
        await asyncio.to_thread(upstream.commit_transaction, 20)
        # Markers have offsets too: the group's position ends above what was sent.
        await shift.done(service)
        return f"{await shift.balance()}; lag {lag:.0f} shown meanwhile"


@fault(44, "the SASL session expires each 8 s", "I1 I9")
async def session_expires(world: World) -> str:
    kafka = await world.kafka()
    login = {
        "kafka__bootstrap_servers": kafka.sasl,
        "kafka__security_protocol": "SASL_PLAINTEXT",
        "kafka__sasl_mechanism": "PLAIN",
        "kafka__sasl_username": USER,
        "kafka__sasl_password": PASSWORD,
    }
    async with world.shift(seed=144) as shift, shift.service(**login) as service:
        await running(service)
        async with shift.selling(200, 500, a_second=45):
            await hold(5, service)
            before = await service.metric("rebalances_total")
            await hold(30, service)
        after = await service.metric("rebalances_total")
        await shift.done(service)
        assert after == before == 1, f"{after - before} rebalances by expired sessions"
        assert not errors(service), errors(service)
        return await shift.balance()
