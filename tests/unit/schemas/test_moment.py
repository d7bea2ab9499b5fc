"""When an event happened, as Klaviyo takes it."""

from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Losses
from schemas.moment import moment

RECORD = 1_793_527_200_000  # ms; 2026-11-01T10:00:00Z
RECORDED = "2026-11-01T10:00:00Z"


def read(text: str | None, timestamp_ms: int = RECORD) -> tuple[str, list[str]]:
    losses = Losses()
    return moment(text, timestamp_ms, losses), list(losses.degraded)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-10-01T08:00:00Z", "2026-10-01T08:00:00Z"),
        (" 2026-10-01T08:00:00Z ", "2026-10-01T08:00:00Z"),
        ("2026-10-01T08:00:00+02:00", "2026-10-01T06:00:00Z"),
        ("2026-10-01T08:00:00", "2026-10-01T08:00:00Z"),
        ("2026-10-01 08:00:00.123456789-0530", "2026-10-01T13:30:00.123456Z"),
        ("2026-10-01", "2026-10-01T00:00:00Z"),
        ("20261001T080000Z", "2026-10-01T08:00:00Z"),
        ("2026-W40-4T08:00:00Z", "2026-10-01T08:00:00Z"),
        ("2026-10-01t08:00:00Z", "2026-10-01T08:00:00Z"),
        ("2026-10-01t08:00:00z", "2026-10-01T08:00:00Z"),
        ("2026-06-30T23:59:60Z", "2026-06-30T23:59:59Z"),
        ("2026-06-30T23:59:60.5+00:00", "2026-06-30T23:59:59.500000Z"),
        ("2000-01-01T00:00:00Z", "2000-01-01T00:00:00Z"),
        ("2027-11-01T10:00:00Z", "2027-11-01T10:00:00Z"),
    ],
)
def test_times(text: str, expected: str) -> None:
    assert read(text) == (expected, [])


@pytest.mark.parametrize("text", [None, "", "  "])
def test_a_missing_time_is_the_records(text: str | None) -> None:
    assert read(text) == (RECORDED, [])


@pytest.mark.parametrize(
    "text",
    [
        "1999-12-31T23:59:59Z",
        "2000-01-01T00:30:00+01:00",
        "2027-11-01T10:00:01Z",
        "yesterday",
        "1793527200",
        "2026-13-01T00:00:00Z",
        "2026-10-01T24:00:01Z",
        "2026-10-01T08:60:00Z",
        "2026-10-01T08:00:61Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_an_unusable_time_is_the_records_and_named(text: str) -> None:
    assert read(text) == (RECORDED, ["occurred_at"])


@pytest.mark.parametrize("timestamp", [-1, 0, 946_684_799_999, 2**62, -(2**62)])
def test_a_record_without_time(timestamp: int) -> None:
    """Then nothing bounds the event's own time, and without one the oldest allowed is."""
    assert read("2026-10-01T08:00:00Z", timestamp) == ("2026-10-01T08:00:00Z", [])
    assert read(None, timestamp) == ("2000-01-01T00:00:00Z", ["occurred_at"])


FIRST = datetime(2000, 1, 2, tzinfo=UTC)


@given(
    seconds=st.integers(
        0, int((datetime(2027, 10, 31, tzinfo=UTC) - FIRST).total_seconds())
    ),
    zone=st.timezones(),
)
def test_the_moment_stays_the_same(seconds: int, zone: tzinfo) -> None:
    time = FIRST + timedelta(seconds=seconds)
    told, lost = read(time.astimezone(zone).isoformat())
    assert lost == []
    assert told.endswith("Z")
    assert datetime.fromisoformat(told) == time
