"""Pages of profiles from Klaviyo, the next one fetched while the last is published.

Three ways in, because no one of them sees everything (Klaviyo, GET
/api/profiles):

    updated  by `updated`, ascending, only greater-than and less-than, one-second grain
    consent  by the time of a suppression: unsubscribing does not move `updated`
    all      everybody, by id: deleted and merged profiles just vanish

All bounds are by Klaviyo's own clock, the Date of its answers. A profile that changes
while the pages are read moves behind the upper bound and is read by the next poll.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Collection
from typing import Final

from pipeline.clock import Clock
from pipeline.errors import PipelineError
from pipeline.klaviyo import listing
from pipeline.klaviyo.call import Refused
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.listing import Page
from pipeline.klaviyo.wire import TooMuch
from pipeline.reverse.cursor import stamp

__all__ = ["SUPPRESSIONS", "Poller", "Unlisted"]

_MARKETING: Final = "subscriptions.email.marketing"
# Of the account, and of single lists.
SUPPRESSIONS: Final = (
    f"{_MARKETING}.suppression.timestamp",
    f"{_MARKETING}.list_suppressions.timestamp",
)
STEADY: Final = 120.0  # s that a clock must stand ahead to be believed
_PAST: Final = 4  # s; a lower bound nearer to now than a few seconds is refused


class Unlisted(PipelineError):
    """Klaviyo refuses the listing; it is begun anew at the next poll."""


class Poller:
    """Asks and keeps nothing."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._dates: deque[tuple[float, float]] = deque()  # when, Klaviyo ahead of that

    async def now(self) -> float:
        """Klaviyo's clock, Unix seconds; never ahead of it.

        A Date that jumps ahead of those before it counts only when it stays.
        """
        if self._client.now() is None and not self._dates:
            await self._fitting(listing.query(), 1)
        told = self._client.now()
        now = self._clock.now() if told is None else told  # its answers carry no Date
        at = self._clock.monotonic()
        while self._dates and self._dates[0][0] < at - STEADY:
            self._dates.popleft()
        if not self._dates or self._dates[-1][1] != now - at:
            self._dates.append((at, now - at))
        return at + min(ahead for _, ahead in self._dates)

    def updated(self, after: int, until: int) -> AsyncGenerator[Page, None]:
        """Profiles with after < updated <= until, ascending; close it when done."""
        after = max(0, min(after, until - _PAST))
        conditions = [f"greater-than(updated,{stamp(after)})"]
        conditions.append(f"less-than(updated,{stamp(until + 1)})")
        return self._chain(listing.query(*conditions, sort="updated"))

    def suppressed(
        self, field: str, after: int, until: int
    ) -> AsyncGenerator[Page, None]:
        """Profiles suppressed since, by one of `SUPPRESSIONS`; it takes no sort."""
        after = max(0, min(after, until - _PAST))
        return self._chain(listing.query(f"greater-than({field},{stamp(after)})"))

    def all(self, start: str | None) -> AsyncGenerator[Page, None]:
        """Everybody by id, or what follows `start`, a page's `following`."""
        return self._chain(start or listing.query(sort="id"))

    def named(self, ids: Collection[str]) -> AsyncGenerator[Page, None]:
        """These profiles, `listing.ANY` at most; those that are gone are missing."""
        return self._chain(listing.query(listing.ids(ids)))

    async def _chain(self, path: str) -> AsyncGenerator[Page, None]:
        ahead = asyncio.create_task(self._fitting(path, listing.PAGE))
        try:
            while True:
                page, size = await ahead
                if page.following is None:
                    yield page
                    return
                # Large profiles stand together: it grows again step by step.
                size = min(2 * size, listing.PAGE)
                ahead = asyncio.create_task(self._fitting(page.following, size))
                yield page
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    async def _fitting(self, path: str, size: int) -> tuple[Page, int]:
        """Ask for as many rows as an answer can hold; says how many these were."""
        while True:
            try:
                return await self._get(listing.sized(path, size)), size
            except TooMuch:
                if size == 1:
                    raise Unlisted(
                        "a single profile of Klaviyo's is larger than an answer may be; "
                        "take properties off it. What comes after it waits"
                    ) from None
                size = (size + 1) // 2

    async def _get(self, path: str) -> Page:
        page = await self._client.profiles(path)
        if isinstance(page, Refused):
            said = "; ".join(fault.safe for fault in page.faults) or "no reason given"
            raise Unlisted(
                f"Klaviyo refuses to list profiles ({page.status}: {said}); it is tried "
                "again from the last position"
            )
        return page
