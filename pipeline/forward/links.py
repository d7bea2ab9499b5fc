"""Customers whose profile was merged into another's: from then on they are one person.

Klaviyo finds a profile by the external_id that each write carries, so no link of ours is
needed for anybody else. A merged profile loses its external_id; its customer is followed
to the one it became, or the next write would make the second profile anew.

    <customer id>  ->  the customer id that the profile has now
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from schemas.event import Plan

__all__ = ["Links"]

LIMIT: Final = 100_000  # links in memory; beyond, the oldest are forgotten


class Links:
    """Who became whom; a table of `Facts`."""

    def __init__(self) -> None:
        self._links: dict[str, str] = {}

    def load(self, entries: Mapping[str, bytes]) -> dict[str, bytes | None]:
        """Take in all there is; nothing is to be written."""
        known = {key: value.decode() for key, value in entries.items()}
        self._links = dict(list(known.items())[-LIMIT:])
        return {}

    def admitted(self, plan: Plan) -> Plan:
        """The plan, about the customer who it is about now."""
        if not self._links or not plan.commands:
            return plan
        who = plan.commands[0].identity
        now = self._links.get(who.external_id or "")
        if now is None:
            return plan
        who = msgspec.structs.replace(who, external_id=now)
        for command in plan.commands:
            command.identity = who
        return plan

    def learn(self, source: str, destination: str) -> dict[str, bytes | None]:
        """One customer became another; give what is to be kept.

        Who had become the first one is the second now. A link back is dropped.
        """
        changed: dict[str, str | None] = {source: destination}
        for name, now in self._links.items():
            if now == source and name != destination:
                changed[name] = destination
        if destination in self._links:
            changed[destination] = None
        return self._changed(changed)

    def became(self, name: str) -> list[str]:
        """The customers who are that one now."""
        return [source for source, now in self._links.items() if now == name]

    def forget(self, names: Iterable[str]) -> dict[str, bytes | None]:
        """Drop the links of these customers; give what is to be kept of it."""
        return self._changed(dict.fromkeys(self._links.keys() & set(names)))

    def _changed(self, changed: Mapping[str, str | None]) -> dict[str, bytes | None]:
        for name, now in changed.items():
            self._links.pop(name, None)
            if now is not None:
                self._links[name] = now
        return {
            name: None if now is None else now.encode() for name, now in changed.items()
        }
