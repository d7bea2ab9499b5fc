"""Reading what a server says about limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.klaviyo.headers import LONGEST_PAUSE, number, rate_limits, retry_after

NOW = 1_795_392_000.0  # Mon, 23 Nov 2026 00:00:00 GMT


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("750", {60: 750}),
        (" 750 ", {60: 750}),
        ("75, 75;w=1, 750;w=60", {1: 75, 60: 750}),
        ("10, 10;w=1, 150;w=60, 100;w=86400", {1: 10, 60: 150, 86400: 100}),
        ("75;w=1,750; w = 60", {1: 75, 60: 750}),
        ("75;w=1, oops, 750;w=60", {1: 75, 60: 750}),
        ("", {}),
        ("0", {}),
        ("-1", {}),
        ("7.5", {}),
        ("75;w=0", {}),
        ("75, 750", {}),  # which is which?
        ("9" * 50, {}),
        ("\u0663", {}),  # a digit, but not one of theirs
    ],
)
def test_limits_by_window(text: str, windows: dict[int, int]) -> None:
    assert rate_limits(text) == windows


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 60 ", 60),
        ("3601", LONGEST_PAUSE),
        ("999999999999", LONGEST_PAUSE),
        ("Mon, 23 Nov 2026 00:00:30 GMT", 30),
        ("Sun, 22 Nov 2026 23:59:00 GMT", 0),
        ("Mon, 23 Nov 2099 00:00:00 GMT", LONGEST_PAUSE),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("Mon, 99 Nov 2026 00:00:30 GMT", None),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert retry_after(text, None, NOW) == seconds


def test_a_date_counts_from_the_servers_own_clock() -> None:
    """Ours may be minutes off."""
    date, until = "Mon, 23 Nov 2026 00:05:00 GMT", "Mon, 23 Nov 2026 00:05:09 GMT"
    assert retry_after(until, date, NOW) == 9
    assert retry_after(until, "today", NOW) == 309


@given(st.text(), st.text())
def test_no_text_breaks_the_readers(text: str, date: str) -> None:
    for seconds, calls in rate_limits(text).items():
        assert seconds > 0
        assert calls > 0
    pause = retry_after(text, date, NOW)
    assert pause is None or 0 <= pause <= LONGEST_PAUSE
    assert (number(text) or 0) >= 0
