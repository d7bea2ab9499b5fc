"""Tells the reverse direction what was written to Klaviyo, so that it is no news there.

Records of many customers each in the state topic, `<slug>/sent/<process>/<number>`: the
paths that were written, with their values in canonical form. The poller reads them before
it compares, looks at nothing younger than `reverse.settle` seconds, which is the time
they have to arrive, and deletes them when it has passed them.

Offsets wait for them (`told`), so a crash loses none: what was not told is sent, and
told, again. Only what Klaviyo took in the last milliseconds before a kill -9 comes back
as a change, if it takes longer than `reverse.settle` until it is sent again.
"""

import asyncio
import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from pipeline.kafka.format import STAMP
from pipeline.kafka.producer import Producer, TooLarge, Unwritable
from pipeline.observe.health import Health
from schemas import profile_content
from schemas.commands import Command, CreateEvent, UpsertProfile

__all__ = ["Sent"]

TOGETHER: Final = 500  # customers told of in one record, unless much was written
LARGEST: Final = 500_000  # bytes of a record; brokers take 1 MB unless told otherwise
MOST: Final = 20_000  # customers that wait to be told before nothing more is read
AGAIN: Final = 1.0  # s until a topic that could not be written is tried again
TOLD_LIMIT: Final = 3.0  # s that a commit waits
STOP_LIMIT: Final = 2.0  # s to tell the rest at a stop

# Strongest name, and whether Klaviyo takes its time over it: over all but profiles.
_Who: TypeAlias = tuple[str, bool]


class _Waiting(msgspec.Struct):
    at: int  # of the latest, Unix seconds as Klaviyo counts them in `updated`
    commands: list[Command]


class Sent:
    """Takes note at once and writes in the background, what came together together."""

    def __init__(
        self,
        producer: Producer,
        topic: str,
        slug: str,
        now: Callable[[], float],
        health: Health,
    ) -> None:
        """`now` is Klaviyo's clock, in Unix seconds: it is compared with `updated`."""
        self._producer = producer
        self._topic = topic
        self._prefix = f"{slug}/sent/{uuid.uuid4().hex[:12]}/"
        self._number = 0
        self._now = now
        self._latest = 0
        self._health = health
        # Two writes of one customer become one, the later value of a path.
        self._waiting: dict[_Who, _Waiting] = {}
        self._news = asyncio.Event()
        # First in, first out: so many have come to wait, and so many are told.
        self._come = self._gone = 0
        self._asking: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def full(self) -> bool:
        """Whether it is better to accept nothing more for a while."""
        return len(self._waiting) > MOST

    def note(self, commands: Sequence[Command]) -> None:
        """Klaviyo accepted them; all are of one kind and of one customer."""
        who = commands[0].identity.names()[0], not isinstance(commands[0], UpsertProfile)
        held = self._waiting.get(who)
        if held is None:
            held = self._waiting[who] = _Waiting(0, [])
            self._come += 1
        # Answers may come in another order than they were given.
        self._latest = held.at = max(self._latest, int(self._now()))
        held.commands += commands
        self._news.set()

    async def told(self) -> bool:
        """Whether all noted by now is on the topic; it waits a moment for it."""
        if self._gone == self._come:
            return True
        asking = asyncio.get_running_loop().create_future()
        self._asking.append((self._come, asking))
        try:
            async with asyncio.timeout(TOLD_LIMIT):
                await asking
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Write until cancelled; then what waits is written, in `STOP_LIMIT` s."""
        try:
            while True:
                await self._news.wait()
                await self._write()
        finally:
            async with asyncio.timeout(STOP_LIMIT):
                await self._write()

    async def _write(self) -> None:
        while self._waiting:
            taken = dict(itertools.islice(self._waiting.items(), TOGETHER))
            for who in taken:
                del self._waiting[who]
            try:
                for late in (False, True):
                    people = {w[0]: each for w, each in taken.items() if w[1] == late}
                    for value in _values(people, late=late):
                        await self._send(value)
            except BaseException:  # cancelled too: what was taken waits again
                for who, newer in self._waiting.items():
                    if (older := taken.get(who)) is not None:
                        newer.commands = older.commands + newer.commands
                        self._gone += 1  # two have become one
                self._waiting = {**taken, **self._waiting}
                raise
            self._gone += len(taken)
            for come, asking in self._asking:
                if come <= self._gone and not asking.done():
                    asking.set_result(None)
            self._asking = [each for each in self._asking if not each[1].done()]
        self._news.clear()

    async def _send(self, value: bytes) -> None:
        self._number += 1
        key = f"{self._prefix}{self._number}".encode()
        while True:
            try:
                await self._producer.send(self._topic, key, value, STAMP)
            except Unwritable as error:
                self._health.away("state topic", str(error))
                await asyncio.sleep(AGAIN)
            except TooLarge:
                return  # it comes back as a change: no harm
            else:
                self._health.back("state topic")
                return


def _values(people: Mapping[str, _Waiting], *, late: bool) -> Iterator[bytes]:
    """Encode what was written to these, in as many records as it takes."""
    rows: list[bytes] = []
    size = 0
    for name, waiting in people.items():
        if not (content := _content(waiting.commands)):
            continue
        row = msgspec.json.encode((name, waiting.at, content))
        if rows and size + len(row) > LARGEST:
            yield _value(rows, late=late)
            rows, size = [], 0
        rows.append(row)
        size += len(row) + 1
    if rows:
        yield _value(rows, late=late)


def _value(rows: list[bytes], *, late: bool) -> bytes:
    kind = b"true" if late else b"false"
    return b'{"late":%b,"people":[%b]}' % (kind, b",".join(rows))


def _content(commands: list[Command]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    before: Command | None = None
    for command in commands:
        # The events of one order name the same customer in the same words.
        if (
            isinstance(command, CreateEvent)
            and isinstance(before, CreateEvent)
            and command.identity == before.identity
            and command.profile == before.profile
        ):
            continue
        content |= profile_content.sent(command)
        before = command
    return content
