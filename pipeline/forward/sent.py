"""Tells the reverse direction what was written to Klaviyo, so that it is no news there.

One record per customer in the state topic, `<slug>/sent/<strongest identifier>`: the
paths that were written, with their values in canonical form. The poller reads them before
it compares; it looks at nothing younger than `reverse.settle` seconds, which is the time
they have to arrive. A write whose record was lost in a crash is sent, and told, again.
"""

import asyncio
from typing import Any, Final

import msgspec

from pipeline.clock import Clock
from pipeline.kafka.producer import Producer, TooLarge, Unwritable
from schemas import profile_update
from schemas.commands import Command

__all__ = ["Sent"]

TOGETHER: Final = 500  # records written side by side
AGAIN: Final = 1.0  # s until a topic that could not be written is tried again
STOP_LIMIT: Final = 2.0  # s to tell the rest at a stop


class Sent:
    """Takes note at once and writes in the background, what came together together."""

    def __init__(self, producer: Producer, topic: str, slug: str, clock: Clock) -> None:
        self._producer = producer
        self._topic = topic
        self._prefix = f"{slug}/sent/"
        self._clock = clock
        # What waits to be written; bounded as what is in flight is. Two writes of one
        # customer become one record, the later value of a path.
        self._waiting: dict[str, dict[str, Any]] = {}
        self._news = asyncio.Event()

    def note(self, command: Command) -> None:
        """Klaviyo accepted it."""
        if not (content := profile_update.sent(command)):
            return
        (name, *_) = command.identity.names()
        self._waiting.setdefault(name, {}).update(content)
        self._news.set()

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
            names = list(self._waiting)[:TOGETHER]
            taken = {name: self._waiting.pop(name) for name in names}
            try:
                await asyncio.gather(*(self._one(*each) for each in taken.items()))
            except BaseException:
                self._waiting = {
                    name: {**taken.get(name, {}), **self._waiting.get(name, {})}
                    for name in {**taken, **self._waiting}
                }
                raise
        self._news.clear()

    async def _one(self, name: str, content: dict[str, Any]) -> None:
        value = msgspec.json.encode({"at": self._clock.now(), "content": content})
        key = (self._prefix + name).encode()
        while True:
            try:
                await self._producer.send(self._topic, key, value, ())
            except Unwritable:
                await asyncio.sleep(AGAIN)
            except TooLarge:
                return  # it comes back as a change: no harm
            else:
                return
