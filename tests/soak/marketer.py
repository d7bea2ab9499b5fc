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
        """What is wrong with it: messages twice, gaps, echoes of the shop's changes."""
        wrong = [
            f"{count} times {id}"
            for id, count in Counter(each.id for each in found).items()  # noqa: A001
            if count > 1
        ]
        now: dict[str, dict[str, Any]] = {}
        for each in found:
            before = now.get(each.who)
            if before is not None:
                wrong += _gaps(each, before)
            now[each.who] = each.value["profile"]
            changed = set(each.value.get("changed", ()))
            if each.kind == "updated" and changed and not changed & {"company", "title"}:
                wrong.append(f"echo of {sorted(changed)}")
        return wrong


def _gaps(each: Said, before: dict[str, Any]) -> list[str]:
    """Each message goes on where the one before it ended."""
    previous = each.value.get("previous", {})
    return [
        f"{field} of {each.who}: {before.get(field)!r}, then previous {value!r}"
        for field, value in previous.items()
        if field in {"company", "title"} and before.get(field) != value
    ]
