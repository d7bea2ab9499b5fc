"""Time as an argument, so that a test can hold it in its hand."""

import time
from typing import Protocol

__all__ = ["SYSTEM", "Clock"]


class Clock(Protocol):
    """Two clocks: `monotonic` for waiting and limits, `now` for people and Kafka."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never jumps when the wall clock is set."""
        ...

    def now(self) -> float:
        """Unix time in seconds."""
        ...


class _System:
    monotonic = staticmethod(time.monotonic)
    now = staticmethod(time.time)


SYSTEM: Clock = _System()
