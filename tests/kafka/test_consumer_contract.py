"""What every consumer promises its flow: the fake is held to it as the real one is."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest

from pipeline.errors import OffsetsLost, OffsetsMissing
from pipeline.records import Mark, Partition, Record
from pipeline.settings import Kafka
from tests.kafka.worlds import AnyConsumer, Owner, World, fail, read, until


class Stage:
    """A world with the consumers started in it, which are stopped at the end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.topic = f"{world.number}-orders"
        self._running: list[AnyConsumer] = []

    async def join(
        self, settings: Kafka | None = None, owner: Owner | None = None
    ) -> AnyConsumer:
        """A consumer that has got its partitions."""
        owner = owner or Owner()
        consumer = await self.start(owner, settings)
        await until(lambda: owner.heard != [], "an assignment")
        return consumer

    async def start(self, owner: Owner, settings: Kafka | None = None) -> AnyConsumer:
        settings = settings or self.world.settings(self.topic)
        consumer = self.world.consumer(owner, settings)
        await consumer.start()
        self._running.append(consumer)
        return consumer

    async def stop(self, consumer: AnyConsumer) -> None:
        self._running.remove(consumer)
        await consumer.stop()

    async def end(self) -> None:
        for consumer in [*self._running]:
            await self.stop(consumer)


@pytest.fixture
async def stage(world: World) -> AsyncIterator[Stage]:
    made = Stage(world)
    await world.create(made.topic, partitions=2)
    yield made
    await made.end()


def numbered(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


def by_partition(records: list[Record]) -> dict[Partition, list[int]]:
    found: dict[Partition, list[int]] = defaultdict(list)
    for record in records:
        found[record.topic, record.partition].append(record.offset)
    return found


async def test_records_come_in_order_and_never_more_than_asked_for(stage: Stage) -> None:
    one, two = (stage.topic, 0), (stage.topic, 1)
    await stage.world.write(one, *numbered(0, 30))
    await stage.world.write(two, *numbered(0, 20))
    consumer = await stage.join()
    found: list[Record] = []
    while len(found) < 50:
        some = await consumer.poll(consumer.assigned, 7, 0.5)
        assert len(some) <= 7
        found += some
    assert by_partition(found) == {one: list(range(30)), two: list(range(20))}
    assert found[0].value == b"0"
    assert consumer.highwater(one) == 30


async def test_no_partition_starves_another(stage: Stage) -> None:
    await stage.world.write((stage.topic, 0), *numbered(0, 100))
    await stage.world.write((stage.topic, 1), *numbered(0, 100))
    consumer = await stage.join()
    assert len(by_partition(await read(consumer, 60, at_once=10))) == 2


async def test_only_listed_partitions_are_read_and_the_others_lose_nothing(
    stage: Stage,
) -> None:
    one, two = (stage.topic, 0), (stage.topic, 1)
    await stage.world.write(one, *numbered(0, 20))
    await stage.world.write(two, *numbered(0, 20))
    consumer = await stage.join()
    await read(consumer, 4, at_once=2)  # both are prefetched by now
    first = by_partition(await read(consumer, 10, [one], at_once=5))
    assert set(first) == {one}
    rest = by_partition(await read(consumer, 26))
    for partition, offsets in rest.items():
        assert offsets == list(range(offsets[0], 20)), partition


async def test_no_partitions_means_no_records(stage: Stage) -> None:
    await stage.world.write((stage.topic, 0), b"x")
    consumer = await stage.join()
    assert await consumer.poll([], 10, 0.1) == []
    assert len(await read(consumer, 1)) == 1


async def test_a_cancelled_poll_loses_nothing(stage: Stage) -> None:
    partition = (stage.topic, 0)
    consumer = await stage.join()
    found: list[Record] = []
    for number in range(10):
        polling = asyncio.create_task(consumer.poll([partition], 10, 5.0))
        for _ in range(number):
            await asyncio.sleep(0)
        polling.cancel()
        await asyncio.wait([polling])
        if not polling.cancelled():
            found += polling.result()
        await stage.world.write(partition, b"%d" % number)
    found += await read(consumer, 10 - len(found))
    assert [record.offset for record in found] == list(range(10))


async def test_what_is_committed_is_not_read_again_and_the_rest_is(stage: Stage) -> None:
    partition = (stage.topic, 0)
    await stage.world.write(partition, *numbered(0, 10))
    consumer = await stage.join()
    await read(consumer, 10)
    assert await consumer.commit({partition: Mark(4)})
    await stage.stop(consumer)
    assert consumer.assigned == frozenset()

    again = await stage.join()
    assert again.began(partition) == 4
    assert [record.offset for record in await read(again, 6)] == [4, 5, 6, 7, 8, 9]
    assert again.began(partition) == 4


async def test_what_ended_above_the_committed_offset_is_told_to_the_next_owner(
    stage: Stage,
) -> None:
    partition = (stage.topic, 0)
    await stage.world.write(partition, *numbered(0, 10))
    consumer = await stage.join()
    await read(consumer, 10)
    assert await consumer.commit({partition: Mark(2, (4, 5, 9))})
    await stage.stop(consumer)

    owner = Owner()
    await stage.join(owner=owner)
    assert owner.ended[partition] == {4, 5, 9}


async def test_a_poll_ends_when_the_consumer_stops(stage: Stage) -> None:
    consumer = await stage.join()
    polling = asyncio.create_task(consumer.poll(consumer.assigned, 10, 600.0))
    await asyncio.sleep(0.05)  # it waits in poll, which nothing tells
    async with asyncio.timeout(10):
        await stage.stop(consumer)
        assert await polling == []


async def test_a_member_that_joins_takes_over_where_the_first_committed(
    stage: Stage,
) -> None:
    one, two = (stage.topic, 0), (stage.topic, 1)
    await stage.world.write(one, *numbered(0, 10))
    await stage.world.write(two, *numbered(0, 10))
    first_owner, second_owner = Owner(), Owner()
    first = await stage.join(owner=first_owner)
    await read(first, 20)

    async def commit() -> None:
        marks = {one: Mark(7), two: Mark(3)}
        assert await first.commit(marks), "what has ended counts at a revoke"

    first_owner.when_revoked = commit
    assert first.epoch == 1
    second = await stage.join(owner=second_owner)
    await until(lambda: len(first_owner.heard) == 3, "a new assignment for the first")
    assert first_owner.heard[0] == frozenset({one, two})
    assert first_owner.heard[1] == "revoked"
    assert first.epoch == 2
    assert first.assigned | second.assigned == {one, two}
    assert len(first.assigned) == len(second.assigned) == 1

    found = by_partition(
        await read(first, 3 if one in first.assigned else 7)
        + await read(second, 3 if one in second.assigned else 7)
    )
    assert found == {one: [7, 8, 9], two: list(range(3, 10))}


async def test_nothing_is_handed_out_while_partitions_are_given_back(
    stage: Stage,
) -> None:
    """Also where no rebalance of the group stops the reading: for a new topic."""
    number, partition = stage.world.number, (stage.topic, 0)
    await stage.world.write(partition, *numbered(0, 10))
    owner = Owner()
    consumer = await stage.join(stage.world.settings(f"^{number}-"), owner)
    await read(consumer, 2, at_once=2)  # the others are fetched by now
    drained: list[Record] = []

    async def drain() -> None:
        drained.extend(await consumer.poll(consumer.assigned, 10, 0.3))
        await stage.world.write(partition, *numbered(10, 12))
        drained.extend(await consumer.poll(consumer.assigned, 10, 0.3))
        assert await consumer.commit({partition: Mark(2)}), "a commit counts all the same"

    owner.when_revoked = drain
    await stage.world.create(f"{number}-more")
    await until(lambda: len(owner.heard) >= 3, "the new topic")
    assert drained == []
    owner.when_revoked = None
    found = by_partition(await read(consumer, 10, [partition]))
    assert found == {partition: list(range(2, 12))}


async def test_a_commit_for_partitions_that_are_gone_is_refused(stage: Stage) -> None:
    one, two = (stage.topic, 0), (stage.topic, 1)
    await stage.world.write(one, *numbered(0, 5))
    await stage.world.write(two, *numbered(0, 5))
    owner = Owner()
    first = await stage.join(owner=owner)
    await read(first, 10)
    await stage.join()
    await until(lambda: len(owner.heard) == 3, "a new assignment for the first")
    (lost,) = {one, two} - first.assigned
    assert not await first.commit({lost: Mark(5)})
    assert owner.failures == 1
    assert await stage.world.committed(f"group-{stage.world.number}", lost) == 0


async def test_the_partitions_of_a_member_that_stops_go_to_the_others(
    stage: Stage,
) -> None:
    owner = Owner()
    first = await stage.join(owner=owner)
    second = await stage.join()
    await until(lambda: len(owner.heard) == 3, "half of the partitions")
    await stage.stop(second)
    await until(lambda: len(first.assigned) == 2, "all partitions")


async def test_a_group_without_offsets_asks_where_to_begin(stage: Stage) -> None:
    await stage.world.write((stage.topic, 0), b"x")
    settings = stage.world.settings(stage.topic, start="none")
    owner = Owner()
    consumer = await stage.start(owner, settings)
    with pytest.raises(OffsetsMissing, match="PIPELINE_KAFKA__START=earliest"):
        await fail(consumer)
    assert owner.heard == []


async def test_with_latest_nothing_written_since_the_first_start_is_lost(
    stage: Stage,
) -> None:
    partition = (stage.topic, 0)
    await stage.world.write(partition, *numbered(0, 5))
    settings = stage.world.settings(stage.topic, start="latest")
    crashed = await stage.join(settings)
    await stage.world.write(partition, *numbered(5, 8))
    await read(crashed, 3)  # and no commit
    await stage.stop(crashed)
    again = await stage.join(settings)
    assert [record.offset for record in await read(again, 3)] == [5, 6, 7]


async def test_records_deleted_unread_are_an_error(stage: Stage) -> None:
    partition = (stage.topic, 0)
    await stage.world.write(partition, *numbered(0, 10))
    await stage.stop(await stage.join())  # the group has offsets from now on
    await stage.world.delete_before(partition, 6)
    settings = stage.world.settings(stage.topic, start="none")
    consumer = await stage.start(Owner(), settings)
    with pytest.raises(OffsetsLost, match="committed 0, there are 6 to 10"):
        await fail(consumer)


async def test_after_a_loss_earliest_goes_on_with_what_is_left(stage: Stage) -> None:
    partition = (stage.topic, 0)
    await stage.world.write(partition, *numbered(0, 10))
    await stage.stop(await stage.join())
    await stage.world.delete_before(partition, 6)
    owner = Owner()
    again = await stage.join(owner=owner)
    assert owner.metrics.records_lost.labels(stage.topic)._value.get() == 6
    assert await stage.world.committed(f"group-{stage.world.number}", partition) == 6
    assert [record.offset for record in await read(again, 4)] == [6, 7, 8, 9]


async def test_a_missing_topic_is_waited_for_and_read_from_its_beginning(
    stage: Stage,
) -> None:
    late = f"{stage.world.number}-late"
    owner = Owner()
    settings = stage.world.settings(late, start="none")
    consumer = await stage.start(owner, settings)
    assert await consumer.poll(consumer.assigned, 10, 0.1) == []
    await stage.world.create(late)
    await stage.world.write((late, 0), *numbered(0, 3))
    await until(lambda: frozenset({(late, 0)}) in owner.heard, "the new topic")
    assert [record.offset for record in await read(consumer, 3)] == [0, 1, 2]


async def test_a_new_partition_is_read_from_its_beginning(stage: Stage) -> None:
    """Also with latest: what was written before we saw it is new to the group."""
    old, new = (stage.topic, 0), (stage.topic, 2)
    await stage.world.write(old, *numbered(0, 5))
    settings = stage.world.settings(stage.topic, start="latest")
    consumer = await stage.join(settings)
    await stage.world.grow(stage.topic, 3)
    await stage.world.write(new, *numbered(0, 3))
    await until(lambda: new in consumer.assigned, "the new partition")
    assert by_partition(await read(consumer, 3)) == {new: [0, 1, 2]}


async def test_a_pattern_reads_what_matches_but_never_our_own_output(
    stage: Stage,
) -> None:
    number = stage.world.number
    await stage.world.create(f"{number}-ours")
    await stage.world.create(f"{number}-more")
    consumer = await stage.join(stage.world.settings(f"^{number}-"))
    await until(lambda: len(consumer.assigned) == 3, "all that match")
    assert {topic for topic, _ in consumer.assigned} == {stage.topic, f"{number}-more"}
