"""The embedded broker: librdkafka's in-process mock cluster.

Good for one group with one member and plain produce; it keeps about 5 MB per partition,
has no admin requests (topics appear when they are first asked for) and no transactions.
"""

from types import TracebackType
from typing import Final, Self

from confluent_kafka import Producer

__all__ = ["Broker"]

PATIENCE: Final = 10.0  # s


class Broker:
    """A mock Kafka of one broker, alive inside the block."""

    def __init__(self) -> None:
        self.address = ""  # host:port
        self._cluster: Producer | None = None

    def __enter__(self) -> Self:
        # The cluster lives as long as the client that was asked for it.
        self._cluster = Producer(
            {"test.mock.num.brokers": 1, "log_level": 0, "bootstrap.servers": "mock"}
        )
        (broker,) = self._cluster.list_topics(timeout=PATIENCE).brokers.values()
        self.address = f"{broker.host}:{broker.port}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cluster = None

    def create(self, topics: list[str]) -> None:
        """Make topics exist: the mock creates one when its metadata is asked for."""
        client = Producer({"bootstrap.servers": self.address, "log_level": 0})
        for topic in topics:
            client.list_topics(topic, PATIENCE)
