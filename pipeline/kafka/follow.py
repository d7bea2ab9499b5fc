"""Reads a compacted topic from its beginning, and later what is new: a table's history.

Unlike `State` it keeps nothing: the records go to whoever bounds their memory. Committed
records only, each time to the end as it was when asked.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError
from aiokafka.structs import ConsumerRecord

from pipeline.errors import KafkaUnreachable, SettingsError
from pipeline.kafka.admin import Admin
from pipeline.kafka.connection import FAILURES, START_LIMIT, arguments
from pipeline.kafka.format import check
from pipeline.kafka.transactions import Away
from pipeline.settings import Kafka

__all__ = ["Entry", "Follower"]

Entry = tuple[bytes, bytes | None]  # key, value; None forgets the key

SILENCE: Final = 15.0  # s without a record before the broker counts as away
_POLL_MS: Final = 500
_LOOK: Final = 0.02  # s between looks for the partitions
_CLOSE_LIMIT: Final = 2.0  # s
_LARGEST: Final = 4 * 2**20  # bytes a fetch of one partition brings; 1 MiB starves


class Follower:
    """One reader without a group; `open`, `news` any number of times, `close`."""

    def __init__(self, settings: Kafka, topic: str, prefix: str) -> None:
        """`prefix` is of the keys to give, e.g. `<slug>/`."""
        self._settings = settings
        self._topic = topic
        self._prefix = prefix.encode()
        self._consumer: AIOKafkaConsumer | None = None

    async def open(self) -> None:
        """Stand at the beginning. Raises `Away` and `SettingsError`."""
        await self.close()
        consumer = self._consumer = AIOKafkaConsumer(
            **arguments(self._settings),
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_LARGEST,
        )
        try:
            async with asyncio.timeout(START_LIMIT):
                await consumer.start()
                consumer.subscribe([self._topic])  # without a group: all its partitions
                while not consumer.assignment():  # noqa: ASYNC110  there is no event
                    await asyncio.sleep(_LOOK)
        except FAILURES as error:
            raise self._away(error) from None

    async def news(self) -> AsyncIterator[list[Entry]]:
        """Give what is new up to the end as it is now, in pieces.

        Raises as `open`, and `TooNew`.
        """
        consumer = self._consumer
        if consumer is None:
            raise RuntimeError("the follower is not open")
        try:
            async with asyncio.timeout(SILENCE):
                ends = await consumer.end_offsets(consumer.assignment())
            left = set(ends)
            while left := {e for e in left if await self._position(e) < ends[e]}:
                before = [await self._position(each) for each in left]
                found: dict[TopicPartition, list[ConsumerRecord]] = {}
                async with asyncio.timeout(SILENCE):
                    # Markers of transactions move the position without a record.
                    while not found and before == [
                        await self._position(each) for each in left
                    ]:
                        found = await consumer.getmany(*left, timeout_ms=_POLL_MS)
                for records in found.values():
                    yield [self._entry(each) for each in records if self._ours(each)]
        except FAILURES as error:
            raise self._away(error) from None

    async def written(self, topic: str) -> bool:
        """Whether that other topic was ever written to. Raises as `open`."""
        consumer = self._consumer
        if consumer is None:
            raise RuntimeError("the follower is not open")
        try:
            found = (await Admin(self._settings).describe([topic]))[topic]
            numbers = range(found.partitions if found else 0)
            async with asyncio.timeout(SILENCE):
                ends = await consumer.end_offsets(
                    [TopicPartition(topic, number) for number in numbers]
                )
        except (KafkaUnreachable, *FAILURES) as error:
            raise self._away(error) from None
        return any(ends.values())

    def _ours(self, record: ConsumerRecord) -> bool:
        return (record.key or b"").startswith(self._prefix)

    def _entry(self, record: ConsumerRecord) -> Entry:
        check(self._topic, record.headers)
        return record.key, record.value

    async def close(self) -> None:
        """Close the connections, in bounded time."""
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        stopping = asyncio.ensure_future(consumer.stop())
        await asyncio.wait([stopping], timeout=_CLOSE_LIMIT)
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)

    async def _position(self, partition: object) -> int:
        consumer = self._consumer
        if consumer is None:
            raise Away("closed while it was read")
        async with asyncio.timeout(SILENCE):
            at: int = await consumer.position(partition)
        return at

    def _away(self, error: BaseException) -> Away | SettingsError:
        if isinstance(error, TopicAuthorizationFailedError):
            return SettingsError(
                f"{self._topic} may not be read: grant READ and DESCRIBE to the user"
            )
        return Away(f"{self._topic} cannot be read ({type(error).__name__})")
