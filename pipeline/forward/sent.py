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
from typing import Final, TypeAlias

import msgspec
from msgspec import UNSET, Raw

from pipeline.kafka.format import STAMP
from pipeline.kafka.producer import Producer, TooLarge, Unwritable
from pipeline.observe.health import Health
from schemas import profile_content
from schemas.commands import Command, CreateEvent, UpsertProfile
from schemas.profile_content import Content

__all__ = ["Sent"]

TOGETHER: Final = 500  # customers told of in one record, unless much was written
LARGEST: Final = 500_000  # bytes of a record; brokers take 1 MB unless told otherwise
# What may wait to be told before nothing more is read: in an outage of the topic alone
# Klaviyo goes on taking.
MOST: Final = 20_000  # customers
HELD: Final = 32 * 2**20  # bytes, as `_weight` counts them
CUSTOMER: Final = 1200  # bytes of one that waits, beside what was written to it
FIELD: Final = 56  # and of each path, beside twice its JSON
AGAIN: Final = 1.0  # s until a topic that could not be written is tried again
TOLD_LIMIT: Final = 3.0  # s that a commit waits
STOP_LIMIT: Final = 2.0  # s to tell the rest at a stop
NOTHING: Final = Raw(b"{}")

# Strongest name, and whether Klaviyo takes its time over it: over all but profiles.
_Who: TypeAlias = tuple[str, bool]


class _Waiting(msgspec.Struct):
    at: int  # of the latest, Unix seconds as Klaviyo counts them in `updated`
    content: Content = {}  # of all but the latest
    latest: Command | None = None
    size: int = 0  # bytes it is accounted with

    def take(self, command: Command) -> None:
        """One more was written, later than the others."""
        self.content = self.told()
        self.latest = command
        self.size = CUSTOMER + _weight(command)
        if self.content:
            self.size += _content_weight(self.content)

    def told(self) -> Content:
        """What all of them made true, the later value of a path."""
        if self.latest is None:
            return self.content
        return self.content | profile_content.sent(self.latest)


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
        self._bytes = 0  # accounted for these, and for those that are being written
        self._news = asyncio.Event()
        # First in, first out: so many have come to wait, and so many are told.
        self._come = self._gone = 0
        self._asking: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def full(self) -> bool:
        """Whether it is better to accept nothing more for a while."""
        return len(self._waiting) > MOST or self._bytes > HELD

    def note(self, commands: Sequence[Command]) -> None:
        """Klaviyo accepted them: one of any kind, or events of one profile."""
        command = commands[0]
        who = command.identity.names()[0], not isinstance(command, UpsertProfile)
        held = self._waiting.get(who)
        if held is None:
            held = self._waiting[who] = _Waiting(0)
            self._come += 1
        # Answers may come in another order than they were given.
        self._latest = held.at = max(self._latest, int(self._now()))
        self._news.set()
        if _repeats(command, held.latest):
            return
        if isinstance(command, CreateEvent):  # its properties are most of it
            command = CreateEvent(
                command.identity, "", "", UNSET, NOTHING, command.profile
            )
        self._bytes -= held.size
        held.take(command)
        self._bytes += held.size

    async def told(self) -> bool:
        """Whether all noted by now is on the topic; it waits a moment for it."""
        if self._gone == self._come:
            return True
        told = asyncio.get_running_loop().create_future()
        asking = self._come, told
        self._asking.append(asking)
        try:
            async with asyncio.timeout(TOLD_LIMIT):
                await told
        except TimeoutError:
            return False
        finally:
            self._asking.remove(asking)
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
                        newer.content = older.told() | newer.content
                        newer.size += older.size
                        self._gone += 1  # two have become one
                self._waiting = {**taken, **self._waiting}
                raise
            self._gone += len(taken)
            self._bytes -= sum(each.size for each in taken.values())
            for come, asking in self._asking:
                if come <= self._gone and not asking.done():
                    asking.set_result(None)
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
        if not (content := waiting.told()):
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


def _repeats(command: Command, latest: Command | None) -> bool:
    """Whether nothing new is told: it was told of, or names the customer as before."""
    return command is latest or (
        isinstance(command, CreateEvent)
        and isinstance(latest, CreateEvent)
        and command.identity == latest.identity
        and command.profile == latest.profile
    )


def _weight(command: Command) -> int:
    match command:
        case CreateEvent():
            return _content_weight(command.profile)
        case UpsertProfile():
            weight = _content_weight(command.attributes)
            return weight + _content_weight(command.properties)
        case _:
            return 0


def _content_weight(content: Mapping[str, object]) -> int:
    if not content:
        return 0
    return FIELD * len(content) + 2 * len(msgspec.json.encode(content))
