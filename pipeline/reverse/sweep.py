"""Reads everybody, slowly: who is missing at the end is gone, and what changed is late.

Deleted and merged profiles vanish from Klaviyo's listing without a word (Klaviyo, GET
/api/profiles), and what moves no `updated` and has no filter shows up here alone.
Profiles made meanwhile are no loss: the polls see them.
"""

import asyncio
from collections.abc import Collection
from contextlib import aclosing
from typing import Final

from pipeline.clock import Clock
from pipeline.klaviyo.listing import ANY
from pipeline.observe.health import Health
from pipeline.reverse.carry import Carry
from pipeline.reverse.compare import Compared, gone
from pipeline.settings import Reverse

__all__ = ["Sweep"]

FEW: Final = 1000  # profiles that may be deleted at a time without a doubt


class Sweep:
    """One reading of all after the other, in slices between the polls."""

    def __init__(
        self, carry: Carry, settings: Reverse, health: Health, clock: Clock
    ) -> None:
        self._carry = carry
        self._settings = settings
        self._health = health
        self._clock = clock
        self._resume: str | None = None  # the next page of the reading under way
        self._doubted = False  # the last reading missed more than half of all

    @property
    def under_way(self) -> bool:
        """Whether there is more to read at once."""
        return self._resume is not None

    def begin_anew(self) -> None:
        """The next slice starts with the first page."""
        self._resume = None

    async def slice(self, bound: int, stop: asyncio.Event) -> None:
        """Read on for `reverse.interval`, if a reading is due or under way."""
        carry = self._carry
        now = int(await carry.poller.now())
        if not carry.sweep:
            if now - carry.cursor.swept < self._settings.sweep_interval:
                return
            carry.sweep = now
        if not await self._read(bound, stop):
            return
        self._resume = None
        if not await self._doubtful():
            await self._find_gone(bound, stop)
        if carry.going(stop):
            carry.cursor = carry.cursor.advanced(swept=carry.sweep)
            carry.sweep = 0
            await carry.publish(Compared())

    async def _read(self, bound: int, stop: asyncio.Event) -> bool:
        """Whether it has come to the end."""
        carry = self._carry
        until = self._clock.monotonic() + self._settings.interval
        pages = carry.poller.all(self._resume)
        async with aclosing(carry.pages(pages, "sweep", bound, stop)) as carried:
            async for page, compared in carried:
                await asyncio.to_thread(carry.view.mark, compared.seen, carry.sweep)
                self._resume = page.following
                if page.following is None:
                    return True
                if self._clock.monotonic() > until:
                    break
        return False

    async def _doubtful(self) -> bool:
        """Whether so many are missing that rather the account or the answers are wrong.

        The next reading is believed.
        """
        view = self._carry.view
        missing = await asyncio.to_thread(view.missing, self._carry.sweep)
        known = await asyncio.to_thread(view.count)
        before, self._doubted = self._doubted, missing > max(FEW, known / 2)
        if not self._doubted or before:
            self._doubted = False
            self._health.back("missing profiles")
            return False
        self._health.away(
            "missing profiles",
            f"{missing} of {known} profiles are no longer in Klaviyo. Is "
            "klaviyo.api_key of the right account? If the next reading of all, in "
            f"{self._settings.sweep_interval:.0f} s, misses them too, they are "
            "published as deleted",
        )
        return True

    async def _find_gone(self, bound: int, stop: asyncio.Event) -> None:
        """Ask for those the reading missed by their ids before they are called gone."""
        carry, view = self._carry, self._carry.view
        place = 0
        while carry.going(stop):
            ids, place = await asyncio.to_thread(view.unseen, carry.sweep, place, ANY)
            if not ids:
                return
            missing = await self._missing(ids, bound, stop)
            now = await carry.poller.now()
            await carry.publish(await asyncio.to_thread(gone, view, missing, now))
            await asyncio.to_thread(view.mark, set(ids) - missing, carry.sweep)

    async def _missing(
        self, ids: Collection[str], bound: int, stop: asyncio.Event
    ) -> set[str]:
        carry = self._carry
        missing = set(ids)
        pages = carry.poller.named(ids)
        async with aclosing(carry.pages(pages, "sweep", bound, stop)) as carried:
            async for page, compared in carried:
                missing -= set(compared.seen)
                if compared.malformed:
                    break  # one of them may be there
                if page.following is None:
                    return missing
        return set()
