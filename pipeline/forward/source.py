"""Reads records from Kafka as fast as there is room for them, and no faster.

One task owns the consumer. Back-pressure is `poll(partitions with room)`: what the
client has prefetched for the others stays where it is. Two bounds (records and bytes in
hand) with a lower mark for going on, and a window per partition, so that one record
that cannot end stops the intake of its partition only.
"""

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from pipeline.kafka.consumer import Reader
from pipeline.kafka.notes import REACH
from pipeline.observe.health import Health
from pipeline.records import Partition, Record

if TYPE_CHECKING:  # stages know each other's shapes, only flow.py joins them
    from pipeline.forward.checkpoint import Checkpoint

__all__ = ["Source"]

POLL: Final = 1000  # records; what one poll may bring between two turns of the loop
PATIENCE: Final = 0.5  # s; how long a poll waits, and so how soon a stop is seen
RESUME: Final = 0.75  # part of the budget below which a full buffer takes more again


class Source:
    """Hands out batches of records while there is room and nothing halts the flow."""

    def __init__(
        self,
        consumer: Reader,
        checkpoint: "Checkpoint",
        health: Health,
        *,
        buffer_records: int,
        buffer_bytes: int,
    ) -> None:
        self._consumer = consumer
        self._checkpoint = checkpoint
        self._health = health
        self._records = buffer_records
        self._bytes = buffer_bytes
        self._full = False
        self._room = asyncio.Event()

    async def poll(self) -> list[Record]:
        """The next records, in offset order per partition; often none.

        Raises `OffsetsMissing` and `OffsetsLost`.
        """
        self._health.beat("source")
        if self._health.halted:
            await self._pause()
            return []
        partitions = self._with_room()
        if not partitions and self._checkpoint.partitions():
            await self._pause()
            return []
        left = self._records - self._checkpoint.records
        return await self._consumer.poll(partitions, max(1, min(POLL, left)), PATIENCE)

    def freed(self) -> None:
        """Something ended: there may be room again."""
        self._room.set()

    async def _pause(self) -> None:
        self._room.clear()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._room.wait()
        except TimeoutError:
            pass

    def _with_room(self) -> Collection[Partition]:
        checkpoint = self._checkpoint
        part = RESUME if self._full else 1.0
        self._full = (
            checkpoint.records >= self._records * part
            or checkpoint.bytes >= self._bytes * part
        )
        if self._full:
            return ()
        owned = checkpoint.partitions()
        window = min(REACH, max(POLL, 2 * self._records // max(1, len(owned))))
        most = self._bytes if len(owned) == 1 else self._bytes // 2
        return [
            partition
            for partition in owned
            if checkpoint.held(partition) < window and checkpoint.weight(partition) < most
        ]
