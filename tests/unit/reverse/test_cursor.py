"""Where the poller goes on, and when it refuses to."""

import pytest

from pipeline.reverse.cursor import Cursor, CursorLost, decode, encode, stamp

NOW = 1_795_000_000.0


def test_the_first_cursor_begins_where_the_setting_says() -> None:
    assert decode(None, NOW, "all", 0) == Cursor(0, 0, 0)


def test_a_stored_cursor_counts_more_than_the_setting() -> None:
    stored = Cursor(5, 6, 0, 7)
    assert decode(encode(stored), NOW, "now", int(NOW)) == stored


@pytest.mark.parametrize(
    "value", [b"{", b"{}", b'"x"', encode(Cursor(int(NOW) + 9_999, 0, 0))]
)
def test_a_cursor_nobody_can_use_names_its_cure(value: bytes) -> None:
    with pytest.raises(CursorLost, match=r"PIPELINE_REVERSE__START=20.*Z klaviyo"):
        decode(value, NOW, "now", int(NOW))
    assert decode(value, NOW, stamp(100), 100).updated == 100


@pytest.mark.parametrize("start", ["now", "all"])
def test_a_lost_one_is_not_taken_for_the_first(start: str) -> None:
    with pytest.raises(CursorLost, match=r"PIPELINE_REVERSE__START=20.*Z klaviyo"):
        decode(None, NOW, start, int(NOW), lost=True)
    assert decode(None, NOW, stamp(100), 100, lost=True) == Cursor(100, 100, 100)


def test_it_never_goes_back() -> None:
    cursor = Cursor(10, 10, 0, 10)
    assert cursor.advanced(updated=5, suppressed=5, swept=5) == cursor
    assert cursor.advanced(updated=11).updated == 11
