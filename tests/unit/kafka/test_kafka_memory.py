"""The fake does what its script says."""

import pytest

from pipeline.kafka.producer import Unwritable
from pipeline.records import Mark
from tests.brokers.memory import Cluster, MemoryConsumer, MemoryProducer
from tests.kafka.worlds import MemoryWorld, Owner

ONE = ("orders", 0)


async def joined(world: MemoryWorld) -> tuple[Cluster, MemoryConsumer]:
    await world.create("orders")
    await world.write(ONE, b"1")
    consumer = world.consumer(Owner(), world.settings("orders"))
    await consumer.start()
    return world.cluster, consumer


async def test_commits_are_refused_as_often_as_it_says() -> None:
    world = MemoryWorld()
    cluster, consumer = await joined(world)
    cluster.refuse_commits = 2
    answers = [await consumer.commit({ONE: Mark(1)}) for _ in range(3)]
    assert answers == [False, False, True]
    assert await world.committed(f"group-{world.number}", ONE) == 1
    await consumer.stop()


async def test_while_it_is_away_nothing_is_read_written_or_committed() -> None:
    cluster, consumer = await joined(MemoryWorld())
    cluster.away = True
    assert await consumer.poll([ONE], 10, 0.01) == []
    assert not await consumer.commit({ONE: Mark(1)})
    with pytest.raises(Unwritable):
        await MemoryProducer(cluster).send("orders", b"k", b"v", ())
    cluster.away = False
    assert len(await consumer.poll([ONE], 10, 0.01)) == 1
    await consumer.stop()


async def test_a_topic_can_be_unwritable_for_a_while() -> None:
    cluster = Cluster()
    cluster.create("letters")
    producer = MemoryProducer(cluster)
    cluster.unwritable.add("letters")
    with pytest.raises(Unwritable, match="letters"):
        await producer.send("letters", b"k", b"v", ())
    cluster.unwritable.clear()
    await producer.send("letters", b"k", b"v", ())
    assert len(cluster.logs["letters", 0]) == 1


async def test_partitions_are_taken_back_and_given_again_on_demand() -> None:
    cluster, consumer = await joined(MemoryWorld())
    await consumer.revoke()
    assert consumer.assigned == frozenset()
    assert not await consumer.commit({ONE: Mark(1)})
    consumer.assign([ONE])
    assert consumer.epoch == 2
    assert len(await consumer.poll([ONE], 10, 0.01)) == 1
    assert cluster.end(ONE) == 1
    await consumer.stop()
