"""When an event happened: RFC 3339 in, RFC 3339 UTC out."""

import re
from datetime import UTC, datetime
from typing import Final

from schemas.event import Losses

__all__ = ["moment", "parsed", "written"]

# The oldest time an event may have: 2000 in every revision before 2026-07-15, 1990 since
# (Klaviyo, POST /api/events, `time`). Seconds since the epoch.
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
_AHEAD: Final = 365 * 86_400  # s; "up to 1 year in the future", same page
_CANONICAL: Final = len("2026-11-01T10:00:00Z")
_LEAP: Final = re.compile(r"(?<=:\d\d):60")  # a second that Python does not know


def moment(occurred_at: str | None, timestamp_ms: int, losses: Losses) -> str:
    """Return the time of an event as RFC 3339 in UTC.

    A time without offset is UTC. A missing one is the record's own; one that Klaviyo
    would refuse or nobody can read is too, and counts as lost.
    """
    recorded = timestamp_ms / 1000  # s
    dated = _EARLIEST <= recorded <= _LATEST  # a broker without time says -1
    if occurred_at and (text := occurred_at.strip()):
        latest = recorded + _AHEAD if dated else _LATEST
        if (happened := parsed(text)) and _EARLIEST <= happened.timestamp() <= latest:
            canonical = len(text) == _CANONICAL and text[7::3] == "-T::Z"
            canonical = canonical and text[17] != "6"  # a leap second
            return text if canonical else written(happened)
        losses.lose("occurred_at")
    if not dated:
        losses.lose("occurred_at")
        recorded = _EARLIEST
    return written(datetime.fromtimestamp(recorded, UTC))


def parsed(text: str) -> datetime | None:
    """Return the time in UTC, which is that of one without offset; None if it is none."""
    try:
        happened = _read(text)
        if happened.tzinfo is UTC:
            return happened
        if happened.tzinfo is None:
            return happened.replace(tzinfo=UTC)
        return happened.astimezone(UTC)
    except (ValueError, OverflowError):  # no time; a zone shifts it out of the calendar
        return None


def _read(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # RFC 3339 5.6 and 5.7 allow small letters and leap seconds
        return datetime.fromisoformat(_LEAP.sub(":59", text.upper()))


def written(time: datetime) -> str:
    """Return a time in UTC as RFC 3339."""
    return time.isoformat().removesuffix("+00:00") + "Z"
