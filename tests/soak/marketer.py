"""Somebody who edits profiles in Klaviyo all the time, and knows what must come back."""

import asyncio
import random
from collections import Counter
from typing import Any

from pipeline.sandbox.profile import Profile
from tests.reverse.rig import Reverse, Said

__all__ = ["Marketer"]

PEOPLE = 60  # made by hand; the shop does not know them
EVERY = 0.2  # s


class Marketer:
    """Edits titles of people made by hand, and companies of the shop's customers."""

    def __init__(self, back: Reverse, seed: int) -> None:
        self._back = back
        self._chance = random.Random(seed)
        self.people = [back.make(f"hand-{number}") for number in range(PEOPLE)]
        self.last: dict[str, tuple[str, str]] = {}  # profile id -> field, value
        self.edits = 0

    async def work(self, enough: asyncio.Event) -> None:
        """Edit until `enough`."""
        while not enough.is_set():
            await asyncio.sleep(EVERY)
            self.edit()

    def edit(self) -> None:
        """One edit, of either kind."""
        profiles = [*self._back.sandbox.state.profiles]
        profile: Profile = self._chance.choice(profiles)
        self.edits += 1
        value = f"edit {self.edits}"
        if "external_id" in profile.identifiers:
            self._back.edit(profile, organization=value)
            self.last[profile.id] = ("company", value)
        else:
            self._back.edit(profile, title=value)
            self.last[profile.id] = ("title", value)

    def missing(self, found: list[Said]) -> int:
        """How many profiles whose last edit is not the last thing said of them."""
        said = {each.who: each.value["profile"] for each in found}
        return sum(
            said.get(who, {}).get(field) != value
            for who, (field, value) in self.last.items()
        )

    def chain(self, found: list[Said]) -> list[str]:
        """What is wrong with it: messages twice, gaps."""
        wrong = [
            f"{count} times {id}"
            for id, count in Counter(each.id for each in found).items()  # noqa: A001
            if count > 1
        ]
        by_hand = {profile.id for profile in self.people}
        now: dict[str, dict[str, Any]] = {}
        for each in found:
            # Of the shop's customers the title is ours; what we wrote is never said.
            field = "title" if each.who in by_hand else "company"
            if each.who in now:
                wrong += _gaps(each, now[each.who], field)
            now[each.who] = each.value["profile"]
        return wrong

    def echoes(self, found: list[Said]) -> int:
        """Messages that say nothing but what the shop had written."""
        return sum(
            each.kind == "updated" and not {"company", "title"} & {*each.value["changed"]}
            for each in found
        )


def _gaps(each: Said, before: dict[str, Any], field: str) -> list[str]:
    """Each message goes on where the one before it ended."""
    previous = each.value.get("previous", {})
    if field not in previous or previous[field] == before.get(field):
        return []
    return [f"{field} was {before.get(field)!r}, then previous {previous[field]!r}"]
