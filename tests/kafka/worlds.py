"""The same small world on a real broker and in memory: topics, records, consumers."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Protocol

from confluent_kafka import Consumer as Client
from confluent_kafka import Producer as Writer
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from pipeline.clock import SYSTEM
from pipeline.kafka.consumer import Consumer
from pipeline.kafka.producer import Producer
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import Partition, Record
from pipeline.settings import Kafka
from tests.brokers.memory import Cluster, MemoryConsumer, MemoryProducer

__all__ = [
    "WITHIN",
    "AnyConsumer",
    "KafkaWorld",
    "MemoryWorld",
    "Owner",
    "World",
    "fail",
    "read",
    "until",
]

WITHIN: Final = 20.0  # s; a deadline for what must happen, not a measurement

AnyConsumer = Consumer | MemoryConsumer
AnyProducer = Producer | MemoryProducer


async def until(true: Callable[[], bool], what: str, within: float = WITHIN) -> None:
    """Wait for something to become true."""
    try:
        async with asyncio.timeout(within):
            while not true():
                await asyncio.sleep(0.02)
    except TimeoutError:
        message = f"not within {within} s: {what}"
        raise AssertionError(message) from None


class Owner:
    """What a flow is to its consumer: told of assignments, it commits at a revoke."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.health = Health(self.metrics, SYSTEM)
        self.heard: list[frozenset[Partition] | str] = []  # assignments, and "revoked"
        self.ended: Mapping[Partition, frozenset[int]] = {}
        self.when_revoked: Callable[[], Awaitable[None]] | None = None

    def assigned(self, partitions: Mapping[Partition, frozenset[int]]) -> None:
        self.heard.append(frozenset(partitions))
        self.ended = partitions

    async def revoked(self) -> None:
        if self.when_revoked is not None:
            await self.when_revoked()
        self.heard.append("revoked")

    @property
    def failures(self) -> float:
        """Commits that were refused."""
        value: float = self.metrics.commit_failures._value.get()
        return value


class World(Protocol):
    """A broker and consumers on it; topics are named apart by `number`."""

    number: str

    async def create(self, topic: str, partitions: int = 1) -> None: ...
    async def grow(self, topic: str, partitions: int) -> None: ...
    async def write(self, partition: Partition, *values: bytes) -> None: ...
    async def delete_before(self, partition: Partition, offset: int) -> None: ...
    async def committed(self, group: str, partition: Partition) -> int | None: ...
    async def values(self, topic: str) -> list[bytes | None]: ...
    def consumer(self, owner: Owner, settings: Kafka) -> AnyConsumer: ...
    def producer(self) -> AnyProducer: ...
    def settings(self, *topics: str, start: str = "earliest") -> Kafka: ...


class MemoryWorld:
    """All of it in process."""

    def __init__(self) -> None:
        self.number = uuid.uuid4().hex[:8]
        self.cluster = Cluster()

    async def create(self, topic: str, partitions: int = 1) -> None:
        self.cluster.create(topic, partitions)

    async def grow(self, topic: str, partitions: int) -> None:
        self.cluster.create(topic, partitions)

    async def write(self, partition: Partition, *values: bytes) -> None:
        for value in values:
            self.cluster.append(partition, value)

    async def delete_before(self, partition: Partition, offset: int) -> None:
        self.cluster.delete_before(partition, offset)

    async def committed(self, group: str, partition: Partition) -> int | None:
        return self.cluster.committed.get((group, partition))

    async def values(self, topic: str) -> list[bytes | None]:
        return [record.value for record in self.cluster.logs[topic, 0]]

    def producer(self) -> MemoryProducer:
        return MemoryProducer(self.cluster)

    def settings(self, *topics: str, start: str = "earliest") -> Kafka:
        return _settings("nowhere:9092", self.number, topics, start)

    def consumer(self, owner: Owner, settings: Kafka) -> MemoryConsumer:
        return MemoryConsumer(
            self.cluster,
            settings=settings,
            metrics=owner.metrics,
            health=owner.health,
            clock=SYSTEM,
            on_assigned=owner.assigned,
            on_revoked=owner.revoked,
            exclude=[f"{self.number}-ours"],
        )


class KafkaWorld:
    """On a broker; asked and written with a client that shares no code with ours."""

    def __init__(self, bootstrap: str) -> None:
        self.number = uuid.uuid4().hex[:8]
        self.bootstrap = bootstrap
        self._common: dict[str, str | int | float | bool] = {
            "bootstrap.servers": bootstrap,
            "log_level": 0,
        }

    async def create(self, topic: str, partitions: int = 1, **config: str) -> None:
        settings = {key.replace("_", "."): value for key, value in config.items()}

        def create() -> None:
            new = NewTopic(topic, partitions, 1, config=settings)
            admin = AdminClient(self._common)  # its futures fail when it is gone
            for future in admin.create_topics([new]).values():
                future.result(WITHIN)

        await asyncio.to_thread(create)

    async def grow(self, topic: str, partitions: int) -> None:
        def grow() -> None:
            admin = AdminClient(self._common)
            for future in admin.create_partitions(
                [NewPartitions(topic, partitions)]
            ).values():
                future.result(WITHIN)

        await asyncio.to_thread(grow)

    async def write(self, partition: Partition, *values: bytes) -> None:
        def write() -> None:
            writer = Writer({**self._common, "linger.ms": 1})
            for value in values:
                writer.produce(partition[0], value, partition=partition[1])
            assert writer.flush(WITHIN) == 0

        await asyncio.to_thread(write)

    async def delete_before(self, partition: Partition, offset: int) -> None:
        def delete() -> None:
            place = TopicPartition(*partition, offset)
            admin = AdminClient(self._common)
            for future in admin.delete_records([place]).values():
                future.result(WITHIN)

        await asyncio.to_thread(delete)

    async def committed(self, group: str, partition: Partition) -> int | None:
        def ask() -> int | None:
            client = Client({**self._common, "group.id": group})
            try:
                (found,) = client.committed([TopicPartition(*partition)], WITHIN)
                return found.offset if found.offset >= 0 else None
            finally:
                client.close()

        return await asyncio.to_thread(ask)

    async def values(self, topic: str) -> list[bytes | None]:
        """All there is in partition 0 of a topic."""

        def read() -> list[bytes | None]:
            client = Client({**self._common, "group.id": "eyes"})
            try:
                place = TopicPartition(topic, 0)
                low, high = client.get_watermark_offsets(place, WITHIN)
                client.assign([TopicPartition(topic, 0, low)])
                found: list[bytes | None] = []
                while len(found) < high - low:
                    (message,) = client.consume(1, WITHIN)
                    found.append(message.value())
                return found
            finally:
                client.close()

        return await asyncio.to_thread(read)

    def producer(self) -> Producer:
        return Producer(settings=self.settings("unused"))

    def settings(self, *topics: str, start: str = "earliest") -> Kafka:
        return _settings(self.bootstrap, self.number, topics, start)

    def consumer(self, owner: Owner, settings: Kafka) -> Consumer:
        return Consumer(
            settings=settings,
            metrics=owner.metrics,
            health=owner.health,
            clock=SYSTEM,
            on_assigned=owner.assigned,
            on_revoked=owner.revoked,
            exclude=[f"{self.number}-ours"],
        )


def _settings(bootstrap: str, number: str, topics: tuple[str, ...], start: str) -> Kafka:
    return Kafka.model_validate(
        {
            "bootstrap_servers": bootstrap,
            "topics": topics,
            "group": f"group-{number}",
            "start": start,
            "session_timeout": 6,
        }
    )


async def fail(consumer: AnyConsumer) -> None:
    """Poll until it raises."""
    async with asyncio.timeout(WITHIN):
        while True:
            await consumer.poll(consumer.assigned, 10, 0.5)


async def read(
    consumer: AnyConsumer,
    count: int,
    partitions: Collection[Partition] | None = None,
    *,
    at_once: int = 100,
) -> list[Record]:
    """Poll until `count` records have come, of what is assigned unless told otherwise."""
    found: list[Record] = []
    try:
        async with asyncio.timeout(WITHIN):
            while len(found) < count:
                wanted = consumer.assigned if partitions is None else partitions
                found += await consumer.poll(
                    wanted, min(at_once, count - len(found)), 0.5
                )
    except TimeoutError:
        message = f"{len(found)} of {count} records came within {WITHIN} s"
        raise AssertionError(message) from None
    return found
