"""How long to wait before trying again.

`backoff` is what Klaviyo's own SDKs do: 0.5 s x 1.5^n, +-50 %, at most 60 s (source:
klaviyo-api-node, api/apis.ts). `full_jitter` spreads callers that were all refused at the
same moment over the whole time (source: AWS Architecture Blog, "Exponential Backoff And
Jitter").
"""

from typing import Final

__all__ = ["CAP", "backoff", "full_jitter"]

FIRST: Final = 0.5  # s
GROWTH: Final = 1.5
CAP: Final = 60.0  # s
_STEPS: Final = 12  # 0.5 x 1.5^12 is above the cap; keeps the power small


def backoff(failures: int, chance: float) -> float:
    """Return the seconds to wait after `failures` >= 1; `chance` is drawn from [0, 1)."""
    return min(CAP, _step(failures) * (0.5 + chance))


def full_jitter(failures: int, chance: float) -> float:
    """Return as `backoff`, but anywhere between now and that time."""
    return min(CAP, _step(failures)) * chance


def _step(failures: int) -> float:
    return FIRST * GROWTH ** min(failures - 1, _STEPS)
