"""Dead letters: what they tell, which are still open, and sending them again.

A letter is known by where it stands, `PARTITION:OFFSET`. What became of it stands in the
state topic beside where it came from, so that a topic made anew is not taken for the old
one. One that is sent again carries its earlier failures in the header `klaviyo.history`.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from pipeline.clock import SYSTEM
from pipeline.kafka.producer import Unwritable
from pipeline.kafka.state import State
from pipeline.records import Dead, Partition, Record, Skipped
from pipeline.replay.selection import Watched
from schemas.event import Plan

__all__ = ["Fate", "Letter", "Marks", "OpenLetters", "Originals", "letter", "original"]

HISTORY: Final = "klaviyo.history"
_CONNECT: Final = "__connect.errors."
_OURS: Final = (
    "reason",
    "status",
    "code",
    "pointer",
    "attempts",
    "subscription",
    "unique_id",
    "truncated",
)
_MANY: Final = 1000  # letters marked side by side

# `sent` waits for what came later for its customer, so that the newest wins.
Fate: TypeAlias = Literal["sent", "replayed", "discarded"]


class Failure(msgspec.Struct, frozen=True):
    """Why and where a record became a dead letter once."""

    letter: str  # partition:offset in the dead-letter topic
    reason: str
    stage: str
    message: str
    pointer: str
    status: str
    code: str


class Letter(msgspec.Struct, frozen=True):
    """One dead letter, read."""

    id: str
    record: Record
    topic: str  # where the record stood first
    partition: int
    offset: int
    reason: str
    stage: str
    message: str
    pointer: str
    status: str
    code: str
    truncated: bool
    history: tuple[Failure, ...]

    @property
    def mark(self) -> str:
        """The key under which its fate is kept."""
        return f"{self.id}/{self.topic}/{self.partition}/{self.offset}"

    @property
    def headers(self) -> tuple[tuple[str, bytes | None], ...]:
        """Those that it carries and that tell nothing of why it is a letter."""
        return tuple(
            each
            for each in self.record.headers
            if each[0] == HISTORY or not _told_by_us(each[0])
        )

    def original(self) -> Record:
        """The record as it first was, with its history."""
        failure = Failure(
            self.id,
            self.reason,
            self.stage,
            self.message,
            self.pointer,
            self.status,
            self.code,
        )
        kept = tuple(each for each in self.record.headers if not _told_by_us(each[0]))
        history = (HISTORY, msgspec.json.encode((*self.history, failure)))
        return Record(
            self.topic,
            self.partition,
            self.offset,
            self.record.timestamp,
            self.record.key,
            self.record.value,
            (*kept, history),
        )


class Mark(msgspec.Struct, frozen=True):
    """What became of a letter."""

    fate: Fate
    at: float  # s since the epoch
    why: str = ""  # of a discarded one, in the words of who did it


def letter(record: Record) -> Letter | None:
    """Read a record of the dead-letter topic; None if it is no letter of ours."""
    told = {
        name: (value or b"").decode(errors="replace") for name, value in record.headers
    }
    partition, offset = (
        told.get(_CONNECT + each, "") for each in ("partition", "offset")
    )
    if "klaviyo.reason" not in told or not (partition.isdigit() and offset.isdigit()):
        return None
    return Letter(
        id=f"{record.partition}:{record.offset}",
        record=record,
        topic=told.get(_CONNECT + "topic", ""),
        partition=int(partition),
        offset=int(offset),
        reason=told["klaviyo.reason"],
        stage=told.get(_CONNECT + "stage", ""),
        message=told.get(_CONNECT + "exception.message", ""),
        pointer=told.get("klaviyo.pointer", ""),
        status=told.get("klaviyo.status", ""),
        code=told.get("klaviyo.code", ""),
        truncated="klaviyo.truncated" in told,
        history=_history(told.get(HISTORY, "")),
    )


def _history(text: str) -> tuple[Failure, ...]:
    try:
        return msgspec.json.decode(text, type=tuple[Failure, ...]) if text else ()
    except msgspec.DecodeError:
        return ()  # written by somebody else


def _told_by_us(name: str) -> bool:
    return (
        name == HISTORY
        or name.startswith(_CONNECT)
        or (name.startswith("klaviyo.") and name.removeprefix("klaviyo.") in _OURS)
    )


class Marks:
    """What became of letters; those without a mark are open."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._found: dict[str, Mark] = {}

    async def load(self) -> None:
        """Read them all."""
        found = await self._state.load()
        self._found = {
            key: msgspec.json.decode(value, type=Mark) for key, value in found.items()
        }

    def of(self, one: Letter) -> Mark | None:
        """Give the mark of a letter."""
        return self._found.get(one.mark)

    def unfinished(self) -> list[str]:
        """Give the marks of those that were sent, and no more."""
        return [name for name, mark in self._found.items() if mark.fate == "sent"]

    async def put(self, names: list[str], fate: Fate, why: str = "") -> None:
        """Write down what became of these. Raises what `State.put` raises."""
        mark = Mark(fate, SYSTEM.now(), why)
        value = msgspec.json.encode(mark)
        for first in range(0, len(names), _MANY):
            part = names[first : first + _MANY]
            await asyncio.gather(*(self._state.put(each, value) for each in part))
            self._found |= dict.fromkeys(part, mark)


class OpenLetters:
    """Selects the letters that are open, can be sent, and have that reason or id."""

    def __init__(
        self,
        marks: Marks,
        seen: Callable[[Record], object],
        *,
        reason: str | None = None,
        name: str | None = None,
    ) -> None:
        """`seen` hears of those an interrupted call has sent."""
        self._marks = marks
        self._seen = seen
        self._reason = reason
        self._name = name
        self._sent: dict[Partition, list[tuple[int, str]]] = {}  # offset, mark
        self.cut = 0  # letters whose value was too large to be kept

    def wants(self, record: Record) -> bool:
        """Whether to send it again."""
        one = letter(record)
        if one is None:
            return False
        if (mark := self._marks.of(one)) is not None:
            if mark.fate == "sent":
                self._seen(record)
            return False
        if not self._is_meant(one):
            return False
        if one.truncated:
            self.cut += 1
            return False
        sent = self._sent.setdefault((record.topic, record.partition), [])
        sent.append((record.offset, one.mark))
        return True

    def _is_meant(self, one: Letter) -> bool:
        return (self._reason is None or one.reason == self._reason) and (
            self._name is None or one.id == self._name
        )

    async def settled(self, offsets: Mapping[Partition, int]) -> bool:
        """All below these offsets has ended: mark it; false if that cannot be written."""
        for partition, end in offsets.items():
            sent = self._sent.get(partition, [])
            ended = [mark for offset, mark in sent if offset < end]
            try:
                await self._marks.put(ended, "sent")
            except Unwritable:
                return False
            del sent[: len(ended)]
        return True


class Originals(Watched):
    """Plans a letter as the record it once was: a mapping goes by the topic."""

    def plan(self, record: Record) -> Plan | Skipped | Dead:
        """Plan it."""
        return super().plan(original(record))


def original(record: Record) -> Record:
    """Give the record that a letter once was; another record stays as it is."""
    one = letter(record)
    return record if one is None else one.original()
