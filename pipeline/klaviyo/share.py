"""Which part of the account's quota this process may use: the part of partitions it owns.

The assignment is the lease: no replica asks another, and all together never take more
than the whole. A smaller share holds at once, a larger one when the calls of whoever
had it before are out of Klaviyo's longest window. There is no reserve: what little may
still go wrong in a rebalance, the answers' RateLimit-Remaining holds back.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from pipeline.klaviyo.family import STEADY
from pipeline.klaviyo.portion import Portion

__all__ = ["Share"]

SLACK: Final = 5.0  # s on top of the window: a call of the former owner may still be out


class Share:
    """Follows assignments; `give` gets portions: what each of them has may be used."""

    def __init__(self, whole: float, give: Callable[..., None]) -> None:
        """`whole` is the part that all replicas of this deployment share."""
        self._whole = whole
        self._give = give
        self._now: tuple[Portion, ...] = ()
        self._later: asyncio.TimerHandle | None = None
        self._told = 0.0
        self._log = structlog.get_logger("quota")

    def owns(self, pieces: Sequence[int], of: int) -> None:
        """Take note of the partitions that are ours now, by their places among all.

        None of them sends nothing.
        """
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if not pieces:
            return
        wanted = Portion(self._whole, tuple(pieces), of)
        self._take(*dict.fromkeys((*self._now, wanted)))
        if len(self._now) > 1:
            loop = asyncio.get_running_loop()
            self._later = loop.call_later(STEADY + SLACK, self._take, wanted)

    def _take(self, *portions: Portion) -> None:
        self._now = portions
        self._give(*portions)
        share = min(portion.size for portion in portions)
        if share != self._told:
            self._told = share
            self._log.info("quota share", share=round(share, 3))
