"""The note beside a committed offset: nothing that did not end is ever read from it."""

import base64
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kafka import notes

KAFKA = 4096  # characters: offset.metadata.max.bytes of a broker that was not configured


@given(
    st.integers(0, 2**62),
    st.sets(st.integers(0, 40_000), max_size=200),
    st.integers(0, 2**31 - 1),
)
def test_what_is_in_reach_comes_back(offset: int, ahead: set[int], count: int) -> None:
    note = notes.encode(offset, (offset + each for each in ahead), count)
    reached = {offset + each for each in ahead if each < notes.REACH}
    assert notes.decode(offset, note) == reached
    assert notes.partitions(note) == count


def test_with_nothing_ended_and_nothing_known_the_note_is_blank() -> None:
    assert notes.encode(10, []) == ""
    assert notes.encode(10, [], 6) == "2;10;6;"


def test_a_note_of_an_older_release_is_still_read() -> None:
    note = "1;10;cmZnx004ymg#"  # offsets 12 and 17, as the release before wrote it
    assert notes.decode(10, note) == {12, 17}
    assert notes.partitions(note) == 0


def test_the_worst_note_fits_into_kafka() -> None:
    chance = random.Random(1)
    ended = [n for n in range(notes.REACH) if chance.random() < 0.5]
    note = notes.encode(2**62, (2**62 + n for n in ended), 2**31 - 1)
    assert len(note) <= KAFKA


def test_a_note_of_another_offset_says_nothing() -> None:
    """Somebody has reset the group; a tool may have kept the note."""
    note = notes.encode(10, [12], 6)
    assert notes.decode(10, note) == {12}
    assert notes.decode(11, note) == frozenset()
    assert notes.partitions(note) == 6, "that is true beside any offset"


@given(st.text(max_size=40))
def test_any_other_note_says_nothing(text: str) -> None:
    for note in (text, f"1;10;{text}", f"3;10;{text}"):
        found = notes.decode(10, note)
        assert found == frozenset() or note.startswith("1;10;")
        assert notes.partitions(note) == 0
    for note in (f"2;10;{text}", f"2;{text}", f"2;10;-{text};", f"2;10;6;{text}"):
        notes.decode(10, note)
        assert 0 <= notes.partitions(note) < 10**10


@pytest.mark.parametrize("count", ["", "0", "06", "-6", "\u0666", "6.0", "9" * 11])
def test_a_count_that_is_none_says_nothing_at_all(count: str) -> None:
    _, _, packed = notes.encode(10, [12]).split(";", 2)
    note = f"2;10;{count};{packed}"
    assert (notes.decode(10, note), notes.partitions(note)) == (frozenset(), 0)


def test_a_bomb_costs_no_memory() -> None:
    packed = base64.b85encode(zlib.compress(b"\xff" * 10**7)).decode()
    assert len(notes.decode(0, f"1;0;{packed}")) <= notes.REACH
