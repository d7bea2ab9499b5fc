"""Looking at topics and making them, on a real broker and on one that cannot."""

from collections.abc import Iterator

import pytest

from pipeline.demo.broker import Broker
from pipeline.errors import KafkaUnreachable
from pipeline.kafka.admin import RETENTION, Admin, Topic, TopicRefused
from tests.brokers.apache import Apache
from tests.kafka.worlds import KafkaWorld


@pytest.fixture
def embedded() -> Iterator[KafkaWorld]:
    with Broker() as broker:
        yield KafkaWorld(broker.address)


@pytest.mark.kafka
async def test_what_is_missing_is_made_and_described(kafka: Apache) -> None:
    world = KafkaWorld(kafka.bootstrap)
    admin = Admin(world.settings("unused"))
    there, dead, nowhere = (f"{world.number}-{name}" for name in ("a", "dead", "no"))
    await world.create(there, partitions=3, retention_ms="-1", cleanup_policy="compact")
    assert await admin.create_missing(there, dead) == [dead]
    assert await admin.create_missing(there, dead) == []
    found = await admin.describe([there, dead, nowhere])
    assert found[there] == Topic(there, 3, -1, "compact", 1)
    assert found[nowhere] is None
    made = found[dead]
    assert made is not None
    assert (made.retention_ms, made.cleanup_policy) == (RETENTION, "delete")


@pytest.mark.kafka
async def test_a_topic_the_broker_refuses_is_said(kafka: Apache) -> None:
    admin = Admin(KafkaWorld(kafka.bootstrap).settings("unused"))
    with pytest.raises(TopicRefused, match="no/slashes"):
        await admin.create_missing("no/slashes")


@pytest.mark.timeout(60)
async def test_a_broker_without_admin_makes_topics_when_asked_for(
    embedded: KafkaWorld,
) -> None:
    admin = Admin(embedded.settings("unused"))
    assert await admin.describe(["dead"]) == {"dead": None}, "looking makes none"
    assert await admin.create_missing("dead") == ["dead"]
    found = (await admin.describe(["dead"]))["dead"]
    assert found is not None
    assert (found.partitions > 0, found.retention_ms, found.cleanup_policy) == (
        True,
        None,
        None,
    )


async def test_nobody_listens_at_the_address() -> None:
    with pytest.raises(KafkaUnreachable, match=r"127\.0\.0\.1:9"):
        await Admin(KafkaWorld("127.0.0.1:9").settings("unused")).describe(["a"])
