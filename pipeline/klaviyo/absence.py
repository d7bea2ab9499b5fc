"""Saying that Klaviyo is away: once an incident, when it has lasted, until it is over."""

from collections import Counter
from typing import Final

from pipeline.clock import Clock
from pipeline.klaviyo.retry import explain
from pipeline.observe.health import Health

__all__ = ["Absence"]

PATIENCE: Final = 5.0  # s of failures before it is an incident


class Absence:
    """Which operations fail, since when, and how many calls wait because of it."""

    def __init__(self, health: Health, clock: Clock, api_url: str) -> None:
        self._health = health
        self._clock = clock
        self._api_url = api_url
        self._since: dict[str, float] = {}  # operation -> monotonic s, first failure
        self._calls: Counter[str] = Counter()

    def joined(self, operation: str, since: float) -> None:
        """Count a call, sent at `since`, that failed for its first time."""
        self._since.setdefault(operation, since)
        self._calls[operation] += 1

    def failed(self, operation: str, reason: str, wait: float) -> None:
        """Note one more failure; the next attempt is `wait` s away."""
        since = self._since.setdefault(operation, self._clock.monotonic())
        if self._clock.monotonic() + wait - since >= PATIENCE:
            self._health.away(
                "klaviyo",
                f"{operation} fails at {self._api_url} ({explain(reason)}); it is tried "
                "again for ever",
            )

    def answered(self, operation: str) -> None:
        """Note that the operation works."""
        if self._since.pop(operation, None) is not None and not self._since:
            self._health.back("klaviyo")

    def left(self, operation: str) -> None:
        """Let go of a call that had failed; with the last one nobody waits any more."""
        self._calls[operation] -= 1
        if not self._calls[operation]:
            del self._calls[operation]
            if self._since.pop(operation, None) is not None and not self._since:
                self._health.forget("klaviyo")  # whether it is back is not known
