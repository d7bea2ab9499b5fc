"""Replicas share one quota by the partitions they own, and never have it twice."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from pipeline.klaviyo.portion import Portion
from pipeline.klaviyo.share import SLACK, Share
from tests.virtual_time import virtual

WINDOW = 60
CALLS = 150


class Given:
    """What a process may use, time after time, of a quota of 150 calls."""

    def __init__(self, whole: float = 1.0) -> None:
        self.calls: list[int] = []
        self.share = Share(whole, self._given)

    def _given(self, *portions: Portion) -> None:
        self.calls.append(min(portion.calls(CALLS) for portion in portions))


@given(
    calls=st.integers(1, 5000),
    whole=st.sampled_from([1.0, 0.5, 1 / 3, 0.9]),
    owners=st.lists(st.integers(0, 9), min_size=1, max_size=40),
)
def test_the_parts_of_all_replicas_are_the_whole(
    calls: int, whole: float, owners: list[int]
) -> None:
    """Whoever owns which partition: no call is nobody's, and none is two replicas'."""
    parts = [
        Portion(
            whole, tuple(n for n, one in enumerate(owners) if one == owner), len(owners)
        )
        for owner in set(owners)
    ]
    assert sum(part.calls(calls) for part in parts) == int(calls * whole + 1e-9)


@virtual
async def test_one_replica_has_the_whole_at_once() -> None:
    given = Given(0.5)
    given.share.owns([0, 1], 2)
    assert given.calls == [75]


@virtual
async def test_a_smaller_share_holds_at_once_a_larger_one_after_the_window() -> None:
    given = Given()
    given.share.owns([0, 1, 2], 3)
    given.share.owns([0], 3)
    assert given.calls == [150, 50]
    given.share.owns([0, 1], 3)
    await asyncio.sleep(WINDOW)
    assert given.calls[-1] == 50, "the former owner's calls still count at Klaviyo"
    await asyncio.sleep(SLACK + 1)
    assert given.calls[-1] == 100


@virtual
async def test_a_call_that_another_partition_brings_comes_after_the_window() -> None:
    """As many partitions, but of 150 calls the first has 37 and the second 38."""
    given = Given()
    given.share.owns([0], 4)
    given.share.owns([1], 4)
    assert given.calls == [37, 37]
    await asyncio.sleep(WINDOW + SLACK + 1)
    assert given.calls[-1] == 38


@virtual
async def test_a_share_that_goes_before_it_came_is_never_taken() -> None:
    given = Given()
    given.share.owns([0], 4)
    given.share.owns([0, 1, 2, 3], 4)
    await asyncio.sleep(WINDOW / 2)
    given.share.owns([0], 4)
    await asyncio.sleep(WINDOW * 3)
    assert set(given.calls) == {37}


@virtual
async def test_owning_nothing_changes_nothing() -> None:
    given = Given()
    given.share.owns([0], 2)
    given.share.owns([], 2)
    await asyncio.sleep(WINDOW * 3)
    assert given.calls == [75]
