"""What the server says is left of the steady window, whoever spent the rest.

Others may use the same account. RateLimit-Remaining counts their calls too, so it bounds
what we may still send until the window ends. Calls of ours that were in flight when it
was written may not be counted in it yet.

RateLimit-Reset is in whole seconds, rounded we know not how, and written somewhere
between send and answer. Each answer thus gives an interval for the window's end, and the
answers of one window narrow it; an interval that lies later belongs to the next window.

Who sends again what was sent before (replay, backfill) takes only what the live service
leaves. That one is known by nothing but what is left: it may want all of the window,
evenly, so what it may still want is in proportion to the time that is left.
"""

import math
from typing import Final

__all__ = ["Remainder"]

AT_ONCE: Final = 0.03  # of a window's calls go before spare ones: a small replay is quick
KEPT: Final = 0.1  # of them are never spare: the live service may burst, and looks cost

_ROUNDING: Final = 1.0  # s; RateLimit-Reset may be rounded up or down
STEADY: Final = 60  # s; the window that is announced
_LONGEST: Final = STEADY + 1  # s; with its rounding: else another thing is meant


class Remainder:
    """Calls left until the server's window ends; no bound until an answer says so."""

    __slots__ = ("_earliest", "_latest", "_left", "_looked", "_taken", "_unseen")

    def __init__(self) -> None:
        self._earliest = -math.inf  # the window ends between these two
        self._latest = -math.inf
        self._left = 0  # the lowest remainder seen in this window
        self._unseen = 0  # calls of ours that `_left` may not have counted
        self._taken = 0  # calls of ours in this window
        self._looked = -math.inf  # when `_left` was, at the earliest

    def free_at(self, now: float, share: float) -> float:
        """Return when one more call fits into our `share` of what is left."""
        if now >= self._latest or self._unseen < int(self._left * share):
            return now
        return self._latest

    def spare_at(self, now: float, limit: int) -> float:
        """Return when one more call fits beside a sender of `limit` calls a window."""
        if now >= self._latest or self._taken < limit * AT_ONCE:
            return now
        beyond = self._left - self._unseen - limit * KEPT - 1
        lasts = max(0.0, beyond) * STEADY / limit  # s until the other has used it up
        spare = self._latest - lasts
        return spare if spare <= self._looked + lasts else self._latest

    def take(self) -> None:
        """Count a call that is sent."""
        self._unseen += 1
        self._taken += 1

    def give_back(self) -> None:
        """Discount a call that was not sent after all."""
        self._unseen = max(self._unseen - 1, 0)
        self._taken = max(self._taken - 1, 0)

    def answered(
        self, remaining: int, reset: int, *, sent: float, now: float, in_flight: int
    ) -> None:
        """Learn from the answer to a call; `in_flight` others are still out."""
        if reset > _LONGEST:
            return
        earliest, latest = sent + reset - _ROUNDING, now + reset + _ROUNDING
        if latest <= self._earliest:
            return  # a late answer out of a window that is over
        if earliest >= self._latest:
            self._earliest, self._latest = earliest, latest
            self._left, self._unseen = remaining, in_flight
            self._taken, self._looked = in_flight + 1, sent
            return
        self._earliest = max(self._earliest, earliest)
        self._latest = min(self._latest, latest)
        if remaining < self._left:
            self._left, self._unseen = remaining, in_flight
            self._looked = sent
        else:  # counted before the lowest one: it is in there
            self._unseen = max(self._unseen - 1, 0)
