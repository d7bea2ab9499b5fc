"""Klaviyo's rate limits: fixed windows per endpoint and account.

Two windows per endpoint, burst (1 s) and steady (60 s), for some a daily one; query
parameters such as `additional-fields[profile]=predictive_analytics` also spend from a
smaller bucket that all endpoints share. A refused call spends nothing. An answer
announces the steady window; a 429 only says how long to wait. Source: Klaviyo, "Rate
limits, status codes, and errors"; the figures come from the served revision's document.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.sandbox.clock import Clock
from pipeline.sandbox.settings import Settings
from pipeline.sandbox.structure.load import Operation
from pipeline.sandbox.wire import Problem, Refused

__all__ = ["Spent", "Windows"]

_BURST, _STEADY, _DAY = 1.0, 60.0, 86_400.0  # s
_HUGE = 100_000  # requests per second announced when limits are off
_KEPT = 1_000  # finished windows kept per bucket


@dataclass(frozen=True, slots=True)
class Spent:
    """One finished window: where it began (monotonic seconds) and what was used."""

    start: float
    used: int


class _Window:
    """One fixed window of one bucket."""

    __slots__ = ("capacity", "finished", "length", "start", "used")

    def __init__(self, length: float, capacity: int) -> None:
        self.length = length
        self.capacity = capacity
        self.start = -math.inf
        self.used = 0
        self.finished: deque[Spent] = deque(maxlen=_KEPT)

    def turn(self, now: float, *, aligned: bool) -> None:
        """Begin a new window if the current one is over."""
        if now < self.start + self.length:
            return
        if self.used:
            self.finished.append(Spent(self.start, self.used))
        self.start = now // self.length * self.length if aligned else now
        self.used = 0

    def wait(self, now: float) -> float:
        """Return the seconds until a call fits; 0 when it fits now."""
        return 0.0 if self.used < self.capacity else self.start + self.length - now

    def left(self, now: float) -> int:
        """Return the whole seconds until the window ends, at least 1."""
        return max(1, math.ceil(self.start + self.length - now))


class Windows:
    """All buckets of the account."""

    def __init__(self, clock: Clock) -> None:
        """Start with every window empty."""
        self._clock = clock
        self._buckets: dict[str, list[_Window]] = {}

    def spend(
        self, operation: Operation, query: Mapping[str, str], settings: Settings
    ) -> dict[str, str]:
        """Count one call and return the RateLimit headers of its answer.

        Raises `Refused` with 429 and Retry-After, whole seconds and never less than the
        real wait, when a window of the call has no room.
        """
        if not settings.limits:
            return _headers((_HUGE, _HUGE * 60, None), _HUGE * 60, 60, settings)
        now = self._clock.monotonic()
        aligned = settings.window_alignment == "clock"
        burst, steady = settings.limit_overrides.get(
            operation.key, (operation.burst, operation.steady)
        )
        own = self._bucket(operation.key, burst, steady, operation.daily)
        windows = list(own)
        for name, (extra_burst, extra_steady) in _extras(operation, query):
            windows += self._bucket(name, extra_burst, extra_steady, None)
        for window in windows:
            window.turn(now, aligned=aligned)
        wait = max(window.wait(now) for window in windows)
        if wait > 0:
            raise _throttled(max(1, math.ceil(wait)))
        for window in windows:
            window.used += 1
        minute = own[1]
        return _headers(
            (burst, steady, operation.daily),
            steady - minute.used,
            minute.left(now),
            settings,
        )

    def take(self, operation: Operation, count: int, settings: Settings) -> None:
        """Spend `count` calls for somebody else who uses the same account."""
        now = self._clock.monotonic()
        burst, steady = settings.limit_overrides.get(
            operation.key, (operation.burst, operation.steady)
        )
        for window in self._bucket(operation.key, burst, steady, operation.daily):
            window.turn(now, aligned=settings.window_alignment == "clock")
            window.used = min(window.capacity, window.used + count)

    def _bucket(
        self, name: str, burst: int, steady: int, daily: int | None
    ) -> list[_Window]:
        found = self._buckets.get(name)
        if found is None:
            found = [_Window(_BURST, burst), _Window(_STEADY, steady)]
            if daily is not None:
                found.append(_Window(_DAY, daily))
            self._buckets[name] = found
        found[0].capacity, found[1].capacity = burst, steady
        return found

    def usage(self) -> dict[str, list[Spent]]:
        """Return per bucket its steady windows, oldest first, the running one last."""
        return {
            name: [*windows[1].finished, Spent(windows[1].start, windows[1].used)]
            for name, windows in self._buckets.items()
        }


def _extras(
    operation: Operation, query: Mapping[str, str]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the shared buckets that the call's parameters also spend from."""
    for rule, limits in operation.extra.items():
        parameter, _, value = rule.partition("=")
        # The documents say include=list where the parameter's value is `lists`.
        asked = (part.rstrip("s") for part in query.get(parameter, "").split(","))
        if value.rstrip("s") in asked:
            yield rule, limits


def _headers(
    limits: tuple[int, int, int | None], remaining: int, reset: int, settings: Settings
) -> dict[str, str]:
    burst, steady, daily = limits
    if settings.limit_header == "number":
        limit = str(steady)
    else:
        limit = f"{burst}, {burst};w=1, {steady};w=60"
        if daily is not None:
            limit += f", {daily};w=86400"
    return {
        "RateLimit-Limit": limit,
        "RateLimit-Remaining": str(remaining),
        "RateLimit-Reset": str(reset),
    }


def _throttled(seconds: int) -> Refused:
    problem = Problem(
        f"Request was throttled. Expected available in {seconds} seconds.",
        code="throttled",
        title="Request was throttled.",
    )
    return Refused(429, [problem], {"Retry-After": str(seconds)})
