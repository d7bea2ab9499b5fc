"""The brake on dead letters: when almost nothing can be delivered, the deploy is wrong.

Then the flow halts instead of dead-lettering the world. What counts is that a record
cannot become a request, whatever the reason: no message, a wrong type, nobody named.
"""

from collections import deque
from typing import Final

from pipeline.observe.health import Health

__all__ = ["Flood"]

WINDOW: Final = 1000  # records looked back on
HALF: Final = WINDOW // 2
SERVICE: Final = ", and restart; the next start goes on with this record"


class Flood:
    """Counts undeliverable records in a row and among the last 1,000."""

    def __init__(self, limit: int, health: Health, then: str = SERVICE) -> None:
        """`limit` in a row; 0 switches the brake off.

        `then` ends the text of the halt: what to do when the cause is mended.
        """
        self._limit = limit
        self._health = health
        self._then = then
        self._row = 0
        self._count = 0
        self._bad: deque[int] = deque()  # which of the last 1,000, by their numbers

    def over(self, *, bad: bool) -> bool:
        """Count one more record; true if it must not be dead-lettered any more."""
        self._count += 1
        if not bad:
            self._row = 0
            return False
        if not self._limit:
            return False
        self._row += 1
        self._bad.append(self._count)
        while self._bad[0] <= self._count - WINDOW:
            self._bad.popleft()
        if self._row < self._limit and len(self._bad) < HALF:
            return False
        self._health.halt("malformed_flood", f"{self._why()}{self._then}")
        return True

    def _why(self) -> str:
        if self._row >= self._limit:
            return (
                f"{self._row} records in a row cannot be delivered: mend what writes the "
                "topic, or raise deliver.malformed_limit"
            )
        # The limit is of those in a row: it would change nothing.
        return (
            f"{len(self._bad)} of the last {WINDOW} records cannot be delivered: mend "
            f"what writes the topic, or let up to {HALF - 1} more become dead letters"
        )
