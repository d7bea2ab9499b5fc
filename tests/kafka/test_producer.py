"""Writing to a real broker: acknowledged, or given back with the reason."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pipeline.errors import KafkaUnreachable
from pipeline.kafka.producer import Producer, TooLarge, Unwritable
from tests.brokers.apache import Apache
from tests.kafka.worlds import KafkaWorld, Owner, read

pytestmark = pytest.mark.kafka


@pytest.fixture
async def world(kafka: Apache) -> KafkaWorld:
    made = KafkaWorld(kafka.bootstrap)
    await made.create(f"{made.number}-letters", max_message_bytes="200000")
    return made


@pytest.fixture
async def producer(world: KafkaWorld) -> AsyncIterator[Producer]:
    made = Producer(settings=world.settings("unused"))
    await made.start()
    yield made
    async with asyncio.timeout(10):
        await made.stop()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in left if "aiokafka" in repr(task.get_coro())]


def letters(world: KafkaWorld) -> str:
    return f"{world.number}-letters"


async def test_key_value_headers_and_time_arrive(
    world: KafkaWorld, producer: Producer
) -> None:
    topic = letters(world)
    headers = (("klaviyo.reason", b"refused"), ("empty", b""))
    await producer.send(topic, b"k", b"v", headers, 1_700_000_000_000)
    await producer.send(topic, b"k", None, (), None)
    await producer.send(topic, None, None, (), -1)
    consumer = world.consumer(Owner(), world.settings(topic))
    await consumer.start()
    first, tombstone, neither = await read(consumer, 3)
    await consumer.stop()
    assert (first.key, first.value, first.headers) == (b"k", b"v", headers)
    assert first.timestamp == 1_700_000_000_000
    assert (tombstone.key, tombstone.value) == (b"k", None)
    assert tombstone.timestamp > first.timestamp
    assert (neither.key, neither.value) == (None, b"")


async def test_many_sends_share_batches(world: KafkaWorld, producer: Producer) -> None:
    topic = letters(world)
    values = [b"%d" % number for number in range(2000)]
    async with asyncio.timeout(10):
        await asyncio.gather(*(producer.send(topic, None, v, ()) for v in values))
    assert sorted(await world.values(topic), key=lambda v: int(v or 0)) == values


async def test_one_too_large_is_refused_and_its_neighbours_are_written(
    world: KafkaWorld, producer: Producer
) -> None:
    topic = letters(world)
    values = [b"a", b"x" * 300_000, b"b"]
    outcomes = await asyncio.gather(
        *(producer.send(topic, None, value, ()) for value in values),
        return_exceptions=True,
    )
    assert [type(each) for each in outcomes] == [type(None), TooLarge, type(None)]
    await producer.send(topic, None, b"c", ())  # after a lost batch of its own
    assert {b"a", b"b", b"c"} <= set(await world.values(topic))


async def test_a_missing_topic_costs_its_own_records_only(
    world: KafkaWorld, producer: Producer
) -> None:
    async with asyncio.timeout(10):
        missing, there = await asyncio.gather(
            producer.send(f"{world.number}-nowhere", b"k", b"v", ()),
            producer.send(letters(world), b"k", b"v", ()),
            return_exceptions=True,
        )
    assert isinstance(missing, Unwritable)
    assert "nowhere" in str(missing)
    assert there is None


@pytest.mark.timeout(90)
async def test_what_a_dead_broker_gave_back_is_written_once_by_the_retry(
    apache: Apache, world: KafkaWorld, producer: Producer
) -> None:
    topic = letters(world)
    await producer.send(topic, None, b"before", ())
    await asyncio.to_thread(apache.kill)
    try:
        for _ in range(2):
            async with asyncio.timeout(25):
                with pytest.raises(Unwritable):
                    await producer.send(topic, None, b"during", ())
    finally:
        await asyncio.to_thread(apache.start)
    async with asyncio.timeout(30):
        while True:
            try:
                await producer.send(topic, None, b"during", ())
            except Unwritable:
                continue
            break
    assert await world.values(topic) == [b"before", b"during"]


@pytest.mark.timeout(60)
async def test_stopping_with_records_queued_for_a_dead_broker_is_bounded(
    apache: Apache, world: KafkaWorld
) -> None:
    producer = Producer(settings=world.settings("unused"))
    await producer.start()
    await producer.send(letters(world), None, b"before", ())
    await asyncio.to_thread(apache.kill)
    try:
        sending = asyncio.create_task(producer.send(letters(world), None, b"x", ()))
        await asyncio.sleep(0.1)  # it is in aiokafka's queue, which nothing tells
        async with asyncio.timeout(10):
            await producer.stop()
            with pytest.raises(Unwritable):
                await sending
    finally:
        await asyncio.to_thread(apache.start)


async def test_a_fenced_or_broken_client_is_replaced(
    world: KafkaWorld, producer: Producer
) -> None:
    topic = letters(world)
    await producer.send(topic, None, b"1", ())
    assert producer._client is not None
    # As after a lost batch: the broker refuses the gap with OutOfOrderSequence.
    manager = producer._client.aiokafka._txn_manager
    for partition in list(manager._sequence_numbers):
        manager._sequence_numbers[partition] += 5
    with pytest.raises(Unwritable):
        await producer.send(topic, None, b"2", ())
    await producer.send(topic, None, b"2", ())
    assert await world.values(topic) == [b"1", b"2"]


async def test_nobody_listens_at_the_address() -> None:
    world = KafkaWorld("127.0.0.1:9")
    with pytest.raises(KafkaUnreachable, match=r"127\.0\.0\.1:9"):
        await Producer(settings=world.settings("unused")).start()
