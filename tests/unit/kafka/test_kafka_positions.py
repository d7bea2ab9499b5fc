"""Where to begin: nothing is ever skipped without an error or a count of what is lost."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import OffsetsLost, OffsetsMissing
from pipeline.kafka import notes
from pipeline.kafka.positions import Bounds, Places, Start, begun, decide

PLACE = ("orders", 0)
NONE = {PLACE: frozenset[int]()}


def begin(
    bounds: Bounds,
    start: Start,
    *,
    started: Mapping[str, int] = MappingProxyType({}),
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
    assert begin(bounds, start, started={"orders": 0}).fresh == {PLACE: 0}
    assert begin(bounds, start, young=("orders",)).fresh == {PLACE: 0}


@pytest.mark.parametrize(("start", "at"), [("none", 3), ("earliest", 3), ("latest", 10)])
def test_one_that_was_there_when_the_group_began_begins_where_it_was_told(
    start: Literal["none", "earliest", "latest"], at: int
) -> None:
    """With none nobody can be asked in a group that runs: its beginning loses nothing."""
    bounds = Bounds(None, 3, 10, partitions=2)
    places = begin(bounds, start, started={"orders": 1})
    assert (places.fresh, places.first) == ({PLACE: at}, {"orders": 1})


def test_what_was_there_first_is_counted_once_and_never_raised() -> None:
    bounds = Bounds(None, 0, 10, partitions=6)
    assert begin(bounds, "latest").first == {"orders": 6}
    assert begin(bounds, "latest", started={"orders": 4}).first == {"orders": 4}
    assert begin(bounds, "latest", started={"orders": 0}).first == {"orders": 0}
    assert begin(bounds, "latest", young=("orders",)).first == {"orders": 0}


def test_a_topic_has_begun_with_what_most_of_its_notes_say_and_still_exists() -> None:
    said = [("a", ""), ("a", notes.encode(5, [], 3)), ("b", "x"), ("c", "2;0;9;")]
    assert begun(said, {"a": 4, "b": 1, "c": 6}) == {"a": 3, "b": 0, "c": 6}


class Group:
    """A topic, and a group that takes up its partitions part by part."""

    def __init__(self, start: Start, partitions: int, *, known: bool) -> None:
        self.start = start
        self.count = partitions
        self.known = known  # whether its members write how many there were
        self.offsets: dict[int, tuple[int, str]] = {}
        self.at: dict[int, int] = {}  # where each partition began

    def look(self, numbers: Collection[int]) -> Places:
        """What a member decides that is given these."""
        said = [("orders", note) for _, note in self.offsets.values()]
        bounds = {}
        for number in numbers:
            offset, note = self.offsets.get(number, (None, ""))
            bounds["orders", number] = Bounds(offset, 5, 10, note, self.count)
        return decide(
            bounds,
            group="g",
            start=self.start,
            started=begun(said, {"orders": self.count}),
            young=(),
        )

    def commit(self, places: Places) -> None:
        for (topic, number), at in places.fresh.items():
            first = places.first[topic] if self.known else 0
            self.offsets[number] = at, notes.encode(at, (), first)
            self.at[number] = at


@given(st.data(), st.sampled_from(["earliest", "latest"]), st.integers(1, 5))
def test_members_that_begin_together_begin_as_one_would(
    data: st.DataObject, start: Start, there: int
) -> None:
    """Whoever commits first, whoever dies before, and whatever is added meanwhile."""
    group = Group(start, there, known=True)
    for _ in range(data.draw(st.integers(1, 6), "assignments")):
        numbers = data.draw(st.sets(st.integers(0, group.count - 1), min_size=1))
        member = group.look(numbers)
        if data.draw(st.booleans(), "it lives to commit"):
            group.commit(member)
            if data.draw(st.booleans(), "partitions are added"):
                group.count += data.draw(st.integers(1, 3))
    group.commit(group.look(range(group.count)))
    old = {number: at for number, at in group.at.items() if number < there}
    new = {number: at for number, at in group.at.items() if number >= there}
    assert set(old.values()) == {10 if start == "latest" else 5}
    assert set(new.values()) <= {5}, "what came later is new to the group"


@given(st.data(), st.integers(2, 5))
def test_a_group_of_an_older_release_goes_on_as_it_did(
    data: st.DataObject, there: int
) -> None:
    group = Group("latest", there, known=False)
    group.commit(group.look([0]))
    group.known = True
    for number in data.draw(st.permutations(range(1, there))):
        group.commit(group.look([number]))
    assert {group.at.pop(0), *group.at.values()} == {10, 5}
    assert all(notes.partitions(note) == 0 for _, note in group.offsets.values())


def test_a_topic_made_anew_with_fewer_partitions_is_new_where_it_grows_again() -> None:
    group = Group("latest", 4, known=True)
    group.commit(group.look(range(4)))
    group.count, group.offsets = 2, {0: group.offsets[0], 1: group.offsets[1]}
    for number, (at, _) in group.offsets.items():  # its members go on, and commit
        first = group.look([number]).first["orders"]
        group.offsets[number] = at, notes.encode(at, (), first)
    group.count = 4
    assert group.look([2, 3]).fresh == {("orders", 2): 5, ("orders", 3): 5}


def test_records_deleted_unread_are_an_error_that_names_the_gap() -> None:
    with pytest.raises(OffsetsLost, match="orders-0: committed 2, there are 5 to 10"):
        begin(Bounds(2, 5, 10), "none")


def test_after_a_loss_start_decides_and_what_is_skipped_is_counted() -> None:
    bounds = Bounds(2, 5, 10)
    assert begin(bounds, "earliest") == Places(
        {PLACE: 5}, {}, {PLACE: 3}, NONE, {"orders": 0}
    )
    assert begin(bounds, "latest") == Places(
        {PLACE: 10}, {}, {PLACE: 8}, NONE, {"orders": 0}
    )


def test_a_topic_made_anew_is_a_loss() -> None:
    bounds = Bounds(50, 0, 10)
    with pytest.raises(OffsetsLost, match="committed 50, there are 0 to 10"):
        begin(bounds, "none")
    assert begin(bounds, "earliest").at == {PLACE: 0}
    assert begin(bounds, "latest") == Places(
        {PLACE: 10}, {}, {PLACE: 10}, NONE, {"orders": 0}
    )


def test_every_topic_without_offsets_is_named_once() -> None:
    bounds = {(topic, n): Bounds(None, 0, 1) for topic in "ba" for n in range(2)}
    with pytest.raises(OffsetsMissing, match="no offsets in a, b,"):
        decide(bounds, group="g", start="none", started={}, young=())


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
        places = begin(bounds, start, started={"orders": 0} if started else {})
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
