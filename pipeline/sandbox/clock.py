"""The sandbox's time, handed in so that a test can hold it.

Waiting, limits and job delays use `monotonic`; `created`, `updated` and event times use
`now`. Neither decides which revisions are alive: that is `Settings.today`.
"""

import time
from typing import Protocol

__all__ = ["SYSTEM", "Clock", "HeldClock"]


class Clock(Protocol):
    """Two clocks: one to wait by, one to write on records."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def now(self) -> float:
        """Unix time in seconds."""
        ...


class _System:
    monotonic = staticmethod(time.monotonic)
    now = staticmethod(time.time)


SYSTEM: Clock = _System()


class HeldClock:
    """A clock that stands still until `advance` is called."""

    def __init__(self, now: float = 1_795_392_000.0, monotonic: float = 0.0) -> None:
        """Start at `now`, Unix seconds; the default is 2026-11-23T00:00:00Z."""
        self._now = now
        self._monotonic = monotonic

    def monotonic(self) -> float:
        """Seconds since the start, as far as `advance` has gone."""
        return self._monotonic

    def now(self) -> float:
        """Unix time in seconds, as far as `advance` has gone."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let both clocks go forward by `seconds`."""
        self._now += seconds
        self._monotonic += seconds
