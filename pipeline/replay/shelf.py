"""The dead letters that are there already, so that none is written a second time.

A range that is sent again meets the same bad records again, and a call that was killed
may have written a letter that it had no time to mark. Both are known by where the record
stood first, and by the letter it was before.
"""

from collections.abc import AsyncIterator, Mapping

from pipeline.kafka.client import Client
from pipeline.kafka.ranges import Ranges, Span
from pipeline.observe.health import Health
from pipeline.records import Partition
from pipeline.replay.letters import Letter, Marks, letter
from pipeline.replay.selection import Origin

__all__ = ["followed", "letters", "there"]

_POLL = 1000  # records


async def letters(
    client: Client, spans: Mapping[Partition, Span], health: Health
) -> AsyncIterator[Letter]:
    """Give the letters in these spans of the dead-letter topic, by partition in order."""
    ranges = Ranges(client, health)
    ranges.seek(spans)
    while ranges.left:
        for record in await ranges.poll(spans, _POLL, 0.5):
            if (one := letter(record)) is not None:
                yield one


async def there(
    found: AsyncIterator[Letter], marks: Marks, ranges: Mapping[Partition, Span]
) -> set[Origin]:
    """Give the records of these ranges that are letters, open or put away.

    Not those that were replayed: if they fail now, that is news.
    """
    known: set[Origin] = set()
    async for one in found:
        span = ranges.get((one.topic, one.partition))
        mark = marks.of(one)
        if (
            span is not None
            and span.at <= one.offset < span.to
            and (mark is None or mark.fate == "discarded")
        ):
            known.add((one.topic, one.partition, one.offset))
    return known


async def followed(found: AsyncIterator[Letter], marks: Marks) -> list[Letter]:
    """Give the open letters that were sent again and failed again: each has a successor.

    They are left by a call that was killed between the new letter and the mark.
    """
    open_: dict[str, Letter] = {}
    later: set[tuple[str, str, int, int]] = set()
    async for one in found:
        if marks.of(one) is None:
            open_[one.id] = one
        if one.history:
            later.add((one.history[-1].letter, one.topic, one.partition, one.offset))
    return [
        one
        for one in open_.values()
        if (one.id, one.topic, one.partition, one.offset) in later
    ]
