"""Reads records from Kafka as fast as there is room for them, and no faster.

One task owns the consumer. Back-pressure is `poll(partitions with room)`: what the
client has prefetched for the others stays where it is. Two bounds (records and bytes in
hand) with a lower mark for going on, and a window per partition, so that one record
that cannot end stops the intake of its partition only.

The bytes are shared by the partitions that hold any, and a little is kept for one that
comes new: records of one topic may drain a hundred times slower than those of another,
and would soon fill all of it. What a partition has no use for goes to the others: it has
use for twice what it has under way at Klaviyo, as the next request is made of what waits
while one is answered.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

from pipeline.kafka.consumer import Reader
from pipeline.kafka.notes import REACH
from pipeline.observe.health import Health
from pipeline.records import Partition, Record

if TYPE_CHECKING:  # stages know each other's shapes, only flow.py joins them
    from pipeline.forward.checkpoint import Checkpoint

__all__ = ["POLL", "Source"]

POLL: Final = 100  # records; what one poll may bring
WINDOW: Final = 1000  # records from the first open one on that a partition has anyhow
PATIENCE: Final = 0.5  # s; how long a poll waits, and so how soon a stop is seen
RESUME: Final = 0.9  # part of a budget below which what was full takes more again
KEPT: Final = 0.125  # of the budget, for partitions that hold next to nothing
USED: Final = 2  # x what is under way: so much a partition has use for
HALF: Final = 5.0  # s until half of it is forgotten
LEAST: Final = 0.25  # of an equal share, which a partition has in any case


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
        self._used: dict[Partition, float] = {}  # the most bytes lately under way
        self._looked = 0.0
        self._room = asyncio.Event()

    async def poll(self) -> list[Record]:
        """The next records, in offset order per partition; often none.

        Raises `OffsetsMissing` and `OffsetsLost`.
        """
        self._health.beat("source")
        if self._health.halted:
            await self._pause()
            return []
        shares = self.shares(asyncio.get_running_loop().time())
        partitions = self._with_room(shares)
        if not partitions and shares:
            await self._pause()
            return []
        return await self._consumer.poll(partitions, POLL, PATIENCE)

    def freed(self) -> None:
        """Something ended: there may be room again."""
        self._room.set()

    def shares(self, now: float) -> dict[Partition, float]:
        """The bytes each partition may hold; while one is alone, some for another.

        `now` is in seconds, as the loop counts them.
        """
        checkpoint = self._checkpoint
        owned = checkpoint.partitions()
        self._look(owned, now)
        busy = [each for each in owned if checkpoint.weight(each)]
        count = max(len(busy), min(2, len(owned)), 1)
        equal = self._bytes / count
        shares = dict.fromkeys(owned, equal)
        modest = {
            each: use
            for each in busy
            if (use := max(equal * LEAST, USED * self._used[each])) < equal
        }
        if len(modest) < len(busy):  # else nobody has use for more
            shares |= modest
            alone = equal * LEAST * (count - len(busy))
            rest = self._bytes - alone - sum(modest.values())
            more = rest / (len(busy) - len(modest))
            shares |= {each: more for each in busy if each not in modest}
        return shares

    def _look(self, owned: Collection[Partition], now: float) -> None:
        """Remember what was under way; it comes and goes with each request."""
        left = 0.5 ** ((now - self._looked) / HALF)
        self._looked = now
        under_way, used = self._checkpoint.under_way, self._used
        self._used = {
            each: max(under_way(each), used.get(each, 0.0) * left) for each in owned
        }

    async def _pause(self) -> None:
        self._room.clear()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._room.wait()
        except TimeoutError:
            pass

    def _with_room(self, shares: Mapping[Partition, float]) -> Collection[Partition]:
        checkpoint = self._checkpoint
        part = RESUME if self._full else 1.0
        self._full = (
            checkpoint.records >= self._records * part or checkpoint.bytes >= self._bytes
        )
        count = max(1, len(shares))
        window = min(REACH, max(WINDOW, 2 * self._records // count))
        most = float(self._bytes)
        if self._full:
            most *= KEPT / count
            window = min(window, int(self._records * KEPT / count))
        return [
            each
            for each, share in shares.items()
            if checkpoint.held(each) < window
            and checkpoint.weight(each) < min(most, share * RESUME)
        ]
