"""The brake on dead letters: when almost all is malformed, the deploy is wrong.

Then the flow halts instead of dead-lettering the world
(`deliver.malformed_limit`).
"""

from collections import deque
from typing import Final

from pipeline.observe.health import Health

__all__ = ["Flood"]

WINDOW: Final = 1000  # records looked back on
HALF: Final = WINDOW // 2


class Flood:
    """Counts malformed records in a row and among the last 1,000."""

    def __init__(self, limit: int, health: Health) -> None:
        self._limit = limit  # in a row; 0 switches the brake off
        self._health = health
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
        self._health.halt(
            "malformed_flood",
            f"{self._row} malformed records in a row, {len(self._bad)} of the last"
            f" {WINDOW}: mend what writes the topic, or raise deliver.malformed_limit,"
            " and restart; the next start goes on with this record",
        )
        return True
