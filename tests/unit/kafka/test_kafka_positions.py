"""Where to begin: nothing is ever skipped without an error or a count of what is lost."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import OffsetsLost, OffsetsMissing
from pipeline.kafka.positions import Bounds, Places, Start, decide

PLACE = ("orders", 0)


def begin(
    bounds: Bounds,
    start: Start,
    *,
    started: tuple[str, ...] = (),
    young: tuple[str, ...] = (),
) -> Places:
    return decide({PLACE: bounds}, group="g", start=start, started=started, young=young)


@pytest.mark.parametrize("start", ["none", "earliest", "latest"])
@pytest.mark.parametrize("committed", [5, 7, 10])
def test_a_committed_offset_that_is_there_always_counts(
    start: Literal["none", "earliest", "latest"], committed: int
) -> None:
    places = begin(Bounds(committed, 5, 10), start)
    assert (places.at, places.fresh, places.lost) == ({PLACE: committed}, {}, {})


def test_a_group_without_offsets_begins_where_it_was_told() -> None:
    bounds = Bounds(None, 5, 10)
    assert begin(bounds, "earliest").fresh == {PLACE: 5}
    assert begin(bounds, "latest").fresh == {PLACE: 10}
    with pytest.raises(OffsetsMissing, match="group g has no offsets in orders"):
        begin(bounds, "none")


@pytest.mark.parametrize("start", ["none", "earliest", "latest"])
def test_a_partition_or_topic_that_came_later_begins_at_its_beginning(
    start: Literal["none", "earliest", "latest"],
) -> None:
    bounds = Bounds(None, 0, 10)
    assert begin(bounds, start, started=("orders",)).fresh == {PLACE: 0}
    assert begin(bounds, start, young=("orders",)).fresh == {PLACE: 0}


def test_records_deleted_unread_are_an_error_that_names_the_gap() -> None:
    with pytest.raises(OffsetsLost, match="orders-0: committed 2, there are 5 to 10"):
        begin(Bounds(2, 5, 10), "none")


def test_after_a_loss_start_decides_and_what_is_skipped_is_counted() -> None:
    bounds = Bounds(2, 5, 10)
    assert begin(bounds, "earliest") == Places(
        {PLACE: 5}, {}, {PLACE: 3}, {PLACE: frozenset()}
    )
    assert begin(bounds, "latest") == Places(
        {PLACE: 10}, {}, {PLACE: 8}, {PLACE: frozenset()}
    )


def test_a_topic_made_anew_is_a_loss() -> None:
    bounds = Bounds(50, 0, 10)
    with pytest.raises(OffsetsLost, match="committed 50, there are 0 to 10"):
        begin(bounds, "none")
    assert begin(bounds, "earliest").at == {PLACE: 0}
    assert begin(bounds, "latest") == Places(
        {PLACE: 10}, {}, {PLACE: 10}, {PLACE: frozenset()}
    )


def test_every_topic_without_offsets_is_named_once() -> None:
    bounds = {(topic, n): Bounds(None, 0, 1) for topic in "ba" for n in range(2)}
    with pytest.raises(OffsetsMissing, match="no offsets in a, b,"):
        decide(bounds, group="g", start="none", started=(), young=())


@given(
    committed=st.none() | st.integers(0, 20),
    beginning=st.integers(0, 10),
    length=st.integers(0, 10),
    start=st.sampled_from(["none", "earliest", "latest"]),
    started=st.booleans(),
)
def test_nothing_is_skipped_silently(
    *, committed: int | None, beginning: int, length: int, start: Start, started: bool
) -> None:
    """What is above the committed offset is read, counted as lost, or an error.

    The one exception is what `latest` is there for: a group that begins.
    """
    bounds = Bounds(committed, beginning, beginning + length)
    try:
        places = begin(bounds, start, started=("orders",) if started else ())
    except (OffsetsMissing, OffsetsLost):
        assert start == "none"
        return
    at = places.at[PLACE]
    assert beginning <= at <= beginning + length
    if committed is None:
        assert places.fresh == {PLACE: at}
        assert at == beginning or (start == "latest" and not started)
    elif committed <= beginning + length:
        assert at - committed == places.lost.get(PLACE, 0)
    else:
        assert PLACE in places.lost
