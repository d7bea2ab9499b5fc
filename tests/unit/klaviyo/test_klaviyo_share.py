"""Replicas share one quota by the partitions they own, and never have it twice."""

import asyncio

from pipeline.klaviyo.share import SLACK, Share
from tests.virtual_time import virtual

WINDOW = 60


@virtual
async def test_one_replica_has_the_whole_at_once() -> None:
    given: list[float] = []
    Share(0.5, given.append).owns(1.0)
    assert given == [0.5]


@virtual
async def test_a_smaller_share_holds_at_once_a_larger_one_after_the_window() -> None:
    given: list[float] = []
    share = Share(1.0, given.append)
    share.owns(1.0)
    share.owns(1 / 3)
    assert given == [1.0, 1 / 3]
    share.owns(2 / 3)
    await asyncio.sleep(WINDOW)
    assert len(given) == 2, "the former owner's calls still count at Klaviyo"
    await asyncio.sleep(SLACK + 1)
    assert given[-1] == 2 / 3


@virtual
async def test_a_share_that_goes_before_it_came_is_never_taken() -> None:
    given: list[float] = []
    share = Share(1.0, given.append)
    share.owns(0.25)
    share.owns(1.0)
    await asyncio.sleep(WINDOW / 2)
    share.owns(0.25)
    await asyncio.sleep(WINDOW * 3)
    assert set(given) == {0.25}


@virtual
async def test_owning_nothing_changes_nothing() -> None:
    given: list[float] = []
    share = Share(1.0, given.append)
    share.owns(0.5)
    share.owns(0)
    await asyncio.sleep(WINDOW * 3)
    assert given == [0.5]
