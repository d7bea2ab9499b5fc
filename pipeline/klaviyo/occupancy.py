"""A limit of so many calls per window, kept whatever the window's phase.

The server counts a call at a moment we do not see, somewhere between send and answer. So
a call takes a slot when it is sent and gives it back one window's length after its
answer: for any window of the server, all calls counted in it hold a slot at the moment
the last of them is sent, hence there are never more of them than slots. A log of send
times alone is not enough, since latency bunches arrivals. The price is latency/length of
the quota.
"""

import math
from collections import deque
from typing import Final

__all__ = ["Occupancy"]

_GRAINS: Final = 1000  # ends are remembered to a 1000th of the window: bounded memory


class Occupancy:
    """`limit` slots, each held from the send until `seconds` after the answer."""

    __slots__ = ("_ends", "_grain", "limit", "seconds", "used")

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self.used = 0  # slots not free: in flight, or answered less than a window ago
        self._grain = seconds / _GRAINS
        self._ends: deque[list[float]] = deque()  # [when slots come free, how many]

    def free_at(self, now: float) -> float:
        """Return when a slot is free, `now` or later; infinity: an answer must come."""
        ends = self._ends
        while ends and ends[0][0] <= now:
            self.used -= int(ends.popleft()[1])
        missing = self.used - self.limit + 1
        if missing <= 0:
            return now
        for at, count in ends:
            missing -= int(count)
            if missing <= 0:
                return at
        return math.inf

    def take(self) -> None:
        """Take a slot: a call is sent."""
        self.used += 1

    def give_back(self) -> None:
        """Free the slot at once: the call was not sent after all."""
        self.used -= 1

    def recall(self, calls: int, now: float) -> None:
        """Take slots for calls that went before this limit was known."""
        self.used += calls
        self._ends.append([now + self.seconds + self._grain, calls])

    def end(self, now: float) -> None:
        """Free the slot a window later: the call was answered, or given up."""
        at = now + self.seconds
        ends = self._ends
        if ends and ends[-1][0] >= at:
            ends[-1][1] += 1
        else:
            ends.append([at + self._grain, 1])
