"""Polls and commits against a client under the test's control: faults no broker plays."""

import asyncio
from collections.abc import Callable, Collection, Mapping

import pytest
from aiokafka.errors import (
    CommitFailedError,
    CorruptRecordException,
    OffsetOutOfRangeError,
)
from aiokafka.structs import ConsumerRecord

from pipeline.errors import OffsetsLost
from pipeline.kafka import consumer as module
from pipeline.kafka.consumer import Consumer
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import Mark, Partition
from pipeline.settings import Kafka

ONE, TWO = ("orders", 0), ("orders", 1)


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        return self.time

    now = monotonic


class Stub:
    """A client that has fetched what the test says; an error waits like a record."""

    def __init__(self) -> None:
        self.has: dict[Partition, list[int | Exception]] = {ONE: [], TWO: []}
        self.commits: list[Mapping[Partition, tuple[int, str]]] = []
        self.committing: Callable[[], object] = lambda: None
        self.hang = False
        self.joined = True
        self.waiters: list[asyncio.Future[None]] = []

    def fetched(self, partition: Partition) -> bool:
        return bool(self.has[partition])

    async def take(self, partition: Partition, most: int) -> list[ConsumerRecord]:
        waiting = self.has[partition]
        if isinstance(waiting[0], Exception):
            raise waiting[0]
        taken, self.has[partition] = waiting[:most], waiting[most:]
        return [
            ConsumerRecord(
                *(*partition, offset, 5, 0, b"k", b"v", None, 1, 1),
                (("a", b"1"), ("b", None)),
            )
            for offset in taken
        ]

    def news(self) -> "asyncio.Future[None]":
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        return waiter

    async def commit(self, offsets: Mapping[Partition, tuple[int, str]]) -> None:
        if self.hang:
            await asyncio.Event().wait()
        self.committing()
        self.commits.append(offsets)


class Rig:
    def __init__(self) -> None:
        self.metrics, self.clock, self.client = Metrics(), Clock(), Stub()
        self.health = Health(self.metrics, self.clock)
        self.consumer = Consumer(
            settings=Kafka(group="g"),
            metrics=self.metrics,
            health=self.health,
            clock=self.clock,
            on_assigned=self.assigned,
            on_revoked=self.revoked,
        )
        self.inside = self.consumer._membership
        self.inside.client = self.client  # type: ignore[assignment]
        self.inside.assigned = frozenset({ONE, TWO})
        self.inside.epoch = 1
        self.inside.first = {"orders": 3}

    def assigned(self, partitions: Collection[Partition]) -> None: ...

    async def revoked(self) -> None: ...

    async def poll(self, most: int = 10) -> list[tuple[int, int]]:
        records = await self.consumer.poll([ONE, TWO], most, 0.0)
        return [(record.partition, record.offset) for record in records]


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def test_a_record_keeps_its_bytes_and_headers(rig: Rig) -> None:
    rig.client.has[ONE] = [7]
    (record,) = await rig.consumer.poll([ONE], 10, 0.0)
    assert (record.topic, record.partition, record.offset) == ("orders", 0, 7)
    assert (record.timestamp, record.key, record.value) == (5, b"k", b"v")
    assert record.headers == (("a", b"1"), ("b", None))


@pytest.mark.parametrize(
    "error", [CorruptRecordException(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")]
)
async def test_a_partition_that_cannot_be_read_stops_no_other(
    rig: Rig, error: Exception
) -> None:
    rig.client.has = {ONE: [0, 1], TWO: [error]}
    assert await rig.poll() == [(0, 0), (0, 1)]
    assert "partition orders-1" in rig.health.waits()
    rig.client.has[ONE] = [2]
    assert await rig.poll() == [(0, 2)]

    rig.client.has[TWO] = [5]
    assert await rig.poll() == [], "it rests: an error each round would be a hot loop"
    rig.clock.time += module.REST
    assert await rig.poll() == [(1, 5)]
    assert rig.health.waits() == {}


async def test_a_position_that_is_gone_asks_for_a_new_client(rig: Rig) -> None:
    rig.client.has[ONE] = [OffsetOutOfRangeError()]
    assert await rig.poll() == []
    assert "orders-0" in rig.inside._broken


async def test_nothing_is_handed_out_of_what_is_not_assigned(rig: Rig) -> None:
    rig.client.has = {ONE: [0], TWO: [0]}
    rig.inside.assigned = frozenset({TWO})
    assert await rig.poll() == [(1, 0)]


async def test_a_poll_waits_for_news_and_leaves_no_waiter_behind(rig: Rig) -> None:
    polling = asyncio.create_task(rig.consumer.poll([ONE], 10, 60.0))
    await asyncio.sleep(0)
    rig.client.has[ONE] = [3]
    rig.client.waiters[0].set_result(None)
    assert [record.offset for record in await polling] == [3]
    assert all(waiter.done() for waiter in rig.client.waiters)


async def test_a_cancelled_poll_leaves_no_waiter_behind(rig: Rig) -> None:
    polling = asyncio.create_task(rig.consumer.poll([ONE], 10, 60.0))
    await asyncio.sleep(0)
    polling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await polling
    assert all(waiter.done() for waiter in rig.client.waiters)


async def test_an_error_of_the_group_does_not_end_a_poll(rig: Rig) -> None:
    polling = asyncio.create_task(rig.consumer.poll([ONE], 10, 0.05))
    await asyncio.sleep(0)
    rig.client.waiters[0].set_exception(CommitFailedError("seen by the watchman"))
    assert await polling == []


async def test_a_failure_wakes_a_poll_and_is_raised(rig: Rig) -> None:
    polling = asyncio.create_task(rig.consumer.poll([ONE], 10, 60.0))
    await asyncio.sleep(0)
    rig.inside.failure = OffsetsLost("gone")
    rig.inside._signal()
    with pytest.raises(OffsetsLost):
        await polling


async def test_a_new_assignment_wakes_a_poll(rig: Rig) -> None:
    polling = asyncio.create_task(rig.consumer.poll([], 10, 60.0))
    await asyncio.sleep(0)
    rig.inside._signal()
    assert await polling == []


async def test_a_commit_ends_with_its_epoch(rig: Rig) -> None:
    """aiokafka would try it again, with the generation that others own by then."""
    rig.client.hang = True
    committing = asyncio.create_task(rig.consumer.commit({ONE: Mark(5)}))
    await asyncio.sleep(0)
    rig.inside.assigned = frozenset()
    rig.inside._signal()
    async with asyncio.timeout(1):
        assert await committing is False
    left = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait([*left, asyncio.create_task(asyncio.sleep(0))])
    assert rig.client.commits == []


async def test_a_commit_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_LIMIT", 0.05)
    rig.client.hang = True
    async with asyncio.timeout(2):
        assert not await rig.consumer.commit({ONE: Mark(5)})
    assert rig.metrics.commit_failures._value.get() == 1


@pytest.mark.parametrize("error", [CommitFailedError("moved"), AssertionError("a bug")])
async def test_a_refused_commit_is_no_exception(rig: Rig, error: Exception) -> None:
    def refuse() -> None:
        raise error

    rig.client.committing = refuse
    assert not await rig.consumer.commit({ONE: Mark(5)})
    rig.client.committing = lambda: None
    assert await rig.consumer.commit({ONE: Mark(5)})
    assert rig.client.commits == [{ONE: (5, "2;5;3;")}]
    assert rig.metrics.commit_failures._value.get() == 1


async def test_a_cancelled_commit_is_not_left_running(rig: Rig) -> None:
    rig.client.hang = True
    committing = asyncio.create_task(rig.consumer.commit({ONE: Mark(5)}))
    await asyncio.sleep(0)
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
