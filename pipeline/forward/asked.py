"""What we have asked of Klaviyo about consent lately, kept where a crash does not reach.

A consent job has no id and no status, and takes effect within a minute or two. Until that
shows in the profile only we know of it: an opposite word must wait for it, and the same
word need not be said again. A note is written before its job starts, one for all profiles
of a group, and again when Klaviyo has taken it; who owns the partitions next reads it.

    <number of the note>  ->  [{"key": "e:ada@shop.dev", "subscribed": true, ...}, ...]
"""

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import structlog

from pipeline.clock import Clock
from pipeline.errors import PipelineError
from pipeline.kafka.state import State
from pipeline.observe.health import Health
from schemas.commands import Channel

__all__ = ["AGAIN", "APPLIES", "Ask", "Asked", "key"]

APPLIES: Final = 120.0  # s until a job has taken effect; seen were 15 to 40 and more
# "At most one subscribe job per profile per 30 minutes" (Klaviyo, "Profiles API
# overview").
AGAIN: Final = 1800.0  # s
MOST: Final = 100_000  # notes in memory; more in 30 minutes fall back on the profile
WAIT: Final = 2.0  # s until Kafka is asked again


class Ask(msgspec.Struct, frozen=True):
    """One word about one channel of one person; times are Unix seconds by our clock."""

    key: str
    subscribed: bool
    said: float  # the time of the customer's word
    sent: float
    group: str | None = None  # id of the list subscribed to
    taken: bool = False  # by Klaviyo; else nobody knows if it was sent at all

    def __repr__(self) -> str:  # the key is a customer's
        return f"Ask(subscribed={self.subscribed})"


_NOTE: Final = msgspec.json.Decoder(list[Ask])


def key(channel: Channel, identifier: str) -> str:
    """Name a channel of a person as `Identity.names` names the person."""
    return {"email": "e:", "sms": "p:"}[channel] + identifier


class Asked:
    """The latest word of each person and channel, as far as it is recent."""

    def __init__(self, state: State | None, health: Health, clock: Clock) -> None:
        """Without a state it lasts as long as the process."""
        self._state = state
        self._health = health
        self._clock = clock
        self._latest: OrderedDict[str, Ask] = OrderedDict()
        self._known = state is None
        self._loading = asyncio.Lock()
        self._log = structlog.get_logger("forward")

    def moved(self) -> None:
        """Partitions came from another process: its notes have to be read."""
        self._known = self._state is None

    async def ready(self) -> bool:
        """Know what others have noted; false to be asked again."""
        async with self._loading:
            while not self._known:
                self._known = True  # unless partitions move again meanwhile
                try:
                    await self._load()
                except PipelineError as error:
                    self._known = False
                    return await self._away(error)
        return True

    def latest(self, name: str) -> Ask | None:
        """Return the last word, if it is not older than `AGAIN`."""
        ask = self._latest.get(name)
        return ask if ask and self._clock.now() - ask.sent < AGAIN else None

    async def note(self, asks: Sequence[Ask]) -> str | None:
        """Note these down before they are sent; None if Kafka did not take the note."""
        number = uuid.uuid4().hex
        if asks and self._state is not None:
            try:
                await self._state.put(number, msgspec.json.encode(asks))
            except PipelineError as error:
                await self._away(error)
                return None
        self._health.back("consent notes")
        self._remember(asks)
        return number

    async def taken(self, number: str, asks: Sequence[Ask]) -> None:
        """Klaviyo took these of a note; what it did not may be asked again."""
        sure = [msgspec.structs.replace(ask, taken=True) for ask in asks]
        self._remember(sure)
        if sure and self._state is not None:
            try:
                await self._state.put(number, msgspec.json.encode(sure))
            except PipelineError as error:  # then the next process asks once more
                self._log.warning("a consent note was not kept", message=str(error))

    async def stop(self) -> None:
        """Close what writes."""
        if self._state is not None:
            await self._state.close()

    async def _away(self, error: PipelineError) -> bool:
        self._health.away("consent notes", str(error))
        await asyncio.sleep(WAIT)
        return False

    async def _load(self) -> None:
        assert self._state is not None  # noqa: S101  `ready` asks only then
        old = self._clock.now() - AGAIN
        for number, value in (await self._state.load()).items():
            try:
                noted = _NOTE.decode(value)
            except msgspec.MsgspecError:  # of another version
                noted = []
            if all(ask.sent < old for ask in noted):
                await self._state.put(number, None)
            else:
                self._remember(noted)

    def _remember(self, noted: Iterable[Ask]) -> None:
        for ask in noted:
            before = self._latest.get(ask.key)
            if before is None or before.sent <= ask.sent:
                self._latest[ask.key] = ask
                self._latest.move_to_end(ask.key)
        while len(self._latest) > MOST:
            self._latest.popitem(last=False)
