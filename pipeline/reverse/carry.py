"""Carries pages from Klaviyo to Kafka: compare, publish, remember; for polls and sweeps.

Knows how far both have come, and gives a sign of life at each step. What waits for
Klaviyo may wait for ever, visibly; all else here ends by itself.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from typing import Final, Protocol, TypeVar

import structlog

from pipeline.clock import Clock
from pipeline.klaviyo.listing import Page
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.reverse.compare import Compared, Origin, compare
from pipeline.reverse.cursor import Cursor, stamp
from pipeline.reverse.poll import Poller
from pipeline.reverse.publish import Publisher
from pipeline.settings import Reverse

__all__ = ["Carry", "Turn"]

# s between two looks for what forward sent. A page shows nothing younger than
# reverse.settle, so what forward sent before that has been seen.
FOLLOW_EVERY: Final = 2.0
BEAT_EVERY: Final = 10.0  # s between two signs of life while Klaviyo is waited for
PROGRESS_EVERY: Final = 30.0  # s between two lines about a long catch-up

_Answer = TypeVar("_Answer")


class Turn(Protocol):
    """Whose turn it is; `kafka.leader.Leader` asks the group."""

    leading: asyncio.Event


class Carry:
    """One page after the other, while it is our turn."""

    def __init__(
        self,
        *,
        poller: Poller,
        publisher: Publisher,
        turn: Turn,
        settings: Reverse,
        health: Health,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.poller = poller
        self.publisher = publisher
        self.turn = turn
        self.view = publisher.view
        self.cursor = Cursor(0, 0, 0)
        self.sweep = 0  # Klaviyo's time when the full reading under way began; 0 none
        self._settings = settings
        self._health = health
        self._metrics = metrics
        self._clock = clock
        self._followed_at = self._said_at = float("-inf")
        self._log = structlog.get_logger("reverse")

    def going(self, stop: asyncio.Event) -> bool:
        """Whether it is still our turn."""
        return not stop.is_set() and self.turn.leading.is_set()

    def turned(self) -> None:
        """Give a sign of life."""
        self._health.beat("reverse")

    async def klaviyo(self, asking: Awaitable[_Answer]) -> _Answer:
        """Wait for Klaviyo, however long: the session waits it out, and says so."""
        task = asyncio.ensure_future(asking)
        try:
            while not task.done():
                self.turned()
                await asyncio.wait([task], timeout=BEAT_EVERY)
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def pages(
        self,
        pages: AsyncGenerator[Page, None],
        origin: Origin,
        bound: int,
        stop: asyncio.Event,
    ) -> AsyncGenerator[tuple[Page, Compared], None]:
        """Publish page by page and give each; ends early when our turn does."""
        self._said_at = self._clock.monotonic()
        try:
            while (page := await self.klaviyo(anext(pages, None))) is not None:
                compared = await self.page(page, origin, bound)
                if origin == "poll" and compared.newest:
                    # Ties at that second may stand on the next page.
                    newest = min(int(compared.newest) - 1, bound)
                    self.cursor = self.cursor.advanced(updated=newest)
                await self.publish(compared)
                self._progress(origin, page)
                yield page, compared
                if not self.going(stop):
                    return
        finally:
            await pages.aclose()

    async def page(
        self, page: Page, origin: Origin, bound: int, *, asked: bool = False
    ) -> Compared:
        """Compare a page with what is known, after a look at what forward sent."""
        every = min(FOLLOW_EVERY, self._settings.settle / 2)
        if self._clock.monotonic() - self._followed_at >= every:
            await self.publisher.follow()
            self._followed_at = self._clock.monotonic()
        return await asyncio.to_thread(
            compare,
            self.view,
            page.rows,
            origin=origin,
            bound=bound,
            since=self.cursor.since,
            polled=self.cursor.updated,
            now=await self.poller.now(),
            asked=asked,
        )

    async def publish(self, compared: Compared) -> None:
        """Publish it, and the cursor as it is now. Raises as `Publisher.publish`."""
        await self.publisher.publish(compared, self.cursor, self.sweep)

    def succeeded(self) -> None:
        """Say how far we are."""
        self._metrics.reverse_cursor.set(self.cursor.updated)
        self._metrics.reverse_last_success.set(self._clock.now())

    def _progress(self, origin: Origin, page: Page) -> None:
        now, more = self._clock.monotonic(), page.following is not None
        # A last page that took long is not behind: Klaviyo was waited for.
        if origin == "poll" and more and now - self._said_at >= PROGRESS_EVERY:
            self._log.info("catching up", at=stamp(self.cursor.updated))
            self._said_at = now
        self.succeeded()
