"""What a test of the reverse direction stands on: a sandbox, own topics, a witness."""

import asyncio
import json
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Self

from confluent_kafka import Consumer, Producer, TopicPartition

from pipeline.sandbox import Sandbox
from pipeline.sandbox.profile import Profile
from tests.flow.rig import until
from tests.flow.service import Service

__all__ = ["Back", "Reverse", "Said"]


@dataclass(frozen=True)
class Said:
    """One message as a reader of committed records sees it."""

    key: str
    headers: dict[str, Any]
    value: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.value["type"]).rpartition(".")[2]

    @property
    def who(self) -> str:
        return str(self.value["profile"]["id"])

    @property
    def id(self) -> str:
        return str(self.value["id"])


class Back(Service):
    """`run --only reverse`."""

    command = ("run", "--only", "reverse")

    def plant(self, fall: str, by: str) -> Self:
        """Let it fall at one moment; see `tests.reverse.dying`."""
        self.module = "tests.reverse.dying"
        self._environ |= {"FALL": fall, "FALL_BY": by}
        return self


@dataclass
class Reverse:
    """One test's world."""

    bootstrap: str
    sandbox: Sandbox
    number: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @property
    def profiles(self) -> str:
        return f"profiles-{self.number}"

    @property
    def state(self) -> str:
        return f"state-{self.number}"

    def service(self, **more: str) -> Back:
        own = {
            "subscription__name": f"back {self.number}",
            "topics__profiles": self.profiles,
            "topics__state": self.state,
            "topics__dead_letters": f"dead-{self.number}",
            "reverse__interval": "0.2",
            "reverse__settle": "0",
            "reverse__overlap": "3",
            "reverse__consent_interval": "0.5",
            "reverse__start": "all",
        }
        return Back(self.bootstrap, self.sandbox.url, **(own | more))

    def dying(self, fall: str, by: str = "KILL") -> Back:
        """One that dies, or falls asleep, in the midst of a transaction."""
        return self.service().plant(fall, by)

    def make(self, name: str, **attributes: Any) -> Profile:
        """A profile somebody made by hand."""
        state = self.sandbox.state
        given = {"email": f"{name}@shop.dev", "first_name": name, **attributes}
        return state.profiles.create(given, state.clock.now())

    def edit(self, profile: Profile, **attributes: Any) -> None:
        """A marketer's edit."""
        state = self.sandbox.state
        state.profiles.update(profile.id, attributes, None, state.clock.now())

    async def next_second(self) -> None:
        """Wait for another second by Klaviyo's clock, which is the grain of `updated`."""
        clock = self.sandbox.state.clock
        now = int(clock.now())
        await until(lambda: int(clock.now()) > now)

    async def pages(self, count: int) -> None:
        """Wait until Klaviyo has given so many more pages of profiles."""
        ledger = self.sandbox.ledger

        def given() -> int:
            return ledger.statuses.get("GET /api/profiles", {}).get(200, 0)

        wanted = given() + count
        await until(lambda: given() >= wanted, what=f"{count} pages")

    async def write_state(self, key: str, value: bytes) -> None:
        """Write into the state topic behind the pipeline's back."""

        def write() -> None:
            producer = Producer({"bootstrap.servers": self.bootstrap})
            producer.produce(self.state, value, f"back-{self.number}/{key}".encode())
            assert producer.flush(10) == 0

        await asyncio.to_thread(write)

    async def read(self) -> list[Said]:
        """All there is for a reader of committed records, partition by partition."""

        def read() -> list[Said]:
            consumer = Consumer(
                {
                    "bootstrap.servers": self.bootstrap,
                    "group.id": f"eyes-{uuid.uuid4().hex}",
                    "isolation.level": "read_committed",
                    "enable.partition.eof": "true",
                    "enable.auto.commit": "false",
                    "auto.offset.reset": "earliest",
                }
            )
            found: list[Said] = []
            try:
                topic = consumer.list_topics(self.profiles, 10).topics[self.profiles]
                left = set(topic.partitions)
                consumer.assign([TopicPartition(self.profiles, n, 0) for n in left])
                while left:
                    message = consumer.poll(5)
                    assert message is not None, "the topic cannot be read to its end"
                    if message.error():
                        left.discard(message.partition())
                        continue
                    found.append(
                        Said(
                            (message.key() or b"").decode(),
                            dict(message.headers() or []),
                            json.loads(message.value() or b"null"),
                        )
                    )
            finally:
                consumer.close()
            return found

        return await asyncio.to_thread(read)

    async def wait(self, count: int, within: float = 30.0) -> list[Said]:
        """Wait until so many messages are there; gives all there are then."""
        found: list[Said] = []
        try:
            async with asyncio.timeout(within):
                while len(found := await self.read()) < count:
                    await asyncio.sleep(0.2)
        except TimeoutError:
            message = f"{len(found)} of {count} messages within {within} s"
            raise AssertionError(message) from None
        return found

    def once(self, found: list[Said]) -> dict[str, list[Said]]:
        """Messages per profile, after checking that none is there twice."""
        ids = [each.id for each in found]
        assert len(ids) == len(set(ids)), "published twice"
        by_profile: dict[str, list[Said]] = defaultdict(list)
        for each in found:
            by_profile[each.who].append(each)
        return by_profile
