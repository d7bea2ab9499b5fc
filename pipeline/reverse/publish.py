"""One transaction per page: the messages, what is known from now on, and the cursor.

    1 begin   2 messages   3 known profiles   4 cursor   5 commit   6 the view, on disk

Nothing else waits inside: no call to Klaviyo, no look at a file. If it fails nobody knows
whether it was committed, and the view is rebuilt from the topic before anything else.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Literal, get_args

import structlog

from pipeline.kafka.follow import Entry, Follower
from pipeline.kafka.format import STAMP
from pipeline.kafka.transactions import Outgoing, Transactions
from pipeline.observe.metrics import Metrics
from pipeline.reverse.compare import Change, Compared, Kind
from pipeline.reverse.cursor import Cursor, encode
from pipeline.reverse.view import View

__all__ = ["Publisher"]

PROGRESS: Final = 250_000  # records between two lines about a rebuild
_PROFILE: Final = "reverse/profile/"
_CURSOR: Final = "reverse/cursor"
_SENT: Final = "sent/"


class Publisher:
    """Owns the two topics and the view; one page at a time."""

    def __init__(
        self,
        *,
        transactions: Transactions,
        follower: Follower,
        view: View,
        profiles: str,
        state: str,
        slug: str,
        subscription: str,
        key: Literal["external_id", "profile_id"],
        metrics: Metrics,
    ) -> None:
        """`profiles` and `state` are topics; `slug` stands before every key of state."""
        self._transactions = transactions
        self._follower = follower
        self.view = view
        self._profiles = profiles
        self._state = state
        self._prefix = f"{slug}/"
        self._key = key
        self._metrics = metrics
        for kind in get_args(Kind):
            metrics.reverse_published.labels(kind)  # at 0: a rate must see the first one
        self._headers = (
            ("origin", b"klaviyo"),
            ("subscription", subscription.encode()),
            ("content-type", b"application/json"),
        )
        self.stored: bytes | None = None  # the cursor as it was found
        self.lost = False  # there is none, though something was published before
        self._log = structlog.get_logger("reverse")

    async def open(self, turned: Callable[[], None]) -> None:
        """Fence who was here before, then read what is known; in this order.

        `turned` is told of each step. Raises `Away`, `TooNew`, `SettingsError` and
        `ViewUnwritable`.
        """
        await self._transactions.open()
        turned()
        await self._follower.open()
        await asyncio.to_thread(self.view.start)
        self.stored = None
        read = said = 0
        async for entries in self._follower.news():
            turned()
            await asyncio.to_thread(self._take, entries)
            read += len(entries)
            if read - said >= PROGRESS:
                said = read
                self._log.info("reading what was published before", records=read)
        self.lost = await self._lost()

    async def _lost(self) -> bool:
        return self.stored is None and await self._follower.written(self._profiles)

    async def close(self) -> None:
        """Let go of Kafka and of the file."""
        await self._follower.close()
        await self._transactions.close()
        await asyncio.to_thread(self.view.close)

    async def follow(self) -> None:
        """Learn what forward has sent since; our own records are known already."""
        async for entries in self._follower.news():
            await asyncio.to_thread(self._take_sent, entries)

    async def publish(self, compared: Compared, cursor: Cursor, sweep: int) -> None:
        """Publish a page and remember it. Raises `Fenced`, `TooLarge` and `Away`."""
        records = [self._message(change) for change in compared.changes]
        records += [
            self._fact(_PROFILE + who, known) for who, known in compared.known.items()
        ]
        records += [self._fact(_SENT + key, None) for key in compared.forgotten]
        encoded = encode(cursor)
        if encoded != self.stored:
            records.append(self._fact(_CURSOR, encoded))
        if records:
            await self._transactions.commit(records)
        self.stored = encoded
        if compared.known:
            rows = list(compared.known.items())
            await asyncio.to_thread(self.view.put, rows, sweep)
        if compared.forgotten:
            forgotten = [(key, None) for key in compared.forgotten]
            await asyncio.to_thread(self.view.sent, forgotten)
        self._count(compared)

    def _message(self, change: Change) -> Outgoing:
        key = change.external_id if self._key == "external_id" else None
        name = str(key or change.who).encode()
        return Outgoing(self._profiles, name, change.value, self._headers)

    def _fact(self, key: str, value: bytes | None) -> Outgoing:
        return Outgoing(self._state, (self._prefix + key).encode(), value, STAMP)

    def _count(self, compared: Compared) -> None:
        metrics = self._metrics
        for kind, count in Counter(each.kind for each in compared.changes).items():
            metrics.reverse_published.labels(kind).inc(count)
        metrics.reverse_echoes.inc(compared.echoes)
        metrics.reverse_found_late.inc(compared.late)
        metrics.degraded_fields.labels("properties").inc(compared.lost)
        if compared.malformed:
            metrics.reverse_malformed.inc(compared.malformed)
            self._log.warning(
                "profiles in a listing cannot be read and are left out",
                count=compared.malformed,
            )

    def _take(self, entries: Iterable[Entry]) -> None:
        profiles: list[tuple[str, bytes | None]] = []
        place = self._prefix + _PROFILE
        for name, value in _named(entries):
            if name.startswith(place):
                profiles.append((name.removeprefix(place), value))
            elif name == self._prefix + _CURSOR:
                self.stored = value
        self.view.put(profiles, 0)
        self._take_sent(entries)

    def _take_sent(self, entries: Iterable[Entry]) -> None:
        place = self._prefix + _SENT
        self.view.sent(
            (name.removeprefix(place), value)
            for name, value in _named(entries)
            if name.startswith(place)
        )


def _named(entries: Iterable[Entry]) -> Iterable[tuple[str, bytes | None]]:
    return ((key.decode(errors="replace"), value) for key, value in entries)
