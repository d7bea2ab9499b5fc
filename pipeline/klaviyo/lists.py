"""Lists by name: each is looked for once, and created only where that is allowed."""

import asyncio
from collections import OrderedDict
from typing import Final

import structlog

from pipeline.clock import Clock
from pipeline.klaviyo import held
from pipeline.klaviyo.call import Refused
from pipeline.klaviyo.subscriptions import Subscriptions
from schemas import subscriptions as wire

__all__ = ["Lists"]

MISSING: Final = 300.0  # s until a list that was not there is looked for again
MOST: Final = 10_000  # names remembered
SHOWN: Final = 100  # characters of a name in the log


class _Entry:
    """What is known of one name."""

    __slots__ = ("at", "group", "looking")

    def __init__(self) -> None:
        self.looking = asyncio.Lock()
        self.group: str | None = None  # its id; None: there is no such list
        self.at: float | None = None  # monotonic s of the look; None: not looked yet


class Lists:
    """One cache for the whole process; a name is asked about once at a time."""

    def __init__(self, calls: Subscriptions, clock: Clock, *, create: bool) -> None:
        self._calls = calls
        self._clock = clock
        self._create = create
        self._known: OrderedDict[str, _Entry] = OrderedDict()
        self._log = structlog.get_logger("klaviyo")

    async def id(self, name: str) -> str | None:
        """Return the id of the list of that name; None if there is none.

        Of several with one name the oldest is meant.
        """
        entry = self._known.get(name)
        if entry is None:
            entry = self._known[name] = _Entry()
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        async with entry.looking:
            if entry.at is None or self._stale(entry.group, entry.at):
                entry.group = await self._find(name)
                entry.at = self._clock.monotonic()
        return entry.group

    def forget(self, group: str) -> None:
        """Klaviyo says that there is no list of that id: it is looked for anew."""
        for name in [n for n, entry in self._known.items() if entry.group == group]:
            del self._known[name]

    def _stale(self, group: str | None, at: float) -> bool:
        return group is None and self._clock.monotonic() - at > MISSING

    async def _find(self, name: str) -> str | None:
        if not held.askable(name):
            return None  # no filter can name it
        there = await self._calls.lists(name)
        if not there and self._create:
            made = await self._calls.create_list(wire.new_list(name))
            if not isinstance(made, Refused):
                self._log.info("list created", list=made)
                # Another replica may have made one as well: all use the oldest.
                there = await self._calls.lists(name)
                if not there:
                    return made
        if there:
            return min(there, key=lambda group: group.age).id
        self._log.warning(
            "a list that records name does not exist; nobody is put on it. Create it in "
            "Klaviyo, or set consent.create_lists",
            list=name[:SHOWN],
        )
        return None
