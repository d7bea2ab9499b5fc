"""Which part of the account's quota this process may use: the part of partitions it owns.

The assignment is the lease: no replica asks another, and all together never take more
than the whole. A smaller share holds at once, a larger one when the calls of whoever
had it before are out of Klaviyo's longest window. There is no reserve: what little may
still go wrong in a rebalance, the answers' RateLimit-Remaining holds back.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from pipeline.klaviyo.family import STEADY

__all__ = ["Share"]

SLACK: Final = 5.0  # s on top of the window: a call of the former owner may still be out


class Share:
    """Follows assignments; `give` sets the part of the quota, in (0, 1]."""

    def __init__(self, whole: float, give: Callable[[float], None]) -> None:
        """`whole` is the part that all replicas of this deployment share."""
        self._whole = whole
        self._give = give
        self._now: float | None = None
        self._later: asyncio.TimerHandle | None = None
        self._log = structlog.get_logger("quota")

    def owns(self, part: float) -> None:
        """Take note of the part of the partitions that is ours now; 0 sends nothing."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if part <= 0:
            return
        wanted = self._whole * part
        if self._now is None or wanted <= self._now:
            self._take(wanted)
        else:
            loop = asyncio.get_running_loop()
            self._later = loop.call_later(STEADY + SLACK, self._take, wanted)

    def _take(self, share: float) -> None:
        self._later = None
        if share != self._now:
            self._log.info("quota share", share=round(share, 3))
        self._now = share
        self._give(share)
