"""Hands the selected records of a range to the flow, and hears what has ended."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from pipeline.kafka.ranges import Ranges, Span
from pipeline.records import Mark, Partition, Record
from pipeline.replay.selection import Selection

__all__ = ["Selected"]

Settled = Callable[[Mapping[Partition, int]], Awaitable[bool]]
Seen = Callable[[Record], object]
Ready = Callable[[Sequence[Record]], Awaitable[bool]]


class Selected:
    """Stands where the consumer of the service stands; see `pipeline.kafka.consumer`."""

    def __init__(
        self,
        ranges: Ranges,
        spans: Mapping[Partition, Span],
        selection: Selection,
        *,
        settled: Settled,
        done: Mapping[Partition, int],
        seen: Seen,
        ready: Ready,
    ) -> None:
        """`settled` keeps account of the offsets below which all has ended.

        What stands below `done` was sent by an earlier call: it is only `seen`. `ready`
        fetches what is needed to look into records; false to be asked again.
        """
        ranges.seek(spans)
        self._ranges = ranges
        self._spans = spans
        self._selection = selection
        self._settled = settled
        self._done = done
        self._seen = seen
        self._ready = ready
        self._unread: list[Record] = []  # not yet looked into
        self.sent = 0  # records handed out
        self.exhausted = False

    @property
    def total(self) -> int:
        """Offsets of the whole range."""
        return sum(max(0, span.to - span.at) for span in self._spans.values())

    @property
    def left(self) -> int:
        """Offsets not yet read."""
        return self._ranges.left

    async def poll(
        self,
        partitions: Collection[Partition],
        max_records: int,
        timeout: float,  # noqa: ASYNC109  the patience of a poll is no deadline
    ) -> list[Record]:
        """Get the next records that are meant."""
        # Said one poll late: what the last one brought has a ticket by then.
        self.exhausted = not self._ranges.left and not self._unread
        if self.exhausted:
            await asyncio.sleep(timeout)
        if not self._unread:
            self._unread = await self._ranges.poll(partitions, max_records, timeout)
        if not await self._ready(self._unread):
            return []
        found, self._unread = self._unread, []
        records = []
        for record in found:
            if not self._selection.wants(record):
                continue
            if record.offset < self._done.get((record.topic, record.partition), 0):
                self._seen(record)
            else:
                records.append(record)
        self.sent += len(records)
        return records

    async def commit(self, marks: Mapping[Partition, Mark]) -> bool:
        """Write down below which offsets all has ended."""
        return await self._settled({each: mark.offset for each, mark in marks.items()})

    def highwater(self, partition: Partition) -> int | None:
        """Give the end of the range."""
        return self._spans[partition].to if partition in self._spans else None

    def began(self, partition: Partition) -> int | None:
        """Give the beginning of the range."""
        return self._spans[partition].at if partition in self._spans else None
