r"""What happens to a change in Klaviyo, on one page.

    poll -> compare -> publish -> view
      ^                   \-> cursor
      every reverse.interval, by Klaviyo's clock

One process polls at a time: whoever the group names. It opens its transactions, which
fences the one before it, and only then reads the cursor (`publish.open`). Whatever
interrupts it, it begins again there: each step is repeatable until its transaction is
committed, and never repeated after.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final, Protocol

import structlog

from pipeline.clock import Clock
from pipeline.kafka.producer import TooLarge
from pipeline.kafka.transactions import Away, Fenced
from pipeline.klaviyo.listing import ANY, ForeignLink, Page
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.reverse.compare import Compared, Kind, Origin, compare, gone
from pipeline.reverse.cursor import Cursor, decode
from pipeline.reverse.poll import Poller, Unlisted
from pipeline.reverse.publish import Publisher
from pipeline.settings import Reverse

__all__ = ["Flow", "Kind", "Turn"]

AGAIN: Final = 1.0  # s until it is tried again, doubled up to AGAIN_MOST
AGAIN_MOST: Final = 10.0  # s
# s between two looks for what forward sent. A page shows nothing younger than
# reverse.settle, so what forward sent before that has been seen.
FOLLOW_EVERY: Final = 2.0
STOP_BUDGET: Final = 6.0  # s for the page in hand at a stop
PROGRESS_EVERY: Final = 30.0  # s between two lines about a long catch-up


class Turn(Protocol):
    """Whose turn it is; `kafka.leader.Leader` asks the group."""

    leading: asyncio.Event


class Flow:
    """The reverse direction of one process."""

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
        self._poller = poller
        self._publisher = publisher
        self._turn = turn
        self._settings = settings
        self._health = health
        self._metrics = metrics
        self._clock = clock
        self._cursor = Cursor(0, 0, 0)
        self._sweep = 0  # Klaviyo's time when the full reading under way began; 0 none
        self._resume: str | None = None  # its next page
        self._consent_at = self._followed_at = self._said_at = float("-inf")
        self._log = structlog.get_logger("reverse")

    # -- whose turn it is ----------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; the page in hand is finished, within `STOP_BUDGET`.

        Raises `CursorLost` and `SettingsError`; all else is waited out.
        """
        work = asyncio.create_task(self._work(stop))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([work], timeout=STOP_BUDGET)
            if work.done():
                work.result()
        finally:
            for task in (work, stopping):
                task.cancel()
            await asyncio.gather(work, stopping, return_exceptions=True)
            self._health.back("reverse")

    async def _work(self, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            if not await self._ours(stop):
                continue
            try:
                await self._publisher.open()
                failures = 0
                self._health.back("reverse")
                await self._poll(stop)
            except Fenced:
                self._log.info("standby: another process has taken over")
                failures = 1
            except (Away, TooLarge) as error:
                failures += 1
                self._health.away("reverse", f"Kafka: {error}; tried again for ever")
            finally:
                await self._publisher.close()
            if failures:
                await _pause(stop, min(AGAIN_MOST, AGAIN * 2 ** (failures - 1)))

    async def _ours(self, stop: asyncio.Event) -> bool:
        """Wait until it is our turn; false now and then, so that a stop is seen."""
        if not self._turn.leading.is_set():
            await _pause(stop, AGAIN)
        return self._turn.leading.is_set()

    async def sync(self, who: str) -> Kind | None:
        """Fetch one profile, publish it if it is news, and say as what.

        By itself, without `run`: a poller elsewhere is fenced for a moment and goes on.
        Raises `Away`, `CursorLost`, `Fenced` and `Unlisted`.
        """
        try:
            await self._publisher.open()
            await self._begin()
            page = await self._poller.named([who])
            now = await self._poller.now()
            found = await self._page(page, "consent", int(now))
            if not found.seen:
                view = self._publisher.view
                found = await asyncio.to_thread(gone, view, [who], now)
            await self._publisher.publish(found, self._cursor, 0)
        finally:
            await self._publisher.close()
        return found.changes[0].kind if found.changes else None

    # -- one poll after the other --------------------------------------------------------

    async def _poll(self, stop: asyncio.Event) -> None:
        await self._begin()
        self._log.info("polling", known=await asyncio.to_thread(self._known))
        while self._going(stop):
            started = self._clock.monotonic()
            try:
                await self._cycle(stop)
            except (Unlisted, ForeignLink) as error:
                self._health.away("listing", str(error))
                self._resume = None
            else:
                self._health.back("listing")
            left = self._settings.interval - (self._clock.monotonic() - started)
            if not self._resume:
                await self._rest(stop, left)

    async def _begin(self) -> None:
        now = await self._poller.now()
        since = self._settings.since(now)
        stored, lost = self._publisher.stored, self._publisher.lost
        self._cursor = decode(stored, now, self._settings.start, since, lost=lost)
        self._sweep, self._resume = 0, None

    def _going(self, stop: asyncio.Event) -> bool:
        return not stop.is_set() and self._turn.leading.is_set()

    def _known(self) -> int:
        return self._publisher.view.count()

    async def _rest(self, stop: asyncio.Event, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        while self._going(stop) and (left := until - self._clock.monotonic()) > 0:
            await _pause(stop, min(left, AGAIN))

    async def _cycle(self, stop: asyncio.Event) -> None:
        """Read what changed, what was suppressed, and part of everything."""
        bound = int(await self._poller.now() - self._settings.settle)
        after = int(self._cursor.updated - self._settings.overlap) - 1
        pages = self._poller.updated(after, bound)
        if await self._pages(pages, "poll", bound, stop):
            self._cursor = self._cursor.advanced(updated=bound)
        if self._due():
            after = int(self._cursor.suppressed - self._settings.overlap) - 1
            pages = self._poller.suppressed(after, bound)
            if await self._pages(pages, "consent", bound, stop):
                self._cursor = self._cursor.advanced(suppressed=bound)
                self._consent_at = self._clock.monotonic()
        await self._publisher.publish(Compared(), self._cursor, self._sweep)
        if self._going(stop):
            await self._sweep_on(bound, stop)
        self._metrics.reverse_cursor.set(self._cursor.updated)
        self._metrics.reverse_last_success.set(self._clock.now())

    def _due(self) -> bool:
        waited = self._clock.monotonic() - self._consent_at
        return waited >= float(self._settings.consent_interval)

    async def _pages(
        self,
        pages: AsyncGenerator[Page, None],
        origin: Origin,
        bound: int,
        stop: asyncio.Event,
        until: float = float("inf"),
    ) -> bool:
        """Publish page by page; false if it did not come to the end."""
        try:
            async for page in pages:
                compared = await self._page(page, origin, bound)
                if origin == "poll" and compared.newest:
                    # Ties at that second may stand on the next page.
                    newest = min(int(compared.newest) - 1, bound)
                    self._cursor = self._cursor.advanced(updated=newest)
                await self._publisher.publish(compared, self._cursor, self._sweep)
                self._progress(origin)
                if origin == "sweep":
                    self._resume = page.following
                    seen = compared.seen
                    view = self._publisher.view
                    await asyncio.to_thread(view.mark, seen, self._sweep)
                if not self._going(stop):
                    return page.following is None
                if page.following and self._clock.monotonic() > until:
                    return False
        finally:
            await pages.aclose()
        return True

    async def _page(self, page: Page, origin: Origin, bound: int) -> Compared:
        every = min(FOLLOW_EVERY, self._settings.settle / 2)
        if self._clock.monotonic() - self._followed_at >= every:
            await self._publisher.follow()
            self._followed_at = self._clock.monotonic()
        return await asyncio.to_thread(
            compare,
            self._publisher.view,
            page.rows,
            origin=origin,
            bound=bound,
            since=self._cursor.since,
            polled=self._cursor.updated,
            now=await self._poller.now(),
        )

    def _progress(self, origin: Origin) -> None:
        now = self._clock.monotonic()
        if origin == "poll" and now - self._said_at >= PROGRESS_EVERY:
            if self._said_at > float("-inf"):
                self._log.info("catching up", at=self._cursor.updated)
            self._said_at = now
        self._metrics.reverse_cursor.set(self._cursor.updated)

    # -- everything, slowly --------------------------------------------------------------

    async def _sweep_on(self, bound: int, stop: asyncio.Event) -> None:
        """Read all profiles in slices of one interval; who is missing at the end is gone.

        Profiles made meanwhile are no loss: the polls see them.
        """
        now = int(await self._poller.now())
        if not self._sweep:
            if now - self._cursor.swept < self._settings.sweep_interval:
                return
            self._sweep = now
        until = self._clock.monotonic() + self._settings.interval
        pages = self._poller.all(self._resume)
        if not await self._pages(pages, "sweep", bound, stop, until):
            return
        self._resume = None
        await self._find_gone(bound, stop)
        if self._going(stop):
            self._cursor = self._cursor.advanced(swept=self._sweep)
            self._sweep = 0
            await self._publisher.publish(Compared(), self._cursor, self._sweep)

    async def _find_gone(self, bound: int, stop: asyncio.Event) -> None:
        """Ask for those the reading missed by their ids before they are called gone."""
        view = self._publisher.view
        while self._going(stop):
            ids = await asyncio.to_thread(view.unseen, self._sweep, ANY)
            if not ids:
                return
            page = await self._poller.named(ids)
            there = await self._page(page, "sweep", bound)
            missing = set(ids) - set(there.seen)
            if there.malformed:
                missing.clear()  # one of them may be there
            now = await self._poller.now()
            found = await asyncio.to_thread(gone, view, missing, now)
            await self._publisher.publish(there, self._cursor, self._sweep)
            await self._publisher.publish(found, self._cursor, self._sweep)
            await asyncio.to_thread(view.mark, set(ids) - missing, self._sweep)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
