"""The embedded broker carries what the demo asks of it."""

import pytest

from pipeline.demo.broker import Broker
from pipeline.kafka.producer import Producer, TooLarge
from pipeline.records import Mark
from tests.kafka.worlds import KafkaWorld, Owner, read


@pytest.mark.timeout(60)
async def test_written_read_committed_and_read_on() -> None:
    with Broker() as broker:
        broker.create(["letters"])
        world = KafkaWorld(broker.address)
        settings = world.settings("letters")
        producer = Producer(settings=settings)
        await producer.start()
        await producer.send("letters", b"k", b"1", (("a", b"b"),), 1000)
        await producer.send("letters", b"k", b"2", ())

        consumer = world.consumer(Owner(), settings)
        await consumer.start()
        first, second = await read(consumer, 2)
        assert (first.value, first.headers, first.timestamp) == (
            b"1",
            (("a", b"b"),),
            1000,
        )
        partition = (first.topic, first.partition)
        assert (second.topic, second.partition) == partition
        assert await consumer.commit({partition: Mark(second.offset)})
        await consumer.stop()

        with pytest.raises(TooLarge):
            await producer.send("letters", b"k", b"x" * 80_000_000, ())
        await producer.stop()
        again = world.consumer(Owner(), settings)
        await again.start()
        assert [record.value for record in await read(again, 1)] == [b"2"]
        await again.stop()
