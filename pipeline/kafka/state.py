"""Small facts that outlive the process, in a compacted topic: the latest value counts.

A key stands under its owner's prefix, as `<subscription slug>/oauth/tokens`, so that one
topic serves many. All values of a key are in one partition, in the order they were
written; between keys there is no order.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError

from pipeline.errors import KafkaUnreachable, PipelineError
from pipeline.kafka.connection import FAILURES, START_LIMIT, arguments, unreachable
from pipeline.kafka.format import STAMP, check
from pipeline.kafka.producer import Producer, Unwritable
from pipeline.observe.health import Health
from pipeline.settings import Kafka

__all__ = ["State", "Unreadable"]

SILENCE: Final = 15.0  # s without a record before reading is given up
_POLL_MS: Final = 500
_LOOK: Final = 0.02  # s between looks for the partitions
_CLOSE_LIMIT: Final = 2.0  # s
_AGAIN: Final = 2.0  # s until a write that Kafka did not take is tried again


class Unreadable(PipelineError):
    """The topic may not be read; a human must grant it."""


class State:
    """The facts under one prefix. Any number of processes may read and write them."""

    def __init__(self, settings: Kafka, topic: str, prefix: str) -> None:
        """`prefix` without a slash at its end, e.g. `<slug>/jobs`."""
        self._settings = settings
        self._topic = topic
        self._prefix = f"{prefix}/".encode()
        self._producer: Producer | None = None
        self._one = asyncio.Lock()  # one load at a time, for the places below
        self._next: dict[TopicPartition, int] = {}  # where the next load goes on
        self._found: dict[bytes, bytes] = {}

    async def load(self) -> dict[str, bytes]:
        """Read to the topic's end, committed records only; prefix and tombstones are off.

        What was put before it is called is in it, whoever put it. Later loads read only
        what is new. Empty if there is no such topic. Raises `KafkaUnreachable`,
        `Unreadable`, `TooNew` and `SettingsError`.
        """
        async with self._one:
            consumer = AIOKafkaConsumer(
                **arguments(self._settings),
                group_id=None,
                enable_auto_commit=False,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
            )
            try:
                async with asyncio.timeout(START_LIMIT):
                    await consumer.start()
                    there = await consumer.topics()
                if self._topic in there:
                    await self._read(consumer)
            except TopicAuthorizationFailedError:
                raise Unreadable(
                    f"{self._topic} may not be read: grant READ and DESCRIBE"
                ) from None
            except FAILURES:
                raise await unreachable(self._settings) from None
            finally:
                await _closed(consumer)
            cut = len(self._prefix)
            return {key[cut:].decode(): value for key, value in self._found.items()}

    async def put(self, key: str, value: bytes | None) -> None:
        """Write one fact, None to forget it; written when it returns.

        Raises `KafkaUnreachable`, `Unwritable` and `TooLarge`; after the first two it may
        have been written all the same.
        """
        if self._producer is None:
            producer = Producer(settings=self._settings)
            await producer.start()
            if self._producer is None:
                self._producer = producer
            else:  # another put was faster
                await producer.stop()
        name = self._prefix + key.encode()
        await self._producer.send(self._topic, name, value, STAMP)

    async def keep(self, entries: Mapping[str, bytes | None], health: Health) -> None:
        """Write facts that nothing goes on without; waits for Kafka, visibly.

        Raises `SettingsError` and `TooLarge`.
        """
        for key, value in entries.items():
            while True:
                try:
                    await self.put(key, value)
                except (KafkaUnreachable, Unwritable) as error:
                    health.away("state topic", str(error))
                    await asyncio.sleep(_AGAIN)
                else:
                    health.back("state topic")
                    break

    async def close(self) -> None:
        """Close the connection for writing; ends in 5 s whatever is down."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        """Take in what is new, up to the end as it is now."""
        async with asyncio.timeout(START_LIMIT):
            consumer.subscribe([self._topic])  # without a group: all its partitions
            while not (partitions := consumer.assignment()):  # noqa: ASYNC110  no event
                await asyncio.sleep(_LOOK)
            ends = await consumer.end_offsets(partitions)
            begins = await consumer.beginning_offsets(partitions)
        if any(ends[each] < at for each, at in self._next.items() if each in ends):
            self._next.clear()  # the topic was made anew
            self._found.clear()
        for each in partitions:
            consumer.seek(each, max(self._next.get(each, 0), begins[each]))
        left = set(partitions)
        while left := {
            each for each in left if await consumer.position(each) < ends[each]
        }:
            async with asyncio.timeout(SILENCE):
                await self._take(consumer, left)
        for each in partitions:
            self._next[each] = await consumer.position(each)

    async def _take(self, consumer: AIOKafkaConsumer, left: set[TopicPartition]) -> None:
        """Wait for records, or for a place to move: markers of transactions move it."""
        before = {each: await consumer.position(each) for each in left}
        while before == {each: await consumer.position(each) for each in left}:
            found = await consumer.getmany(*left, timeout_ms=_POLL_MS)
            for records in found.values():
                for record in records:
                    key = record.key or b""
                    if not key.startswith(self._prefix):
                        continue
                    check(self._topic, record.headers)
                    # Taken out first: the newest stand last.
                    self._found.pop(key, None)
                    if record.value is not None:
                        self._found[key] = record.value


async def _closed(consumer: AIOKafkaConsumer) -> None:
    """Close it, in bounded time; how that ends does not matter."""
    try:
        async with asyncio.timeout(_CLOSE_LIMIT):
            await consumer.stop()
    except FAILURES:
        pass
