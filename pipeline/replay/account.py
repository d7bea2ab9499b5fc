"""What was done already, kept in the state topic: how far a replay came, which letters.

A call that was interrupted left its account there; the same call goes on with it. What
it did after its last word it does again, which is harmless.
"""

import hashlib
from collections.abc import Mapping

import msgspec

from pipeline.kafka.producer import Unwritable
from pipeline.kafka.ranges import Span
from pipeline.kafka.state import State
from pipeline.records import Partition

__all__ = ["Account"]


class _Progress(msgspec.Struct):
    """Per `topic/partition`: where it began, where it ends, what is done."""

    what: str
    spans: dict[str, tuple[int, int]]
    done: dict[str, int]


class Account:
    """How far one replay has come. Its name is all that was asked for."""

    def __init__(self, state: State, asked: str) -> None:
        self._state = state
        self._asked = asked
        self._key = hashlib.sha256(asked.encode()).hexdigest()[:16]
        self._progress: _Progress | None = None

    async def load(self) -> tuple[dict[Partition, Span], dict[Partition, int]] | None:
        """Give the spans and offsets of an interrupted call; None if there was none."""
        found = (await self._state.load()).get(self._key)
        if found is None:
            return None
        self._progress = progress = msgspec.json.decode(found, type=_Progress)
        return (
            {_partition(each): Span(*span) for each, span in progress.spans.items()},
            {_partition(each): at for each, at in progress.done.items()},
        )

    def begin(self, spans: Mapping[Partition, Span]) -> None:
        """A new call; nothing is written before something is done."""
        self._progress = _Progress(
            self._asked,
            {_name(each): (span.at, span.to) for each, span in spans.items()},
            {},
        )

    async def settled(self, offsets: Mapping[Partition, int]) -> bool:
        """All below these offsets has ended; false if that could not be written."""
        progress = self._progress
        if progress is None:
            raise AssertionError("begin or load comes first")
        progress.done |= {_name(each): at for each, at in offsets.items()}
        try:
            await self._state.put(self._key, msgspec.json.encode(progress))
        except Unwritable:
            return False
        return True

    async def finished(self) -> None:
        """Forget it: the same call would begin anew."""
        if self._progress is not None and self._progress.done:
            await self._state.put(self._key, None)


def _name(partition: Partition) -> str:
    return f"{partition[0]}/{partition[1]}"


def _partition(name: str) -> Partition:
    topic, _, number = name.rpartition("/")
    return topic, int(number)
