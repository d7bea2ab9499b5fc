"""The consumer on a real broker that is killed, hung, refuses or loses what was there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from pipeline.errors import KafkaUnreachable, OffsetsLost
from pipeline.kafka import membership
from pipeline.kafka.consumer import Consumer
from pipeline.records import Mark
from pipeline.settings import Kafka
from tests.brokers.apache import PASSWORD, USER, Apache
from tests.kafka.worlds import KafkaWorld, Owner, fail, read, until

pytestmark = pytest.mark.kafka

STOPS = 25.0  # s; bound of a stop whatever is down; aiokafka's own waits for ever


@asynccontextmanager
async def running(
    world: KafkaWorld, owner: Owner, settings: Kafka
) -> AsyncIterator[Consumer]:
    """A consumer with an assignment; its end is bounded, and part of each test here."""
    consumer = world.consumer(owner, settings)
    await consumer.start()
    try:
        await until(lambda: bool(consumer.assigned), "an assignment")
        yield consumer
    finally:
        async with asyncio.timeout(STOPS):
            await consumer.stop()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in left if "aiokafka" in repr(task.get_coro())]


@pytest.mark.timeout(90)
async def test_a_killed_broker_is_waited_for_and_nothing_is_lost(apache: Apache) -> None:
    world, owner = KafkaWorld(apache.bootstrap), Owner()
    partition = (f"{world.number}-orders", 0)
    await world.create(partition[0])
    await world.write(partition, *(b"%d" % n for n in range(10)))
    async with running(world, owner, world.settings(partition[0])) as consumer:
        await read(consumer, 10)
        assert await consumer.commit({partition: Mark(3)})
        await asyncio.to_thread(apache.kill)
        try:
            async with asyncio.timeout(8):  # it would try for ever
                assert not await consumer.commit({partition: Mark(8)})
            async with asyncio.timeout(5):
                assert await consumer.poll(consumer.assigned, 10, 0.5) == []
            await until(lambda: "kafka" in owner.health.waits(), "/readyz names it")
        finally:
            await asyncio.to_thread(apache.start)
        await until(lambda: owner.health.waits() == {}, "Kafka is back", within=30)
        await world.write(partition, b"10", b"11")
        # With the same session, or after a rebalance from the committed offset.
        found: list[int] = []
        while 11 not in found:
            found += [record.offset for record in await read(consumer, 1)]
        assert found[-2:] == [10, 11]
        await until(lambda: bool(consumer.assigned), "the partition is ours again")
        async with asyncio.timeout(30):
            while not await consumer.commit({partition: Mark(12)}):
                await asyncio.sleep(0.1)
    assert await world.committed(f"group-{world.number}", partition) == 12


@pytest.mark.timeout(60)
async def test_stopping_while_the_broker_is_dead_is_bounded(apache: Apache) -> None:
    world, owner = KafkaWorld(apache.bootstrap), Owner()
    topic = f"{world.number}-orders"
    await world.create(topic)
    try:
        async with running(world, owner, world.settings(topic)) as consumer:
            polling = asyncio.create_task(consumer.poll(consumer.assigned, 10, 600.0))
            await asyncio.to_thread(apache.kill)
            await until(lambda: "kafka" in owner.health.waits(), "it is noticed")
        assert await polling == []
        assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]
    finally:
        await asyncio.to_thread(apache.start)


@pytest.mark.timeout(90)
async def test_a_broker_that_hangs_past_the_session_is_waited_for(apache: Apache) -> None:
    world, owner = KafkaWorld(apache.bootstrap), Owner()
    partition = (f"{world.number}-orders", 0)
    await world.create(partition[0])
    await world.write(partition, *(b"%d" % n for n in range(5)))
    async with running(world, owner, world.settings(partition[0])) as consumer:
        await read(consumer, 5)
        assert await consumer.commit({partition: Mark(5)})
        apache.freeze()
        end = asyncio.get_running_loop().time() + 10  # the session takes 6
        try:
            async with asyncio.timeout(8):
                assert not await consumer.commit({partition: Mark(5)})
            while asyncio.get_running_loop().time() < end:
                async with asyncio.timeout(5):  # a poll neither raises nor hangs
                    assert await consumer.poll(consumer.assigned, 10, 0.5) == []
            assert "kafka" in owner.health.waits()
        finally:
            await asyncio.to_thread(apache.thaw)
        await world.write(partition, b"5")
        async with asyncio.timeout(20):
            found = await read(consumer, 1)
        assert [record.offset for record in found] == [5]
        await until(lambda: owner.health.waits() == {}, "all is well again")


@pytest.mark.timeout(60)
async def test_stopping_while_the_broker_hangs_is_bounded(apache: Apache) -> None:
    world, owner = KafkaWorld(apache.bootstrap), Owner()
    topic = f"{world.number}-orders"
    await world.create(topic)
    try:
        async with running(world, owner, world.settings(topic)):
            apache.freeze()
    finally:
        await asyncio.to_thread(apache.thaw)


@pytest.mark.timeout(60)
async def test_what_is_in_flight_ends_before_another_member_begins(
    apache: Apache,
) -> None:
    world, slow, fresh = KafkaWorld(apache.bootstrap), Owner(), Owner()
    topic = f"{world.number}-orders"
    await world.create(topic, partitions=2)
    await world.write((topic, 0), *(b"%d" % n for n in range(10)))
    await world.write((topic, 1), *(b"%d" % n for n in range(10)))
    settings = world.settings(topic)
    async with running(world, slow, settings) as first:
        await read(first, 20)

        async def drain() -> None:
            # Longer than the session timeout: heartbeats must go on meanwhile.
            await asyncio.sleep(settings.session_timeout + 2)
            assert await first.commit({(topic, 0): Mark(10), (topic, 1): Mark(10)})

        slow.when_revoked = drain
        async with running(world, fresh, settings) as second:
            await until(lambda: bool(first.assigned), "both have one")
            await world.write((topic, 0), b"10")
            await world.write((topic, 1), b"10")
            for member in (first, second):
                assert [record.offset for record in await read(member, 1)] == [10]
            slow.when_revoked = None


@pytest.mark.timeout(60)
async def test_a_drain_that_takes_too_long_is_given_up(
    apache: Apache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "REVOKE_BUDGET", 0.5)
    world, stuck = KafkaWorld(apache.bootstrap), Owner()
    topic = f"{world.number}-orders"
    await world.create(topic, partitions=2)
    async with running(world, stuck, world.settings(topic)) as first:
        stuck.when_revoked = asyncio.Event().wait  # type: ignore[assignment]
        async with running(world, Owner(), world.settings(topic)):
            await until(lambda: len(first.assigned) == 1, "both have one")
            stuck.when_revoked = None


@pytest.mark.timeout(60)
async def test_retention_that_overtakes_a_running_consumer_is_an_error(
    apache: Apache,
) -> None:
    world, owner = KafkaWorld(apache.bootstrap), Owner()
    partition = (f"{world.number}-orders", 0)
    await world.create(partition[0])
    await world.write(partition, b"0")
    settings = world.settings(partition[0])
    async with running(world, owner, settings) as consumer:
        await read(consumer, 1)
        assert await consumer.commit({partition: Mark(1)})
    settings = world.settings(partition[0], start="none")
    async with running(world, owner, settings) as consumer:
        # What the fetcher asks for next is what a broker no longer has.
        client = consumer._membership.client
        assert client is not None
        await world.write(partition, b"1", b"2")
        await world.delete_before(partition, 3)
        client.seek({partition: 1})
        with pytest.raises(OffsetsLost):
            await fail(consumer)


@pytest.mark.timeout(60)
async def test_a_client_whose_inside_has_died_is_made_anew(apache: Apache) -> None:
    world, owner = KafkaWorld(apache.bootstrap), Owner()
    partition = (f"{world.number}-orders", 0)
    await world.create(partition[0])
    await world.write(partition, b"0", b"1")
    async with running(world, owner, world.settings(partition[0])) as consumer:
        await read(consumer, 2)
        assert await consumer.commit({partition: Mark(1)})
        client = consumer._membership.client
        assert client is not None
        client._consumer._fetcher._fetch_task.cancel()
        await until(lambda: "revoked" in owner.heard, "the flow is told")
        found = await read(consumer, 1)
        assert [record.offset for record in found] == [1]
        assert consumer.epoch == 2


async def test_nobody_listens_at_the_address() -> None:
    world = KafkaWorld("127.0.0.1:9")
    consumer = world.consumer(Owner(), world.settings("orders"))
    with pytest.raises(KafkaUnreachable, match=r"127\.0\.0\.1:9.*bootstrap_servers"):
        await consumer.start()


async def test_a_wrong_password_is_said_and_not_shown(apache: Apache) -> None:
    wrong = "another-planted-password"
    world = KafkaWorld(apache.bootstrap)
    login = {
        "bootstrap_servers": apache.sasl,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_username": USER,
    }
    settings = world.settings("orders").model_copy(
        update={**login, "sasl_password": SecretStr(wrong)}
    )
    with pytest.raises(KafkaUnreachable, match="refuses the login") as refused:
        await world.consumer(Owner(), settings).start()
    assert "kafka.sasl_password" in str(refused.value)
    assert wrong not in str(refused.value)

    topic = f"{world.number}-orders"
    await world.create(topic)
    settings = world.settings(topic).model_copy(
        update={**login, "sasl_password": SecretStr(PASSWORD)}
    )
    async with running(world, Owner(), settings):
        pass
