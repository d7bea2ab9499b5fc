"""Members of a group know where their partitions stand among all, for their quota."""

import pytest

from tests.brokers.apache import Apache
from tests.kafka.worlds import KafkaWorld, Owner, until

pytestmark = pytest.mark.kafka


@pytest.mark.timeout(60)
async def test_each_place_among_all_partitions_is_one_members(apache: Apache) -> None:
    world = KafkaWorld(apache.bootstrap)
    topics = [f"{world.number}-orders", f"{world.number}-customers"]
    for topic in topics:
        await world.create(topic, partitions=3)
    members = [world.consumer(Owner(), world.settings(*topics)) for _ in range(2)]
    try:
        for member in members:
            await member.start()
        await until(
            lambda: sorted(len(each.assigned) for each in members) == [2, 4],
            "all partitions shared",
        )
        owned = [each.places() for each in members]
        assert [count for _, count in owned] == [6, 6]
        assert sorted(place for places, _ in owned for place in places) == [*range(6)]
    finally:
        for member in members:
            await member.stop()
