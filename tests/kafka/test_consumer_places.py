"""Members of a group: where their partitions stand among all, and where each begins."""

import asyncio
from collections.abc import Collection

import pytest
from confluent_kafka import Producer as Writer

from pipeline.kafka.client import Client
from pipeline.kafka.consumer import Consumer
from pipeline.kafka.positions import Bounds
from pipeline.records import Mark, Partition
from tests.brokers.apache import Apache
from tests.kafka.worlds import WITHIN, KafkaWorld, Owner, read, until

pytestmark = pytest.mark.kafka


@pytest.mark.timeout(60)
async def test_each_place_among_all_partitions_is_one_members(apache: Apache) -> None:
    world = KafkaWorld(apache.bootstrap)
    topics = [f"{world.number}-orders", f"{world.number}-customers"]
    for topic in topics:
        await world.create(topic, partitions=3)
    members = [world.consumer(Owner(), world.settings(*topics)) for _ in range(2)]
    try:
        for member in members:
            await member.start()
        await until(
            lambda: sorted(len(each.assigned) for each in members) == [2, 4],
            "all partitions shared",
        )
        owned = [each.places() for each in members]
        assert [count for _, count in owned] == [6, 6]
        assert sorted(place for places, _ in owned for place in places) == [*range(6)]
    finally:
        for member in members:
            await member.stop()


@pytest.mark.timeout(60)
async def test_with_latest_members_that_begin_together_read_nothing_old(
    apache: Apache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offset the first has committed makes no history of the later one new."""
    world = KafkaWorld(apache.bootstrap)
    topic = f"{world.number}-orders"
    one, two = (topic, 0), (topic, 1)
    await world.create(topic, partitions=2)
    for partition in (one, two):
        await world.write(partition, b"old", b"older")
    go_on = asyncio.Event()
    ask = Client.bounds

    async def held_back(
        client: Client, partitions: Collection[Partition]
    ) -> tuple[dict[Partition, Bounds], dict[str, int]]:
        if list(partitions) != [one]:  # until they share, whoever has both waits as well
            await go_on.wait()
        return await ask(client, partitions)

    monkeypatch.setattr(Client, "bounds", held_back)
    settings = world.settings(topic, start="latest")
    members = [world.consumer(Owner(), settings) for _ in range(2)]
    try:
        for member in members:
            await member.start()
        await until(lambda: any(each.assigned for each in members), "the first of them")
        assert await world.committed(settings.group, one) == 2
        assert await world.committed(settings.group, two) is None
        go_on.set()
        await until(lambda: all(each.assigned for each in members), "both of them")
        for partition in (one, two):
            await world.write(partition, b"new")
        for member in members:
            (record,) = await read(member, 1)
            assert record.value == b"new", "nothing old is sent"
            partition = (record.topic, record.partition)
            assert await member.commit({partition: Mark(record.offset + 1)})
        for partition in (one, two):
            assert await world.committed(settings.group, partition) == 3
        await world.grow(topic, 3)
        await world.write((topic, 2), b"first")
        await until(
            lambda: any((topic, 2) in each.assigned for each in members), "the new one"
        )
        (owner,) = (each for each in members if (topic, 2) in each.assigned)
        (record,) = await read(owner, 1, [(topic, 2)])
        assert record.value == b"first", "what came later begins at its beginning"
    finally:
        for member in members:
            await member.stop()


async def joined(world: KafkaWorld, topic: str) -> Consumer:
    consumer = world.consumer(Owner(), world.settings(topic))
    await consumer.start()
    await until(lambda: consumer.assigned != frozenset(), "an assignment")
    return consumer


@pytest.mark.timeout(60)
async def test_markers_of_transactions_are_no_backlog(apache: Apache) -> None:
    """Else a topic at rest would lag by one for ever, and the alert wake someone."""
    world = KafkaWorld(apache.bootstrap)
    partition = (f"{world.number}-orders", 0)
    await world.create(partition[0])

    def write() -> None:
        writer = Writer(
            {"bootstrap.servers": apache.bootstrap, "transactional.id": world.number}
        )
        writer.init_transactions(WITHIN)
        writer.begin_transaction()
        writer.produce(partition[0], b"x", partition=0)
        writer.commit_transaction(WITHIN)

    await asyncio.to_thread(write)
    for again in (False, True):
        consumer = await joined(world, partition[0])
        try:
            if not again:
                (record,) = await read(consumer, 1)
                assert await consumer.commit({partition: Mark(record.offset + 1)})
            async with asyncio.timeout(WITHIN):
                while consumer.highwater(partition) != 1:
                    assert await consumer.poll([partition], 10, 0.1) == []
            assert consumer.began(partition) == int(again)
        finally:
            await consumer.stop()
