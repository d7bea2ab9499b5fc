"""Reads records and commits offsets; the flow's only way to hear from Kafka.

    start -> (assigned -> poll, commit ... -> revoked)* -> stop

Outages raise nothing: `poll` gives nothing, `commit` says no, /readyz names what is away,
and the client underneath is made anew when it is beyond hope. Partitions are owned per
*epoch*, from `on_assigned` to the end of `on_revoked`; outside of one nothing is handed
out and nothing is committed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Protocol

import structlog
from aiokafka.errors import (
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
)
from aiokafka.record import default_records
from aiokafka.structs import ConsumerRecord

from pipeline.clock import Clock
from pipeline.kafka import notes
from pipeline.kafka.client import Client
from pipeline.kafka.membership import REVOKE_BUDGET, Membership
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import Mark, Partition, Record
from pipeline.settings import Kafka

__all__ = ["REVOKE_BUDGET", "Consumer", "Reader", "read"]

COMMIT_LIMIT: Final = 3.0  # s; a commit takes 6-8 ms when all is well
REST: Final = 1.0  # s before a partition that could not be read is tried again


class Reader(Protocol):
    """What the flow asks of whoever hands it records; see `Consumer`."""

    async def poll(
        self,
        partitions: Collection[Partition],
        max_records: int,
        timeout: float,  # noqa: ASYNC109
    ) -> list[Record]:
        """Get the next records of these partitions."""
        ...

    async def commit(self, marks: Mapping[Partition, Mark]) -> bool:
        """All that these marks say has ended; false to be told again later."""
        ...

    def highwater(self, partition: Partition) -> int | None:
        """Offset behind the last record of the partition, once it is known."""
        ...

    def began(self, partition: Partition) -> int | None:
        """Offset at which the reading of a partition began that is ours."""
        ...


class Consumer:
    """One member of the consumer group, on one event loop.

    `on_assigned` gets the partitions owned from now on, each with the offsets to be read
    that ended already, as the last owner's commit says; `on_revoked` is awaited before
    they go, at most `REVOKE_BUDGET` s: end what is in flight and commit there. `exclude`
    are topics a `^regex` does not match: our own output would go in circles.
    """

    def __init__(
        self,
        *,
        settings: Kafka,
        metrics: Metrics,
        health: Health,
        clock: Clock,
        on_assigned: Callable[[Mapping[Partition, frozenset[int]]], None],
        on_revoked: Callable[[], Awaitable[None]],
        exclude: Collection[str] = (),
    ) -> None:
        self._membership = Membership(
            settings=settings,
            metrics=metrics,
            health=health,
            clock=clock,
            on_assigned=on_assigned,
            on_revoked=on_revoked,
            exclude=exclude,
        )
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._resting: dict[Partition, float] = {}  # could not be read; tried again then
        # Behind the last record handed out, and in which epoch that was.
        self._behind: dict[Partition, tuple[int, int]] = {}
        self._turn = 0
        self._log = structlog.get_logger("kafka")

    @property
    def epoch(self) -> int:
        """How many assignments there were; 0 before the first."""
        return self._membership.epoch

    @property
    def assigned(self) -> frozenset[Partition]:
        """The partitions of the present epoch; none between two."""
        return self._membership.assigned

    async def start(self) -> None:
        """Connect and ask to join the group; `on_assigned` is called some time later.

        A topic that does not exist is said and waited for. Raises `KafkaUnreachable` and
        `SettingsError`.
        """
        if default_records.DefaultRecordBatch is default_records._DefaultRecordBatchPy:  # noqa: SLF001
            self._log.warning(
                "aiokafka runs without its compiled parser, many times slower"
            )
        await self._membership.start()

    async def stop(self) -> None:
        """Leave the group, in about 5 s whatever is down. A poll that waits returns.

        Commit before: `on_revoked` is not called, what is uncommitted is read again.
        """
        await self._membership.stop()

    async def poll(
        self,
        partitions: Collection[Partition],
        max_records: int,
        timeout: float,  # noqa: ASYNC109  the patience of a poll is no deadline
    ) -> list[Record]:
        """Get the next records of these partitions, at most `max_records`.

        In offset order per partition; none after `timeout` s, or as soon as the
        assignment changes, and none while `on_revoked` runs: what is read then would only
        prolong it. What is prefetched of other partitions stays; no partitions, no
        records. May be cancelled. Raises `OffsetsMissing` and `OffsetsLost`.
        """
        membership = self._membership
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            # Signals first, then a look: nothing in between is missed.
            changed, client = membership.changed, membership.client
            if membership.failure is not None:
                raise membership.failure
            ours = membership.assigned if not membership.releasing else ()
            wanted = [each for each in partitions if each in ours]
            news = client.news() if client is not None and wanted else None
            try:
                if client is not None and wanted:
                    records = await self._take(client, wanted, max_records)
                    if records:
                        return records
                signals = {changed} if news is None else {changed, news}
                await asyncio.wait(
                    signals,
                    timeout=max(0.0, deadline - loop.time()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                if news is not None and not news.cancel() and not news.cancelled():
                    news.exception()  # seen; `Membership` reports it
            if loop.time() >= deadline or (changed.done() and not membership.failure):
                return []

    async def _take(
        self, client: Client, wanted: list[Partition], most: int
    ) -> list[Record]:
        """Take what is fetched of these; each time another partition comes first."""
        self._turn += 1
        first = self._turn % len(wanted)
        taken: list[Record] = []
        for partition in wanted[first:] + wanted[:first]:
            if len(taken) >= most:
                break
            if not client.fetched(partition) or self._rests(partition):
                continue
            try:
                found = await client.take(partition, most - len(taken))
            except Exception as error:  # noqa: BLE001  a parser raises anything
                self._cannot_read(partition, error)
                continue
            if found and self._resting.pop(partition, None) is not None:
                self._health.back("partition {}-{}".format(*partition))
            if found:
                self._behind[partition] = self.epoch, found[-1].offset + 1
            taken += map(read, found)
        return taken

    def _rests(self, partition: Partition) -> bool:
        return self._clock.monotonic() < self._resting.get(partition, 0.0)

    def _cannot_read(self, partition: Partition, error: Exception) -> None:
        """One partition stands still, and /readyz names it; the others go on."""
        topic, number = partition
        self._resting[partition] = self._clock.monotonic() + REST
        match error:
            case OffsetOutOfRangeError() | RecordTooLargeError():
                # Retention overtook us; or aiokafka skipped a record, which a new client
                # reads again. The next assignment decides where that leaves us.
                self._membership.mend(f"{topic}-{number}: {error!r}")
            case TopicAuthorizationFailedError():
                self._health.away(
                    f"partition {topic}-{number}", f"{topic} may not be read; grant READ"
                )
            case _:
                self._health.away(
                    f"partition {topic}-{number}", f"it cannot be read on: {error!r}"
                )

    async def commit(self, marks: Mapping[Partition, Mark]) -> bool:
        """Tell the group how far these partitions are; true if it took it.

        False after `COMMIT_LIMIT` s, when the group refuses, and at once for a partition
        that is not assigned (any more): the flow simply tries again, or forgets it.
        """
        membership = self._membership
        client, epoch = membership.client, membership.epoch
        if client is None or not marks.keys() <= membership.assigned:
            self._metrics.commit_failures.inc()
            return False
        loop = asyncio.get_running_loop()
        deadline = loop.time() + COMMIT_LIMIT
        # aiokafka retries without limit and reads the generation anew for each try: once
        # the epoch is over it could commit for partitions that others own by then.
        offsets = {
            each: (mark.offset, notes.encode(*mark, membership.first[each[0]]))
            for each, mark in marks.items()
        }
        committing = asyncio.create_task(client.commit(offsets))
        try:
            while not committing.done() and loop.time() < deadline:
                if membership.epoch != epoch or not membership.assigned:
                    break
                await asyncio.wait(
                    {committing, membership.changed},
                    timeout=deadline - loop.time(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
        finally:
            committing.cancel()
        if committing.done() and not committing.cancelled():
            error = committing.exception()
            if error is None:
                return True
            self._log.debug("commit refused", error=repr(error))
        self._metrics.commit_failures.inc()
        return False

    def places(self) -> tuple[list[int], int]:
        """Where the partitions of this member stand among all, and how many there are."""
        client = self._membership.client
        known = client.known() if client is not None else []
        mine = self.assigned
        return [place for place, each in enumerate(known) if each in mine], len(known)

    def highwater(self, partition: Partition) -> int | None:
        """Offset behind the last record of an assigned partition, once it is known.

        Not what Kafka calls so: at the end may stand markers of transactions, which are
        no backlog. They are known for what they are once all before them was polled.
        """
        client = self._membership.client
        if client is None or partition not in self.assigned:
            return None
        end = client.highwater(partition)
        if end is None or not client.through(partition):
            return end
        epoch, behind = self._behind.get(partition, (0, None))
        return behind if epoch == self.epoch else self.began(partition)

    def began(self, partition: Partition) -> int | None:
        """Offset an assigned partition is read from in this epoch: the committed one."""
        if partition not in self.assigned:
            return None
        return self._membership.began.get(partition)


def read(found: ConsumerRecord) -> Record:
    """Give a record as we carry it; its bytes stay untouched."""
    return Record(
        found.topic,
        found.partition,
        found.offset,
        found.timestamp,
        found.key,
        found.value,
        tuple(found.headers) if found.headers else (),
    )
