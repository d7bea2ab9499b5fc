r"""What happens to a change in Klaviyo, on one page.

    poll, sweep -> carry: compare -> publish -> view
      ^                                 \-> cursor
      every reverse.interval, by Klaviyo's clock

One process polls at a time: whoever the group names. It opens its transactions, which
fences the one before it, and only then reads the cursor (`publish.open`). Whatever
interrupts it, it begins again there: each step is repeatable until its transaction is
committed, and never repeated after.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import structlog

from pipeline.clock import Clock
from pipeline.errors import KafkaUnreachable, PipelineError
from pipeline.kafka.producer import TooLarge
from pipeline.kafka.transactions import Away, Fenced
from pipeline.klaviyo.listing import ForeignLink, Page
from pipeline.observe.health import Health
from pipeline.reverse.carry import Carry
from pipeline.reverse.compare import (
    LATE,
    SKEW,
    Compared,
    Kind,
    Origin,
    gone,
)
from pipeline.reverse.cursor import decode
from pipeline.reverse.poll import SUPPRESSIONS, Unlisted
from pipeline.reverse.sweep import Sweep
from pipeline.settings import Reverse

__all__ = ["Flow", "Kind", "Overtaken", "Unknown"]

AGAIN: Final = 1.0  # s until it is tried again, doubled up to AGAIN_MOST
AGAIN_MOST: Final = 10.0  # s
TOGETHER: Final = 5000  # records of what forward sent that are deleted at a time
STOP_BUDGET: Final = 6.0  # s for the page in hand at a stop


class Unknown(PipelineError):
    """There is no profile of that id, and none is known that is gone."""


class Overtaken(PipelineError):
    """Another process published meanwhile; the next call may be in time."""


class Flow:
    """The reverse direction of one process."""

    def __init__(
        self, carry: Carry, settings: Reverse, health: Health, clock: Clock
    ) -> None:
        self._carry = carry
        self._poller = carry.poller
        self._publisher = carry.publisher
        self._turn = carry.turn
        self._settings = settings
        self._health = health
        self._clock = clock
        self._sweep = Sweep(carry, settings, health, clock)
        self._consent_at = float("-inf")
        self._log = structlog.get_logger("reverse")

    # -- whose turn it is ----------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; the page in hand is finished, within `STOP_BUDGET`.

        Raises `CursorLost`, `SettingsError` and `ViewUnwritable`; all else is waited
        out.
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
            self._health.ended("reverse")

    async def _work(self, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            if not await self._ours(stop):
                continue
            try:
                await self._publisher.open(self._carry.turned)
                failures = 0
                self._health.back("reverse")
                await self._poll(stop)
            except Fenced:
                self._log.info("standby: another process has taken over")
                failures = 1
            except (Away, TooLarge) as error:
                failures += 1
                self._health.away("reverse", f"Kafka: {error}; tried again for ever")
            except (Unlisted, ForeignLink) as error:
                failures += 1
                self._health.away("listing", str(error))
            finally:
                await self._publisher.close()
            if failures:
                await _pause(stop, min(AGAIN_MOST, AGAIN * 2 ** (failures - 1)))

    async def _ours(self, stop: asyncio.Event) -> bool:
        """Wait until it is our turn; false now and then, so that a stop is seen."""
        self._carry.turned()
        if not self._turn.leading.is_set():
            await _pause(stop, AGAIN)
        return self._turn.leading.is_set()

    async def sync(self, who: str) -> Kind | None:
        """Fetch one profile and publish it; say as what, None if nothing had changed.

        Then it is an update without a changed path: whoever lost it has it again.

        By itself, without `run`: a poller elsewhere is fenced for a moment and goes on.
        Raises `CursorLost`, `KafkaUnreachable`, `Overtaken`, `Unlisted`, `Unknown` and
        `ViewUnwritable`.
        """
        try:
            await self._publisher.open(self._carry.turned)
            await self._begin()
            now = await self._poller.now()
            found = Compared()
            async for page in self._poller.named([who]):
                bound = int(now + SKEW)
                found = await self._carry.page(page, "consent", bound, asked=True)
            if found.malformed:
                raise Unlisted(f"Klaviyo's profile {who} is in no form that can be read.")
            if not found.seen:
                view = self._publisher.view
                found = await asyncio.to_thread(gone, view, [who], now)
                if not found.changes:
                    raise Unknown(
                        f"Klaviyo has no profile {who}, and there is nothing to publish "
                        "about it. Check the id: it is Klaviyo's own (01...); for the "
                        "shop's use klaviyo-pipeline sync customer ID."
                    )
            await self._carry.publish(found)
        except Away as error:
            raise KafkaUnreachable(
                f"Kafka: {error}. Check the health of the cluster, then call again: no "
                "change is published twice."
            ) from None
        except Fenced:
            raise Overtaken(
                "A service that runs came in between, and nothing was published. Call "
                "again."
            ) from None
        finally:
            await self._publisher.close()
        return None if found.again else found.changes[0].kind

    # -- one poll after the other --------------------------------------------------------

    async def _poll(self, stop: asyncio.Event) -> None:
        await self._begin()
        known = await asyncio.to_thread(self._publisher.view.count)
        self._log.info("polling", known=known)
        while self._carry.going(stop):
            started = self._clock.monotonic()
            try:
                await self._cycle(stop)
            except (Unlisted, ForeignLink) as error:
                self._health.away("listing", str(error))
                self._sweep.begin_anew()
            else:
                self._health.back("listing")
            left = self._settings.interval - (self._clock.monotonic() - started)
            if not self._sweep.under_way:
                await self._rest(stop, left)

    async def _begin(self) -> None:
        now = await self._carry.klaviyo(self._poller.now())
        since = self._settings.since(now)
        stored, lost = self._publisher.stored, self._publisher.lost
        self._carry.cursor = decode(stored, now, self._settings.start, since, lost=lost)
        self._carry.sweep = 0
        self._sweep.begin_anew()
        if stored is None:
            # Before the first message: where these are without it, the state was lost.
            await self._carry.publish(Compared())

    async def _rest(self, stop: asyncio.Event, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        while self._carry.going(stop) and (left := until - self._clock.monotonic()) > 0:
            self._carry.turned()
            await _pause(stop, min(left, AGAIN))

    async def _cycle(self, stop: asyncio.Event) -> None:
        """Read what changed, what was suppressed, and part of everything."""
        carry = self._carry
        now = await carry.klaviyo(self._poller.now())
        bound = int(now - self._settings.settle)
        after = self._after(carry.cursor.updated, bound)
        if await self._all(self._poller.updated(after, bound), "poll", bound, stop):
            carry.cursor = carry.cursor.advanced(updated=bound)
        if self._due():
            await self._consent(bound, stop)
        # All that it told of has been seen by now, or was never done.
        passed = carry.cursor.updated - LATE
        told = await asyncio.to_thread(carry.view.told_before, passed, TOGETHER)
        await carry.publish(Compared(forgotten=told))
        if carry.going(stop):
            await self._sweep.slice(bound, stop)
        carry.succeeded()

    async def _consent(self, bound: int, stop: asyncio.Event) -> None:
        carry = self._carry
        after = self._after(carry.cursor.suppressed, bound)
        for field in SUPPRESSIONS:
            pages = self._poller.suppressed(field, after, bound)
            if not await self._all(pages, "consent", bound, stop):
                return
        carry.cursor = carry.cursor.advanced(suppressed=bound)
        self._consent_at = self._clock.monotonic()

    async def _all(
        self,
        pages: AsyncGenerator[Page, None],
        origin: Origin,
        bound: int,
        stop: asyncio.Event,
    ) -> bool:
        """Carry all of these pages; whether it came to the end."""
        ended = False
        async for page, _ in self._carry.pages(pages, origin, bound, stop):
            ended = page.following is None
        return ended

    def _after(self, at: int, bound: int) -> int:
        """Look back from the cursor; from now if Klaviyo's clock has gone back."""
        return int(min(at, bound) - self._settings.overlap) - 1

    def _due(self) -> bool:
        waited = self._clock.monotonic() - self._consent_at
        return waited >= float(self._settings.consent_interval)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
