"""The ledger: every request, what it touched, and what the client did wrong.

Bounded: the newest `Settings.keep_requests` entries, counters per operation, one window
of counts per operation and minute. A violation is noted once per pair of requests.
"""

from collections import deque
from typing import Any

import msgspec

from pipeline.sandbox.clock import Clock
from pipeline.sandbox.settings import Settings
from pipeline.sandbox.touched import Key

__all__ = ["Count", "Entry", "Ledger", "Violation"]

_KEYS_SHOWN = 50
_VIOLATIONS_KEPT = 1_000
_MINUTES_KEPT = 240
_SECONDS_KEPT = 3_600
_ACCEPTED = range(200, 300)
_THROTTLED = 429


class Entry(msgspec.Struct, kw_only=True, gc=False):
    """One request; `status` 0 means that it has no answer (yet, or at all)."""

    number: int
    time: float  # Unix seconds of its arrival
    monotonic: float
    method: str
    path: str
    operation: str  # method and path template, "" when unknown
    requested: str  # the revision header as sent
    served: str
    status: int
    rows: int
    size: int  # bytes of the body
    touched: list[str]  # "email:ada@shop.dev", at most 50
    body: Any = None  # with Settings.keep_bodies
    fault: str = ""  # the kind of scripted fault that hit it
    finished: float = 0.0  # monotonic


class Violation(msgspec.Struct, frozen=True, gc=False):
    """Two writes in flight together that touch the same profile."""

    kind: str
    time: float
    first: int  # numbers of the two entries
    second: int
    keys: list[str]


class Count(msgspec.Struct, gc=False):
    """Requests of one operation in one span of time."""

    requests: int = 0
    accepted: int = 0  # 2xx
    rows: int = 0  # in accepted requests
    throttled: int = 0  # 429


class _Flight:
    __slots__ = ("entry", "keys")

    def __init__(self, entry: Entry, keys: set[Key]) -> None:
        self.entry = entry
        self.keys = keys


class Ledger:
    """What was asked of the sandbox."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        """Start with an empty ledger."""
        self._clock = clock
        self.entries: deque[Entry] = deque(maxlen=settings.keep_requests)
        self.violations: deque[Violation] = deque(maxlen=_VIOLATIONS_KEPT)
        self.violation_count = 0
        self.statuses: dict[str, dict[int, int]] = {}
        self.seconds: dict[str, dict[int, Count]] = {}
        self.minutes: dict[str, dict[int, Count]] = {}
        self._writing: dict[Key, int] = {}
        self._flights: dict[int, _Flight] = {}
        self._number = 0

    def keep(self, most: int) -> None:
        """Change how many entries are kept."""
        self.entries = deque(self.entries, maxlen=most)

    def begin(self, entry: Entry, keys: set[Key]) -> int:
        """Note a request and the profiles it is about to write; return its number."""
        self._number += 1
        entry.number = self._number
        entry.touched = [f"{kind}:{value}" for kind, value in sorted(keys)[:_KEYS_SHOWN]]
        self.entries.append(entry)
        self._flights[entry.number] = _Flight(entry, keys)
        clashes: dict[int, list[str]] = {}
        for key in keys:
            other = self._writing.get(key)
            if other is not None:
                clashes.setdefault(other, []).append(f"{key[0]}:{key[1]}")
            self._writing[key] = entry.number
        for other, shared in clashes.items():
            self.violation_count += 1
            self.violations.append(
                Violation("overlap", entry.time, other, entry.number, sorted(shared))
            )
        return entry.number

    def answered(self, number: int, status: int) -> None:
        """Note the answer of a request, before it is sent."""
        entry = self._flights[number].entry
        now = self._clock.monotonic()
        entry.status = status
        entry.finished = now
        name = entry.operation or "unknown"
        counts = self.statuses.setdefault(name, {})
        counts[status] = counts.get(status, 0) + 1
        for table, index, most in (
            (self.seconds, int(entry.monotonic), _SECONDS_KEPT),
            (self.minutes, int(entry.monotonic // 60), _MINUTES_KEPT),
        ):
            spans = table.setdefault(name, {})
            count = spans.get(index)
            if count is None:
                count = spans[index] = Count()
                if len(spans) > most:
                    del spans[next(iter(spans))]
            count.requests += 1
            if status in _ACCEPTED:
                count.accepted += 1
                count.rows += entry.rows
            elif status == _THROTTLED:
                count.throttled += 1

    def end(self, number: int) -> None:
        """Note that a request writes no more: it is answered, or its job is done."""
        flight = self._flights.pop(number, None)
        if flight is None:
            return
        for key in flight.keys:
            if self._writing.get(key) == number:
                del self._writing[key]

    @property
    def throttled(self) -> int:
        """How many requests were answered with 429."""
        return sum(counts.get(_THROTTLED, 0) for counts in self.statuses.values())

    @property
    def in_flight(self) -> int:
        """How many requests (or the jobs they started) are still at work."""
        return len(self._flights)
