"""What the answer's headers say about limits: lenient readers of untrusted text.

Sources: Klaviyo, "Rate limits, status codes, and errors"; the list form of
RateLimit-Limit is that of draft-ietf-httpapi-ratelimit-headers-03; Retry-After is RFC
9110, 10.2.3.
"""

import re
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["LONGEST_PAUSE", "number", "rate_limits", "retry_after", "unix"]

STEADY: Final = 60  # s; a plain number speaks of this window
LONGEST_PAUSE: Final = 3600.0  # s; a longer Retry-After is asked again after an hour
_ITEM: Final = re.compile(r"\s*(\d{1,12})\s*(?:;\s*w\s*=\s*(\d{1,6})\s*)?", re.ASCII)
_DIGITS: Final = re.compile(r"\s*(\d{1,12})\s*", re.ASCII)


def number(text: str | None) -> int | None:
    """Read a header that is a whole number; None for anything else."""
    found = _DIGITS.fullmatch(text) if text is not None else None
    return int(found[1]) if found else None


def rate_limits(text: str) -> dict[int, int]:
    """Read calls by window length in seconds; empty when `text` makes no sense.

    `750` -> {60: 750}; `75, 75;w=1, 750;w=60` -> {1: 75, 60: 750}.
    """
    windows: dict[int, int] = {}
    plain: list[int] = []
    for item in text.split(","):
        if (found := _ITEM.fullmatch(item)) is None or (calls := int(found[1])) == 0:
            continue
        if found[2] is None:
            plain.append(calls)
        elif (seconds := int(found[2])) > 0:
            windows[seconds] = calls
    if not windows and len(plain) == 1:
        return {STEADY: plain[0]}
    return windows


def retry_after(text: str | None, date: str | None, now: float) -> float | None:
    """Read the seconds to wait, 0 to `LONGEST_PAUSE`; None when absent or garbage.

    An HTTP-date counts from the answer's own `date`, since clocks differ; without that
    one from `now`, Unix seconds.
    """
    if text is None:
        return None
    if (found := _DIGITS.fullmatch(text)) is not None:
        return min(float(found[1]), LONGEST_PAUSE)
    until = unix(text)
    if until is None:
        return None
    since = unix(date)
    return min(max(until - (now if since is None else since), 0.0), LONGEST_PAUSE)


def unix(text: str | None) -> float | None:
    """Read an HTTP-date as Unix seconds; None when absent or garbage."""
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
