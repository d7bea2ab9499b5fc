"""Two profiles of one customer made one: profile.identity_conflict = merge.

Klaviyo says 409 when the identifiers of one write belong to two profiles. All that they
belong to become the profile that the strongest one finds, then the write goes again.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from pipeline.klaviyo.call import Refused
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.existing import Found
from schemas import klaviyo as wire
from schemas import privacy
from schemas.commands import Identity

if TYPE_CHECKING:  # stages know each other's shapes, only flow.py joins them
    from pipeline.forward.facts import Facts
    from pipeline.forward.links import Links

__all__ = ["Merges"]

FIRST: Final = 0.1  # s until the first look at whether a merge is done
LOOKS: Final = 10  # each after twice the time: 100 s in all


class Merges:
    """Finds and merges; what Klaviyo forgets by it is kept as a link."""

    def __init__(self, client: Client, links: "Links", facts: "Facts") -> None:
        self._existing = client.existing
        self._links = links
        self._facts = facts

    async def merge(self, who: Identity) -> bool:
        """Make all profiles with these identifiers one; false if there is nothing to do.

        One that vanished meanwhile is no fault: the write is tried again either way.
        """
        found: dict[str, Found] = {}
        for kind, value in wire.identifiers(who).items():
            profile = await self._existing.find(kind, value)
            if isinstance(profile, Found):
                found.setdefault(profile.id, profile)
        if len(found) < 2:  # noqa: PLR2004  two make a conflict
            return False
        into, *others = found.values()
        owner = into.who.external_id or who.external_id
        for other in others:
            lost = other.who.external_id
            if lost is not None and owner is not None and lost != owner:
                # Before the merge: a crash between the two then leaves no stray customer.
                await self._facts.write(self._links.learn(lost, owner))
            answer = await self._existing.merge(privacy.merge(into.id, other.id))
            if not isinstance(answer, Refused):
                await self._merged(other.id)
        return True

    async def _merged(self, profile: str) -> None:
        """Wait until the profile is gone; a write before that meets it again."""
        wait = FIRST
        for _ in range(LOOKS):
            if await self._existing.is_gone(profile):
                return
            await asyncio.sleep(wait)
            wait *= 2
