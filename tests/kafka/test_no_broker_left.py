"""A cluster that names no broker for a moment, as one does whose broker was fenced.

aiokafka answers with an assertion of its own; to us it is Kafka being away, no bug.
"""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient

from pipeline.errors import KafkaUnreachable
from pipeline.kafka import producer
from pipeline.kafka.admin import Admin
from pipeline.kafka.client import Client
from pipeline.kafka.producer import Producer
from pipeline.kafka.ranges import Unreadable, look, topics
from pipeline.kafka.transactions import Away, Transactions
from pipeline.settings import Kafka
from tests.brokers.apache import Apache
from tests.kafka.worlds import KafkaWorld, Owner, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60)]
Opening = Callable[[Kafka], Awaitable[object]]


@pytest.fixture
def settings(kafka: Apache) -> Kafka:
    return Kafka(bootstrap_servers=kafka.bootstrap)


@pytest.mark.parametrize(
    "opening",
    [
        pytest.param(lambda s: Producer(settings=s).start(), id="producer"),
        pytest.param(lambda s: Admin(s).describe(["any"]), id="admin"),
    ],
)
async def test_whoever_connects_says_that_kafka_is_away(
    settings: Kafka, opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AIOKafkaClient, "get_random_node", lambda _: None)
    monkeypatch.setattr(producer, "START_LIMIT", 1.0)  # it tries again for so long
    with pytest.raises(KafkaUnreachable):
        await opening(settings)


async def test_who_looks_what_topics_hold_says_so_too(
    kafka: Apache, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = uuid.uuid4().hex
    kafka.create(topic)
    client = Client(Kafka(bootstrap_servers=kafka.bootstrap, topics=(topic,)))
    await client.open()
    try:
        assert await topics(client, ()) == {topic}
        monkeypatch.setattr(AIOKafkaClient, "get_random_node", lambda _: None)
        with pytest.raises(KafkaUnreachable, match="health of the cluster"):
            await look(client, [(topic, 0)])
        monkeypatch.setattr(AIOKafkaClient, "_get_conn", unconnected)
        with pytest.raises(Unreadable, match="health of the cluster"):
            await topics(client, ())
    finally:
        await client.close()


async def unconnected(*_: Any, **__: Any) -> None:
    """No broker takes a connection."""


async def test_a_transaction_is_opened_anew(
    settings: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup = AIOKafkaClient.coordinator_lookup

    async def fenced(self: Any, *args: Any) -> Any:
        self.cluster._brokers = {}
        return await lookup(self, *args)

    transactions = Transactions(settings, uuid.uuid4().hex)
    with monkeypatch.context() as now:
        now.setattr(AIOKafkaClient, "coordinator_lookup", fenced)
        with pytest.raises(Away):
            await transactions.open()
    await transactions.open()
    await transactions.close()


async def test_a_member_of_the_group_connects_anew(
    kafka: Apache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its coordination task dies of it, and nobody but us restarts it."""
    topic = uuid.uuid4().hex
    kafka.create(topic)
    world = KafkaWorld(kafka.bootstrap)
    owner = Owner()
    consumer = world.consumer(owner, world.settings(topic))
    lookup = AIOKafkaClient.coordinator_lookup
    met: list[Any] = []

    async def fenced(self: Any, *args: Any) -> Any:
        if not met:
            met.append(args)
            self.cluster._brokers = {}
        return await lookup(self, *args)

    monkeypatch.setattr(AIOKafkaClient, "coordinator_lookup", fenced)
    await consumer.start()
    try:
        await until(lambda: bool(owner.heard), "it is assigned")
    finally:
        await consumer.stop()
    assert met
