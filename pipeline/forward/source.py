"""Reads records from Kafka as fast as there is room for them, and no faster.

One task owns the consumer. Back-pressure is `poll(partitions with room)`: what the
client has prefetched for the others stays where it is. Two bounds (records and bytes in
hand) with a lower mark for going on, and a window per partition, so that one record
that cannot end stops the intake of its partition only.

The bytes are shared evenly by the partitions that hold any, and a little is kept for one
that comes new: records of one topic may drain a hundred times slower than those of
another, and would soon fill all of it.
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
FEWEST: Final = 100  # records; a poll for less is not worth its turn
PATIENCE: Final = 0.5  # s; how long a poll waits, and so how soon a stop is seen
RESUME: Final = 0.75  # part of a budget below which what was full takes more again
KEPT: Final = 0.125  # of the budget, for partitions that hold next to nothing


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
        return await self._consumer.poll(partitions, self._most(), PATIENCE)

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
            checkpoint.records >= self._records * part or checkpoint.bytes >= self._bytes
        )
        owned = checkpoint.partitions()
        window = min(REACH, max(POLL, 2 * self._records // max(1, len(owned))))
        most = self._share * RESUME
        if self._full:
            kept = KEPT / max(1, len(owned))
            most = min(most, self._bytes * kept)
            window = min(window, int(self._records * kept))
        return [
            partition
            for partition in owned
            if checkpoint.held(partition) < window and checkpoint.weight(partition) < most
        ]

    def _most(self) -> int:
        """How many records the next poll may bring."""
        checkpoint = self._checkpoint
        left = max(FEWEST, self._records - checkpoint.records)
        if checkpoint.records:
            # Of any partition, and as large as those in hand: not much over its share.
            room = self._share * (1 - RESUME) * checkpoint.records / checkpoint.bytes
            left = min(left, max(FEWEST, int(room)))
        return min(POLL, left)

    @property
    def _share(self) -> float:
        """The bytes one partition may hold; while it is alone, half for another."""
        owned = self._checkpoint.partitions()
        busy = sum(1 for each in owned if self._checkpoint.weight(each))
        return self._bytes / max(busy, min(2, len(owned)), 1)
