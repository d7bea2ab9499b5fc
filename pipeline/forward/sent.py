"""Tells the reverse direction what was written to Klaviyo, so that it is no news there.

One record per customer and set of fields in the state topic,
`<slug>/sent/<set>/<strongest identifier>`: the paths that were written, with their values
in canonical form. With the set in the key, compaction takes no path that a later write
did not name. The poller reads them before it compares, and looks at nothing younger than
`reverse.settle` seconds, which is the time they have to arrive.

Offsets wait for them (`told`), so a crash loses none: what was not told is sent, and
told, again.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from pipeline.kafka.producer import Producer, TooLarge, Unwritable
from pipeline.observe.health import Health
from schemas import profile_update
from schemas.commands import Command, CreateEvent, UpsertProfile

__all__ = ["Sent"]

TOGETHER: Final = 500  # records written side by side
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
        self._prefix = f"{slug}/sent/"
        self._now = now
        self._health = health
        # Two writes of one customer become one record, the later value of a path.
        self._waiting: dict[_Who, _Waiting] = {}
        self._news = asyncio.Event()
        self._all_told = asyncio.Event()
        self._all_told.set()
        self._writing: asyncio.Task[None] | None = None

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
        held.at = int(self._now())
        held.commands += commands
        self._news.set()
        self._all_told.clear()

    async def told(self) -> bool:
        """Whether all that was noted is on the topic; it waits a moment for it."""
        try:
            async with asyncio.timeout(TOLD_LIMIT):
                await self._all_told.wait()
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
            taken = dict(list(self._waiting.items())[:TOGETHER])
            for who in taken:
                del self._waiting[who]
            try:
                await asyncio.gather(*(self._one(*each) for each in taken.items()))
            except BaseException:
                for who, newer in self._waiting.items():
                    if (older := taken.get(who)) is not None:
                        newer.commands = older.commands + newer.commands
                self._waiting = {**taken, **self._waiting}
                raise
        self._news.clear()
        self._all_told.set()

    async def _one(self, who: _Who, waiting: _Waiting) -> None:
        name, late = who
        if not (content := _content(waiting.commands)):
            return
        value = msgspec.json.encode({"at": waiting.at, "content": content, "late": late})
        key = (self._prefix + f"{_paths(content, late=late)}/{name}").encode()
        while True:
            try:
                await self._producer.send(self._topic, key, value, ())
            except Unwritable as error:
                self._health.away("state topic", str(error))
                await asyncio.sleep(AGAIN)
            except TooLarge:
                return  # it comes back as a change: no harm
            else:
                self._health.back("state topic")
                return


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
        content |= profile_update.sent(command)
        before = command
    return content


def _paths(content: dict[str, Any], *, late: bool) -> str:
    text = "\n".join((str(late), *sorted(content)))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
