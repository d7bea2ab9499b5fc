"""The note beside a committed offset: nothing that did not end is ever read from it."""

import base64
import random
import zlib

from hypothesis import given
from hypothesis import strategies as st

from pipeline.kafka import notes

KAFKA = 4096  # characters: offset.metadata.max.bytes of a broker that was not configured


@given(st.integers(0, 2**62), st.sets(st.integers(0, 40_000), max_size=200))
def test_what_is_in_reach_comes_back(offset: int, ahead: set[int]) -> None:
    note = notes.encode(offset, (offset + each for each in ahead))
    reached = {offset + each for each in ahead if each < notes.REACH}
    assert notes.decode(offset, note) == reached


def test_the_worst_note_fits_into_kafka() -> None:
    chance = random.Random(1)
    ended = [n for n in range(notes.REACH) if chance.random() < 0.5]
    assert len(notes.encode(2**62, (2**62 + n for n in ended))) <= KAFKA


def test_a_note_of_another_offset_says_nothing() -> None:
    """Somebody has reset the group; a tool may have kept the note."""
    note = notes.encode(10, [12])
    assert notes.decode(10, note) == {12}
    assert notes.decode(11, note) == frozenset()


@given(st.text(max_size=40))
def test_any_other_note_says_nothing(text: str) -> None:
    for note in (text, f"1;10;{text}", f"2;10;{notes.encode(10, [12])}"):
        found = notes.decode(10, note)
        assert found == frozenset() or note.startswith("1;10;")


def test_a_bomb_costs_no_memory() -> None:
    packed = base64.b85encode(zlib.compress(b"\xff" * 10**7)).decode()
    assert len(notes.decode(0, f"1;0;{packed}")) <= notes.REACH
