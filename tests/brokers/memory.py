"""Kafka in memory, for tests that cancel, revoke and refuse at every step.

`MemoryConsumer` and `MemoryProducer` have the surface of the real ones and pass the same
contract suite (`tests/kafka/test_consumer_contract.py`). A `Cluster` is their broker and
holds the script: refuse commits, fail writes, be away, take partitions back.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from pipeline.clock import Clock
from pipeline.errors import PipelineError
from pipeline.kafka import notes
from pipeline.kafka.positions import Bounds, begun, decide
from pipeline.kafka.producer import TooLarge, Unwritable
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import Mark, Partition, Record
from pipeline.settings import Kafka

__all__ = ["Cluster", "MemoryConsumer", "MemoryProducer"]


class Cluster:
    """Topics, their records, committed offsets and groups."""

    def __init__(self) -> None:
        self.topics: dict[str, int] = {}  # name -> partitions
        self.logs: dict[Partition, list[Record]] = {}
        self.beginning: dict[Partition, int] = defaultdict(int)
        self.committed: dict[tuple[str, Partition], int] = {}
        self.notes: dict[tuple[str, Partition], str] = {}
        self.members: dict[str, list[MemoryConsumer]] = defaultdict(list)
        # -- the script --
        self.away = False  # nothing is read, written or committed
        self.refuse_commits = 0  # so many of the next ones
        self.unwritable: set[str] = set()  # topics
        self.largest = 1_000_000  # bytes of a value
        self._news = asyncio.Event()

    def create(self, topic: str, partitions: int = 1) -> None:
        """Make a topic, or add partitions to it."""
        for number in range(self.topics.get(topic, 0), partitions):
            self.logs[topic, number] = []
        self.topics[topic] = partitions
        self.changed()

    def append(
        self,
        partition: Partition,
        value: bytes | None,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        timestamp: int = 0,
    ) -> Record:
        """Write a record."""
        offset = self.end(partition)
        record = Record(*partition, offset, timestamp, key, value, tuple(headers))
        self.logs[partition].append(record)
        self.changed()
        return record

    def end(self, partition: Partition) -> int:
        """The next offset to be written."""
        log = self.logs[partition]
        return log[-1].offset + 1 if log else self.beginning[partition]

    def delete_before(self, partition: Partition, offset: int) -> None:
        """Retention."""
        kept = [each for each in self.logs[partition] if each.offset >= offset]
        self.logs[partition] = kept
        self.beginning[partition] = offset

    def started(self, group: str) -> dict[str, int]:
        """Topics the group has offsets in, with their partitions when it first began."""
        said = (
            (partition[0], self.notes.get((owner, partition), ""))
            for owner, partition in self.committed
            if owner == group
        )
        return begun(said, self.topics)

    def changed(self) -> None:
        """Wake all who wait for something to happen here."""
        self._news.set()
        self._news = asyncio.Event()

    async def news(self) -> None:
        """Return when something happened."""
        await self._news.wait()

    async def rebalance(self, group: str) -> None:
        """All members give back what they have and get their share by range."""
        members = self.members[group]
        for member in members:
            await member.revoke()
        shares: dict[int, list[Partition]] = defaultdict(list)
        for topic in sorted(self.topics):
            takers = [i for i, member in enumerate(members) if member.wants(topic)]
            for number in range(self.topics[topic] if takers else 0):
                place = number * len(takers) // self.topics[topic]
                shares[takers[place]].append((topic, number))
        for i, member in enumerate(members):
            member.assign(shares[i])


class MemoryConsumer:
    """Stands in for `pipeline.kafka.consumer.Consumer`."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        settings: Kafka,
        metrics: Metrics,
        health: Health,
        clock: Clock,
        on_assigned: Callable[[Mapping[Partition, frozenset[int]]], None],
        on_revoked: Callable[[], Awaitable[None]],
        exclude: Collection[str] = (),
    ) -> None:
        self.cluster = cluster
        self.epoch = 0
        self.assigned: frozenset[Partition] = frozenset()
        self._settings = settings
        self._metrics = metrics
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._exclude = exclude
        self._first: frozenset[str] = frozenset()
        self._releasing = False
        self._began: dict[Partition, int] = {}
        self._position: dict[Partition, int] = {}
        self._topics_first: dict[str, int] = {}  # as `Places.first`
        self._failure: PipelineError | None = None
        self._watching: asyncio.Task[None] | None = None
        self._turn = 0
        del health, clock

    async def start(self) -> None:
        self._first = frozenset(self.cluster.topics)
        self.cluster.members[self._settings.group].append(self)
        await self.cluster.rebalance(self._settings.group)
        known = dict(self.cluster.topics)  # not those that come before the task runs
        self._watching = asyncio.create_task(self._follow_topics(known))

    async def _follow_topics(self, known: dict[str, int]) -> None:
        while True:
            if known != self.cluster.topics:
                known = dict(self.cluster.topics)
                await self.cluster.rebalance(self._settings.group)
            else:
                await self.cluster.news()

    def wants(self, topic: str) -> bool:
        """Whether the settings name or match the topic."""
        return topic in self._settings.topics or (
            topic not in self._exclude
            and any(
                name.startswith("^") and re.match(name, topic)
                for name in self._settings.topics
            )
        )

    async def revoke(self) -> None:
        """Take all partitions back."""
        if self.assigned:
            self._releasing = True
            try:
                await self._on_revoked()
            finally:
                self.assigned, self._releasing = frozenset(), False
                self.cluster.changed()

    def assign(self, partitions: Collection[Partition]) -> None:
        """Give these; where each begins is decided as for the real one."""
        cluster, group = self.cluster, self._settings.group
        try:
            places = decide(
                {
                    each: Bounds(
                        cluster.committed.get((group, each)),
                        cluster.beginning[each],
                        cluster.end(each),
                        cluster.notes.get((group, each), ""),
                        cluster.topics[each[0]],
                    )
                    for each in partitions
                },
                group=group,
                start=self._settings.start,
                started=cluster.started(group),
                young=cluster.topics.keys() - self._first,
            )
        except PipelineError as error:
            self._failure = error
            cluster.changed()
            return
        for (topic, _), count in places.lost.items():
            self._metrics.records_lost.labels(topic).inc(count)
        for partition in places.fresh.keys() | places.lost.keys():
            offset = places.at[partition]
            note = notes.encode(offset, (), places.first[partition[0]])
            cluster.committed[group, partition] = offset
            cluster.notes[group, partition] = note
        self._began, self._topics_first = places.at, places.first
        self._position = dict(places.at)
        self.epoch += 1
        self.assigned = frozenset(partitions)
        self._metrics.rebalances.inc()
        self._on_assigned(places.ended)
        cluster.changed()

    async def poll(
        self,
        partitions: Collection[Partition],
        max_records: int,
        timeout: float,
    ) -> list[Record]:
        epoch = self.epoch
        try:
            async with asyncio.timeout(timeout):
                while True:
                    await asyncio.sleep(0)  # not after taking: a cancel would lose it
                    if self._failure is not None:
                        raise self._failure
                    records = self._take(partitions, max_records)
                    if records or epoch != self.epoch or self._watching is None:
                        return records
                    await self.cluster.news()
        except TimeoutError:
            return []

    def _take(self, partitions: Collection[Partition], most: int) -> list[Record]:
        taken: list[Record] = []
        ours = self.assigned if not self._releasing else ()
        wanted = [each for each in partitions if each in ours]
        self._turn += 1
        first = self._turn % max(1, len(wanted))
        for partition in [] if self.cluster.away else wanted[first:] + wanted[:first]:
            at, log = self._position[partition], self.cluster.logs[partition]
            found = [each for each in log if each.offset >= at][: most - len(taken)]
            if found:
                self._position[partition] = found[-1].offset + 1
                taken += found
        return taken

    async def commit(self, marks: Mapping[Partition, Mark]) -> bool:
        cluster, epoch = self.cluster, self.epoch
        await asyncio.sleep(0)
        refused = cluster.away or cluster.refuse_commits > 0 or epoch != self.epoch
        cluster.refuse_commits = max(0, cluster.refuse_commits - 1)
        if refused or not marks.keys() <= self.assigned:
            self._metrics.commit_failures.inc()
            return False
        for partition, mark in marks.items():
            cluster.committed[self._settings.group, partition] = mark.offset
            note = notes.encode(*mark, self._topics_first[partition[0]])
            cluster.notes[self._settings.group, partition] = note
        await asyncio.sleep(0)
        return True

    def highwater(self, partition: Partition) -> int | None:
        return self.cluster.end(partition) if partition in self.assigned else None

    def began(self, partition: Partition) -> int | None:
        return self._began[partition] if partition in self.assigned else None

    async def stop(self) -> None:
        members = self.cluster.members[self._settings.group]
        if self in members:
            members.remove(self)
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
        self.assigned = frozenset()
        self.cluster.changed()
        await self.cluster.rebalance(self._settings.group)


class MemoryProducer:
    """Stands in for `pipeline.kafka.producer.Producer`."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    async def start(self) -> None:
        await asyncio.sleep(0)

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        timestamp_ms: int | None = None,
    ) -> None:
        await asyncio.sleep(0)
        cluster = self.cluster
        if cluster.away or topic in cluster.unwritable or topic not in cluster.topics:
            raise Unwritable(f"{topic} cannot be written")
        if len(value or b"") > cluster.largest:
            raise TooLarge(f"the record is larger than {topic} allows")
        number = hash(key) % cluster.topics[topic]
        cluster.append((topic, number), value, key, headers, timestamp_ms or 0)
        await asyncio.sleep(0)

    async def stop(self) -> None:
        await asyncio.sleep(0)
