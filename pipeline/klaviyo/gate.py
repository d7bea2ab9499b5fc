"""Whether an endpoint family is let through at all.

A 429 pauses the family for Retry-After in full, then ONE probe goes; when it succeeds all
go on. Several failures in a row without a success close the gate too, with growing
back-off. A single failure only delays its own request. A new gate lets one call through
before all others: what a former process left of the quota is known only from an answer.

Pure: time and chance are arguments.
"""

import math
from typing import Final

from pipeline.klaviyo.backoff import backoff, full_jitter

__all__ = ["Gate"]

FAILURES: Final = 5  # in a row close the gate: an outage, not an accident
_SHORT: Final = 1.0  # s; a shorter Retry-After must not make a tight loop


class Gate:
    """Open, or closed until a time after which one probe is let through."""

    __slots__ = ("_fresh", "_probing", "_tries", "_until", "closings", "failures")

    def __init__(self) -> None:
        self._until: float | None = -math.inf  # None: open
        self._fresh = True  # nothing known yet: one call goes first
        self._probing = False
        self._tries = 0  # closings in a row without a success
        self.failures = 0  # in a row
        self.closings = 0  # ever; tells who passed before the last one

    def free_at(self, now: float) -> float:
        """Return when a call may pass; infinity while the probe is out."""
        if self._until is None:
            return now
        return math.inf if self._probing else max(self._until, now)

    def take(self) -> bool:
        """Let a call pass; True makes it the probe."""
        if self._until is None:
            return False
        self._probing = True
        return True

    def succeeded(self, now: float, *, probe: bool) -> None:
        """Take in an answer in earnest."""
        self.failures = 0
        if probe:
            self._probing, self._fresh, self._tries = False, False, 0
            if self._until is not None and self._until <= now:
                self._until = None
            # Else a call from before the pause got a 429 while the probe was out.

    def throttled(
        self, now: float, pause: float | None, chance: float, *, probe: bool
    ) -> None:
        """Take in a 429 with Retry-After `pause` s; None when it makes no sense."""
        if self._until is not None and not probe:
            # Sent before the gate closed: one incident, so only the end may move.
            self._until = max(self._until, now + (pause or 0.0))
            return
        self._tries += 1
        if pause is None or pause < _SHORT:
            pause = max(pause or 0.0, full_jitter(self._tries, chance))
        self._close(now + pause)

    def failed(self, now: float, chance: float, *, probe: bool) -> None:
        """Take in a failure on the server's side, or on the way."""
        self.failures += 1
        if probe and self._fresh and self.failures < FAILURES:
            self._probing = False
        elif probe or (self._until is None and self.failures >= FAILURES):
            self._tries += 1
            self._close(now + backoff(self._tries, chance))

    def gave_up(self, *, probe: bool) -> None:
        """Pass the probe's role on: a cancelled call says nothing."""
        if probe:
            self._probing = False

    def _close(self, until: float) -> None:
        self._until = until if self._until is None else max(self._until, until)
        self._probing, self._fresh = False, False
        self.closings += 1
