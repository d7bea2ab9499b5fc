"""Who was touched by what is sent again, and since when."""

import pytest

from pipeline.records import Record
from pipeline.replay.selection import Touched
from schemas.commands import Identity, UpsertProfile
from schemas.event import Plan


@pytest.mark.parametrize("times", [(0, 7), (7, 0), (-1, 0), (0, 0)])
def test_it_is_since_the_earliest_of_all(times: tuple[int, int]) -> None:
    """0 and -1, Kafka's word for none, are times too."""
    touched = Touched()
    assert not touched
    plan = Plan([UpsertProfile(Identity("C-1"), {}, {})])
    for offset, timestamp in enumerate(times):
        touched.learn(Record("shop", 0, offset, timestamp, None, b""), plan)
    assert touched
    assert touched.since == min(times)
    assert touched.knows(Identity("C-1").names())
