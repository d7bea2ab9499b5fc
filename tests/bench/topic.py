"""Topics filled before anything is measured."""

import uuid
from collections.abc import Iterable

from confluent_kafka import Producer

from tests.brokers.apache import Apache

__all__ = ["filled"]


def filled(broker: Apache, values: Iterable[bytes], partitions: int = 4) -> str:
    """A new topic with these values, in turn over the partitions; its name."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    broker.create(name, partitions=partitions)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 20})
    for number, value in enumerate(values):
        producer.produce(name, value, partition=number % partitions)
        if number % 1000 == 0:
            producer.poll(0)
            if len(producer) > 50_000:
                producer.flush()
    if left := producer.flush(60):
        raise RuntimeError(f"{left} records were not written")
    return name
