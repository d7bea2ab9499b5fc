"""The server's side of the limits, for tests: it counts, whatever its windows."""

import asyncio
import math
from collections.abc import Callable
from itertools import pairwise

from pipeline.klaviyo.family import Family
from pipeline.klaviyo.portion import Portion
from pipeline.klaviyo.quotas import Quota
from tests.virtual_time import LoopClock

__all__ = ["OK", "FixedWindow", "assert_never_more_than", "family", "gaps", "now", "soon"]

OK = 202


def now() -> float:
    return asyncio.get_running_loop().time()


def family(burst: int, steady: int, *, share: float = 1.0) -> Family:
    """A family of its own, with chance fixed in the middle."""
    return Family(
        Quota(burst, steady, ""),
        LoopClock(),
        portions=(Portion(share),),
        ceiling=None,
        chance=lambda: 0.5,
        wake_all=lambda: None,
    )


def assert_never_more_than(limit: int, seconds: float, counted: list[float]) -> None:
    """No window of that length, wherever it begins, holds more than `limit` calls."""
    counted = sorted(counted)
    for first, beyond in zip(counted, counted[limit:], strict=False):
        assert beyond - first >= seconds, f"{limit + 1} calls in {beyond - first} s"


class FixedWindow:
    """A steady window as Klaviyo keeps it, with others spending from it too."""

    def __init__(
        self, limit: int, phase: float, rounded: Callable[[float], int] = math.ceil
    ) -> None:
        self.limit = limit
        self.rounded = rounded
        self.windows: dict[int, int] = {}  # number -> all calls counted in it
        self.refused = 0
        self._phase = phase

    def spend(self) -> dict[str, str] | None:
        """Count a call of anybody; its headers, or None if it gets a 429."""
        if self.left() == 0:
            return None
        number, end = self._now()
        self.windows[number] = self.windows.get(number, 0) + 1
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.left()),
            "RateLimit-Reset": str(self.rounded(end)),
        }

    def left(self) -> int:
        """How many calls the running window still takes."""
        return self.limit - self.windows.get(self._now()[0], 0)

    def retry_after(self) -> dict[str, str]:
        """The headers of a 429."""
        self.refused += 1
        return {"Retry-After": str(math.ceil(self._now()[1]))}

    def _now(self) -> tuple[int, float]:
        number, since = divmod(asyncio.get_running_loop().time() + self._phase, 60)
        return int(number), 60 - since


async def soon() -> None:
    """Let every task that can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


def gaps(times: list[float]) -> list[float]:
    """The time between each call and the next."""
    return [later - earlier for earlier, later in pairwise(times)]
