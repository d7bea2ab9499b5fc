"""One replay of dead letters at a time: two would each write a new letter for one record.

As with the tokens (`pipeline.klaviyo.tokens`), a call writes a claim of its own, reads it
back, and goes on if no other stands then: two at the same time may both give way, never
both go on, since each reads after it has written. A claim is renewed as long as its call
lives; one that has not changed for `LIFE` s, by the clock of who waits, is of a call that
died. Nobody's clock is compared with another's.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from pipeline.clock import Clock
from pipeline.errors import PipelineError
from pipeline.klaviyo.tokens import Store
from pipeline.observe.health import Health

__all__ = ["LIFE", "Turn"]

LIFE: Final = 15.0  # s without a sign after which a claim's call counts as dead
_BEAT: Final = 2.0  # s between two signs
_AGAIN: Final = 1.0  # s between two looks, and up to so much more
_WHO: Final = "another dead-letters replay"


class Turn:
    """Whose turn it is; the state topic says."""

    def __init__(
        self, state: Store, health: Health, clock: Clock, chance: Callable[[], float]
    ) -> None:
        """`state` holds claims alone; `health` names who is waited for.

        `chance` gives 0 to 1: how much later than `_AGAIN` to look.
        """
        self._state = state
        self._health = health
        self._clock = clock
        self._chance = chance
        self._name = uuid.uuid4().hex
        self._claims = False  # whether ours may stand there
        self._sights: dict[str, tuple[bytes, float]] = {}  # last sign, first seen when

    async def wait(self) -> None:
        """Return when it is ours; what waits is seen in `health`.

        Raises what `state` raises. Cancelled or failed, it leaves no claim behind.
        """
        try:
            while not await self._claimed():
                self._health.away(
                    "dead letters", f"{_WHO} runs; this one begins when it has ended"
                )
                await asyncio.sleep(_AGAIN + self._chance())
        except BaseException:
            await self.give_back()
            raise
        finally:
            self._health.back("dead letters")

    @asynccontextmanager
    async def kept(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Show for the length of the block that we live; then it is the next one's.

        Sets `stop` when we were suspended for so long that another may have gone on.
        """
        beating = asyncio.create_task(self._beat(stop))
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.wait({beating})
            await self.give_back()

    async def give_back(self) -> None:
        """Let the next one go on at once; if it cannot be written, after `LIFE` s."""
        if self._claims:
            with suppress(PipelineError):
                await self._state.put(self._name, None)
            self._claims = False

    async def _claimed(self) -> bool:
        begun = self._clock.monotonic()
        found = await self._state.load()
        if self._clock.monotonic() - begun > _BEAT:
            self._sights.clear()  # Kafka was slow: their signs could not come either
        if self._others(found):
            return False
        self._claims = True
        await self._state.put(self._name, b"0")
        # An open transaction in the topic may hide it for a while; then all that was
        # written before it is there too.
        while self._name not in (found := await self._state.load()):  # noqa: ASYNC110  no event
            await asyncio.sleep(_AGAIN)
        if self._others(found):
            await self.give_back()
            return False
        for name in found.keys() - {self._name}:  # of calls that died
            await self._state.put(name, None)
        return True

    def _others(self, found: dict[str, bytes]) -> bool:
        """Whether a claim of a call that lives is there."""
        now = self._clock.monotonic()
        seen = self._sights
        self._sights = {  # of what is there now: a claim taken back may come again
            name: seen[name] if name in seen and seen[name][0] == sign else (sign, now)
            for name, sign in found.items()
        }
        return any(
            now - self._sights[name][1] < LIFE for name in found if name != self._name
        )

    async def _beat(self, stop: asyncio.Event) -> None:
        count = 0
        while True:
            before = self._clock.monotonic()
            await asyncio.sleep(_BEAT)
            if self._clock.monotonic() - before > LIFE / 2:
                stop.set()
                return
            count += 1
            with suppress(PipelineError):  # Kafka is away: the flow waits for it too
                await self._state.put(self._name, b"%d" % count)
