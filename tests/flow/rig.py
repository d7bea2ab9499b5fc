"""What a flow test stands on: own topics, a sandbox, and eyes on both ends."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from pipeline.demo.shop import Made
from pipeline.kafka.state import State
from pipeline.sandbox import Sandbox
from pipeline.sandbox.faults import Rule
from pipeline.settings import Kafka
from tests.flow.service import Service

__all__ = ["Rig", "events", "until"]


async def until(
    true: Callable[[], bool], *, within: float = 60.0, what: str = ""
) -> None:
    """Wait for something to become true; a deadline, not a measurement."""
    try:
        async with asyncio.timeout(within):
            while not true():
                await asyncio.sleep(0.05)
    except TimeoutError:
        message = f"not within {within} s: {what or true}"
        raise AssertionError(message) from None


def events(sandbox: Sandbox) -> list[dict[str, Any]]:
    """The events Klaviyo holds."""
    held = sandbox.state.events
    names = {metric.id: metric.name for metric in held.metrics()}
    return [
        {
            "metric": names[event.metric],
            "unique_id": event.unique_id,
            "value": event.value,
            "value_currency": event.currency,
            "properties": json.loads(event.properties),
        }
        for event in held
    ]


@dataclass
class Rig:
    """One test's world. `number` keeps it apart from other tests on the same broker."""

    bootstrap: str
    sandbox: Sandbox
    partitions: int = 3
    replicas: int = 1
    sent: int = 0  # records written so far
    number: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @property
    def customers(self) -> str:
        return f"customers-{self.number}"

    @property
    def orders(self) -> str:
        return f"orders-{self.number}"

    @property
    def dead_letters(self) -> str:
        return f"dead-{self.number}"

    def service(self, **more: str) -> Service:
        """A pipeline on this rig's topics; `more` are settings as SECTION__FIELD."""
        own = {
            "subscription__name": f"test {self.number}",
            "kafka__topics": f"{self.customers},{self.orders}",
            "topics__dead_letters": self.dead_letters,
            "reverse__enabled": "false",
        }
        return Service(self.bootstrap, self.sandbox.url, **(own | more))

    async def create_topics(self) -> None:
        def create() -> None:
            admin = AdminClient({"bootstrap.servers": self.bootstrap})
            wanted = [(self.customers, self.partitions), (self.orders, self.partitions)]
            wanted.append((self.dead_letters, 1))
            made = admin.create_topics([NewTopic(n, p, self.replicas) for n, p in wanted])
            for future in made.values():
                future.result(20)

        await asyncio.to_thread(create)

    async def send(self, records: Iterable[Made]) -> int:
        """Write records; shop.customers and shop.orders become the rig's topics."""
        names = {"shop.customers": self.customers, "shop.orders": self.orders}

        def write() -> int:
            # Without idempotence a batch that is tried again may come after the next one:
            # then the shop's order is not that of the topic.
            producer = Producer(
                {
                    "bootstrap.servers": self.bootstrap,
                    "linger.ms": 5,
                    "enable.idempotence": True,
                    "log_level": 2,  # that a new broker is not ready yet is no news
                }
            )
            count = 0
            for made in records:
                producer.produce(names[made.topic], made.value, made.key)
                count += 1
                if count % 1000 == 0:
                    producer.flush()
            assert producer.flush(30) == 0
            return count

        count = await asyncio.to_thread(write)
        self.sent += count
        return count

    async def customer(self, kind: str = "customer.updated", **customer: Any) -> None:
        """Write one customer record."""
        value = json.dumps({"type": kind, "customer": customer}).encode()
        await self.send([Made("shop.customers", str(customer.get("id")).encode(), value)])

    async def read_dead_letters(
        self, expected: int, within: float = 20.0
    ) -> list[Message]:
        """All dead letters, once there are so many or `within` s have passed."""

        def read() -> list[Message]:
            consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "eyes"})
            found: list[Message] = []
            try:
                topic = consumer.list_topics(self.dead_letters, 10).topics
                for number in topic[self.dead_letters].partitions:
                    place = TopicPartition(self.dead_letters, number)
                    start, end = consumer.get_watermark_offsets(place, 10)
                    consumer.assign([TopicPartition(place.topic, number, start)])
                    while start < end:
                        message = consumer.poll(10)
                        assert message is not None, "the topic cannot be read"
                        assert not message.error(), message.error()
                        start = (message.offset() or 0) + 1
                        found.append(message)
            finally:
                consumer.close()
            return found

        end = time.monotonic() + within
        while len(found := await asyncio.to_thread(read)) < expected:
            if time.monotonic() > end:
                break
            await asyncio.sleep(0.1)
        return found

    async def state(self, owner: str) -> dict[str, bytes]:
        """What the service keeps under `<slug>/<owner>` in the state topic."""
        kept = State(
            Kafka(bootstrap_servers=self.bootstrap),
            "klaviyo.state",
            f"test-{self.number}/{owner}",
        )
        return await kept.load()

    async def lag(self) -> int:
        """Records sent by this rig above the group's committed offsets.

        Counted from what was sent, not from what the broker calls its end: after a crash
        that may lag behind for a while.
        """

        def ask() -> int:
            consumer = Consumer(
                {
                    "bootstrap.servers": self.bootstrap,
                    "group.id": f"klaviyo-test-{self.number}",
                }
            )
            try:
                done = 0
                for topic in (self.customers, self.orders):
                    found = consumer.list_topics(topic, 10).topics[topic].partitions
                    places = [TopicPartition(topic, number) for number in found]
                    try:
                        committed = consumer.committed(places, 10)
                    except KafkaException as error:
                        if error.args[0].code() != KafkaError.NOT_COORDINATOR:
                            raise
                        committed = []  # a broker so new that it has no groups yet
                    done += sum(max(0, place.offset) for place in committed)
                return self.sent - done
            finally:
                consumer.close()

        return await asyncio.to_thread(ask)

    async def drained(self, within: float = 60.0) -> None:
        """Wait until everything written is settled and committed."""
        async with asyncio.timeout(within):
            while await self.lag() > 0:
                await asyncio.sleep(0.2)

    def events(self) -> list[dict[str, Any]]:
        """The events Klaviyo holds."""
        return events(self.sandbox)

    @property
    def accepted(self) -> int:
        """Writes that Klaviyo has accepted so far."""
        return sum(
            count
            for operation, statuses in self.sandbox.ledger.statuses.items()
            if operation.startswith("POST")
            for status, count in statuses.items()
            if 200 <= status < 300
        )

    @property
    def rows(self) -> int:
        """Profiles and events in the writes Klaviyo has accepted so far."""
        minutes = self.sandbox.ledger.minutes.values()
        return sum(count.rows for spans in minutes for count in spans.values())

    def fault(self, *rules: dict[str, Any]) -> None:
        """Script these faults instead of any other; see pipeline/sandbox/faults.py."""
        self.sandbox.faults.clear()
        self.sandbox.faults.add(*msgspec.convert(rules, list[Rule]))

    def set(self, **settings: Any) -> None:
        """Change settings of the sandbox; see pipeline/sandbox/settings.py."""
        self.sandbox.settings = self.sandbox.settings.changed(settings)

    def profile(self, external_id: str) -> dict[str, Any]:
        """The attributes of the profile with that external id."""
        for profile in self.sandbox.state.profiles:
            if profile.identifiers.get("external_id") == external_id:
                return {
                    **profile.fields,
                    **profile.identifiers,
                    "location": profile.location,
                    "properties": profile.properties,
                }
        message = f"no profile {external_id}"
        raise AssertionError(message)
