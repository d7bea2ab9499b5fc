"""The worlds the contract suite runs in."""

import pytest

from pipeline.kafka import membership
from tests.brokers.apache import Apache
from tests.kafka.worlds import KafkaWorld, MemoryWorld, World


@pytest.fixture(params=["memory", pytest.param("apache", marks=pytest.mark.kafka)])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    """One after the other: in memory, and on a real broker."""
    monkeypatch.setattr(membership, "WATCH_EVERY", 0.3)
    monkeypatch.setattr(membership, "TOPICS_EVERY", 0.0)
    if request.param == "memory":
        return MemoryWorld()
    broker: Apache = request.getfixturevalue("kafka")
    return KafkaWorld(broker.bootstrap)


@pytest.fixture
def apache(kafka: Apache) -> Apache:
    """A real broker that may be killed."""
    if not kafka.ours:
        pytest.skip("the broker of KAFKA_BOOTSTRAP_SERVERS must not be killed or frozen")
    return kafka
