"""Pages of profiles from Klaviyo, the next one fetched while the last is published.

Three ways in, because no one of them sees everything (Klaviyo's listing, facts of
GET /api/profiles):

    updated  by `updated`, ascending, only greater-than and less-than, one-second grain
    consent  by the time of a suppression: unsubscribing does not move `updated`
    all      everybody, by id: deleted and merged profiles just vanish

All bounds are by Klaviyo's own clock, the Date of its answers. A profile that changes
while the pages are read moves behind the upper bound and is read by the next poll.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection
from typing import Final

from pipeline.clock import Clock
from pipeline.errors import PipelineError
from pipeline.klaviyo import listing
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.listing import Page
from pipeline.klaviyo.session import Refused
from pipeline.reverse.cursor import stamp

__all__ = ["Poller", "Unlisted"]

_SUPPRESSED: Final = "subscriptions.email.marketing.suppression.timestamp"
_PAST: Final = 4  # s; a lower bound nearer to now than a few seconds is refused


class Unlisted(PipelineError):
    """Klaviyo refuses the listing; it is begun anew at the next poll."""


class Poller:
    """Asks and keeps nothing."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def now(self) -> float:
        """Klaviyo's clock, Unix seconds; never ahead of it."""
        if (now := self._client.now()) is None:
            await self._get(listing.query(size=1))
            now = self._client.now()
        return self._clock.now() if now is None else now  # its answers carry no Date

    def updated(self, after: int, until: int) -> AsyncGenerator[Page, None]:
        """Profiles with after < updated <= until, ascending; close it when done."""
        after = max(0, min(after, until - _PAST))
        conditions = [f"greater-than(updated,{stamp(after)})"]
        conditions.append(f"less-than(updated,{stamp(until + 1)})")
        return self._chain(listing.query(*conditions, sort="updated"))

    def suppressed(self, after: int, until: int) -> AsyncGenerator[Page, None]:
        """Profiles with a suppression after `after`; the filter takes no sort."""
        after = max(0, min(after, until - _PAST))
        return self._chain(listing.query(f"greater-than({_SUPPRESSED},{stamp(after)})"))

    def all(self, start: str | None) -> AsyncGenerator[Page, None]:
        """Everybody by id, or what follows `start`, a page's `following`."""
        return self._chain(start or listing.query(sort="id"))

    async def named(self, ids: Collection[str]) -> Page:
        """These profiles, `listing.ANY` at most; those that are gone are missing."""
        return await self._get(listing.query(listing.ids(ids)))

    async def _chain(self, path: str) -> AsyncGenerator[Page, None]:
        ahead = asyncio.create_task(self._get(path))
        try:
            while True:
                page = await ahead
                if page.following is None:
                    yield page
                    return
                ahead = asyncio.create_task(self._get(page.following))
                yield page
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    async def _get(self, path: str) -> Page:
        page = await self._client.profiles(path)
        if isinstance(page, Refused):
            said = "; ".join(fault.safe for fault in page.faults) or "no reason given"
            raise Unlisted(
                f"Klaviyo refuses to list profiles ({page.status}: {said}); it is tried "
                "again from the last position"
            )
        return page
