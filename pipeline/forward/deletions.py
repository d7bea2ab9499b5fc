"""Customers who end: their profile is suppressed or erased, as deletes.policy says.

An erasure resolves who is meant first, as Klaviyo takes exactly one identifier: its own
id of the profile. Before it is asked for, the person stands on the deny-list.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from pipeline.clock import Clock
from pipeline.forward.refused import dead
from pipeline.klaviyo.call import Refused
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.existing import Found
from pipeline.klaviyo.family import Permit
from pipeline.records import DELIVERED, Dead, Item, Outcome, Record
from schemas import klaviyo as wire
from schemas import privacy
from schemas.commands import EraseProfile, Identity, SuppressProfile

if TYPE_CHECKING:  # stages know each other's shapes, only flow.py joins them
    from pipeline.forward.erased import Erased
    from pipeline.forward.facts import Facts
    from pipeline.forward.links import Links

__all__ = ["Deletions"]

_MUTE: Final = Dead(
    "no_identifier",
    "deliver",
    "the profile has no e-mail address, and Klaviyo suppresses addresses: set "
    "deletes.policy to erase, or end it by hand",
)


class Deletions:
    """Carries the ends of customers; one outcome per item."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        kind: Literal["suppress", "erase"] | None = None,
        erased: "tuple[Erased, Facts] | None" = None,
        links: "tuple[Links, Facts] | None" = None,
    ) -> None:
        """`kind` is what there is to carry, if anything.

        `erased` is the deny-list; `links` say who became whom.
        """
        self._existing = client.existing
        self._clock = clock
        self.kind = kind
        self._erased = erased
        self._links = links

    async def send(self, items: Sequence[Item], permit: Permit) -> Sequence[Outcome]:
        """Outcomes by index. Cancelling it leaves no outcome at all."""
        permit.unused()  # who it is about has to be found first, for as long as it takes
        return [await self._end(item) for item in items]

    async def _end(self, item: Item) -> Outcome:
        command = item.command
        found = await self._found(command.identity)
        if isinstance(found, Refused):
            return dead(found)
        match command:
            case SuppressProfile():
                return await self._suppress(command.identity, found)
            case EraseProfile():
                return await self._erase(command.identity, found, item.parts[0][0].record)
            case _:
                raise AssertionError("so says its kind")

    async def _suppress(self, who: Identity, found: Sequence[Found]) -> Outcome:
        """Suppress the address of the record and the one that Klaviyo has."""
        emails = [who.email, *(each.who.email for each in found)]
        told = list(dict.fromkeys(filter(None, emails)))
        if not told:
            return _MUTE if found else DELIVERED
        answer = await self._existing.suppress(privacy.suppression(told))
        return dead(answer) if isinstance(answer, Refused) else DELIVERED

    async def _erase(
        self, who: Identity, found: Sequence[Found], record: Record
    ) -> Outcome:
        assert self._erased is not None  # noqa: S101  the settings refuse it otherwise
        table, facts = self._erased
        people = [who, *(each.who for each in found), *self._linked(who)]
        at = datetime.fromtimestamp(self._clock.now(), UTC).isoformat()
        profiles = [each.id for each in found]
        await facts.write(table.entries(people, profiles, record, at))
        for profile in profiles:
            answer = await self._existing.erase(privacy.deletion(profile))
            if isinstance(answer, Refused):
                return dead(answer)
        if self._links is not None:
            links, kept = self._links
            names = [each.external_id for each in people]
            await kept.write(links.forget(filter(None, names)))
        return DELIVERED

    def _linked(self, who: Identity) -> list[Identity]:
        """Customers whose profile became this one."""
        if self._links is None or who.external_id is None:
            return []
        return [Identity(name) for name in self._links[0].became(who.external_id)]

    async def _found(self, who: Identity) -> list[Found] | Refused:
        """The profiles of this person, none of another customer who shares something.

        The strongest identifier decides; what the others find goes along if it has no
        external_id, or the same one.
        """
        found: dict[str, Found] = {}
        for kind, value in wire.identifiers(who).items():
            profile = await self._existing.find(kind, value)
            if isinstance(profile, Refused):
                return profile
            if profile is None:
                continue
            owner = who.external_id or next(
                (each.who.external_id for each in found.values()), None
            )
            foreign = profile.who.external_id not in (None, owner)
            if foreign and (found or who.external_id):
                continue
            found.setdefault(profile.id, profile)
        return list(found.values())
