# ruff: noqa: SLF001  all that is private to aiokafka and needed by us is touched here only
"""One aiokafka consumer, and what must be known of its insides to use it safely.

Read in aiokafka 0.14; `test_kafka_client.py` fails when they change. Why each:

- `getmany` waits without limit while a rebalance runs, and cancelling or failing it
  leaves its bookkeeping wrong. Asked with a timeout of 0 outside a rebalance it never
  waits; the waiting is done on the fetcher's own signal for new data.
- `getmany` on several partitions forgets what it took from the first ones when a later
  one fails, though their positions have moved: lost. It is asked for one at a time.
- `stop()` raises CancelledError in an outage, leaves tasks behind, or hangs.
- Whether its background tasks live and the group is joined is visible only inside.
"""

import asyncio
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata

from pipeline.kafka.connection import FAILURES, START_LIMIT, arguments, unreachable
from pipeline.kafka.positions import Bounds, begun
from pipeline.records import Partition
from pipeline.settings import Kafka

__all__ = ["REBALANCE_LIMIT", "Client"]

REBALANCE_LIMIT: Final = 45.0  # s in which each member must give its partitions back
STOP_LIMIT: Final = 2.0  # s to leave the group in order
_REQUEST_LIMIT: Final = 50.0  # s; JoinGroup is answered only when all have joined
_NEVER: Final = 10 * 365 * 86_400_000  # ms
_FETCH_WAIT: Final = 100  # ms a fetch waits for data; meanwhile no other can go out
_PREFETCH: Final = 24 * 2**20  # bytes fetched ahead, over all partitions
_LARGEST: Final = 4 * 2**20  # bytes a fetch of one partition brings; 1 MiB starves
_SMALLEST: Final = 64 * 2**10  # the same with hundreds of partitions


class Client:
    """A member of the group from `open` to `close`; made anew rather than mended."""

    def __init__(self, settings: Kafka) -> None:
        self._settings = settings
        session = int(settings.session_timeout * 1000)
        self._consumer = AIOKafkaConsumer(
            **arguments(settings),
            group_id=settings.group,
            # Offsets are committed by us, when records have ended. With auto-commit on,
            # stop() would hang as long as no coordinator can be reached.
            enable_auto_commit=False,
            # A reset would be a silent jump; `positions` decides, and we seek.
            auto_offset_reset="none",
            # Records of aborted transactions were never said.
            isolation_level="read_committed",
            session_timeout_ms=session,
            heartbeat_interval_ms=session // 5,
            # The default would be the session timeout: too short to drain in.
            rebalance_timeout_ms=int(REBALANCE_LIMIT * 1000),
            request_timeout_ms=int(_REQUEST_LIMIT * 1000),
            # The flow stands still for hours when Klaviyo is away or a human must act;
            # no reason to lose the partitions. /livez watches the loops instead.
            max_poll_interval_ms=_NEVER,
            # Range gives the partitions of one number in all topics to one member: where
            # the customer is the key in several topics, one process reads all of them.
            # RoundRobin tears them apart; Sticky keeps its state on the class, which all
            # consumers of a process share.
            partition_assignment_strategy=(RangePartitionAssignor,),
            fetch_max_wait_ms=_FETCH_WAIT,
            fetch_max_bytes=_PREFETCH // 2,
            max_partition_fetch_bytes=_LARGEST,
            # No deserializers: one that raises stops its partition for ever.
        )

    # -- joining -------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect. Raises `KafkaUnreachable`, after `START_LIMIT` and a look why."""
        try:
            async with asyncio.timeout(START_LIMIT):
                # Nothing is subscribed yet: start() would wait for missing topics.
                await self._consumer.start()
        except FAILURES:
            await self.close()
            raise await unreachable(self._settings) from None
        except BaseException:  # cancelled: nobody else knows of its tasks yet
            await self.close()
            raise

    async def topics(self, exclude: Collection[str]) -> frozenset[str]:
        """Topics that exist and that the settings name, or match outside of `exclude`.

        Makes none: asking for a topic by its name would, where brokers allow it. Raises
        one of `FAILURES` when no broker answers.
        """
        wanted = self._settings.topics
        patterns = [re.compile(name) for name in wanted if name.startswith("^")]
        return frozenset(
            topic
            for topic in await self._consumer.topics()
            if topic in wanted
            or (
                topic not in exclude
                and not topic.startswith("__")
                and any(pattern.match(topic) for pattern in patterns)
            )
        )

    def subscribe(
        self, topics: Iterable[str], listener: ConsumerRebalanceListener
    ) -> None:
        """Join the group for these; what was assigned before is taken away at once."""
        self._consumer.subscribe(topics=list(topics), listener=listener)

    async def bounds(
        self, partitions: Collection[Partition]
    ) -> tuple[dict[Partition, Bounds], dict[str, int]]:
        """Ask what the broker knows of these, and in which topics the group has offsets.

        The latter as `begun` gives them. Waits while the broker is away; raises
        `FAILURES` for what waiting cannot cure.
        """
        tps = [TopicPartition(*each) for each in partitions]
        # Never seek_to_beginning(): it races with the reset and can read nothing.
        beginning = await self._consumer.beginning_offsets(tps)
        end = await self._consumer.end_offsets(tps)
        count = {tp.topic: tp.partition + 1 for tp in sorted(tps)}
        for topic, known in count.items():
            numbers = self._consumer.partitions_for_topic(topic) or ()
            count[topic] = max(known, len(numbers))
        # Of all partitions: others begin with theirs at the same time.
        committed = await self._committed(
            [TopicPartition(topic, n) for topic in count for n in range(count[topic])]
        )
        found = {
            (tp.topic, tp.partition): Bounds(
                committed[tp].offset if tp in committed else None,
                beginning[tp],
                end[tp],
                committed[tp].metadata if tp in committed else "",
                count[tp.topic],
            )
            for tp in tps
        }
        said = ((tp.topic, each.metadata) for tp, each in committed.items())
        return found, begun(said, count)

    async def _committed(
        self, tps: Collection[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        # committed() keeps the note to itself.
        coordinator = self._consumer._coordinator
        found: dict[TopicPartition, OffsetAndMetadata]
        found = await coordinator.fetch_committed_offsets(list(tps))
        return {tp: each for tp, each in found.items() if each.offset >= 0}

    def assign(self, partitions: Collection[Partition]) -> None:
        """Read these without joining the group; `seek` says from where."""
        self._consumer.assign([TopicPartition(*each) for each in partitions])

    async def moments(
        self, times: Mapping[Partition, int]
    ) -> dict[Partition, int | None]:
        """Ask for the first offset written at these times (ms) or later, None if none."""
        found = await self._consumer.offsets_for_times(
            {TopicPartition(*each): at for each, at in times.items()}
        )
        return {
            each: found[tp].offset
            if (tp := TopicPartition(*each)) in found and found[tp]
            else None
            for each in times
        }

    def pause(self, partition: Partition) -> None:
        """Fetch no more of it."""
        self._consumer.pause(TopicPartition(*partition))

    async def position(self, partition: Partition) -> int:
        """Give the next offset to be taken; it moves over gaps and markers too."""
        at: int = await self._consumer.position(TopicPartition(*partition))
        return at

    def seek(self, positions: Mapping[Partition, int]) -> None:
        """Read on from there; what was fetched from elsewhere is dropped."""
        share = _PREFETCH // max(1, len(positions))
        fetcher = self._consumer._fetcher
        fetcher._max_partition_fetch_bytes = max(_SMALLEST, min(_LARGEST, share))
        for partition, offset in positions.items():
            self._consumer.seek(TopicPartition(*partition), offset)

    # -- reading -------------------------------------------------------------------------

    @property
    def joined(self) -> bool:
        """Whether the group has given us an assignment and wants no new one."""
        return not (
            self._consumer._subscription.reassignment_in_progress
            or self._consumer._coordinator._rejoin_needed_fut.done()
        )

    @property
    def lost(self) -> bool:
        """Whether the group went on without us: others own our partitions already."""
        return not self._consumer._coordinator.member_id

    def fetched(self, partition: Partition) -> bool:
        """Whether records, or an error, of the partition wait to be taken."""
        return TopicPartition(*partition) in self._consumer._fetcher._records

    async def take(self, partition: Partition, most: int) -> list[ConsumerRecord]:
        """Take what is fetched without waiting: there is no half-way to be cancelled at.

        Raises `KafkaError`, or whatever the parser raises at what it cannot read.
        """
        if self._consumer._subscription.reassignment_in_progress:
            return []  # getmany would wait for the end of it
        tp = TopicPartition(*partition)
        found = await self._consumer.getmany(tp, timeout_ms=0, max_records=most)
        records: list[ConsumerRecord] = found.get(tp, [])
        return records

    def news(self) -> "asyncio.Future[None]":
        """Give a future that is done when something more is fetched."""
        waiter: asyncio.Future[None] = self._consumer._fetcher._create_fetch_waiter()
        return waiter

    def highwater(self, partition: Partition) -> int | None:
        """Give the offset of the next record to be written, once a fetch has told it."""
        tp = TopicPartition(*partition)
        if tp not in self._consumer.assignment():
            return None
        end: int | None = self._consumer.highwater(tp)
        return end

    def through(self, partition: Partition) -> bool:
        """Whether an assigned partition was taken to its end, as last heard of."""
        subscribed = self._consumer._subscription.subscription
        state = subscribed.assignment.state_value(TopicPartition(*partition))
        end = state.highwater
        return end is not None and state.has_valid_position and state.position >= end

    async def commit(self, offsets: Mapping[Partition, tuple[int, str]]) -> None:
        """Commit offsets with their notes; the caller bounds it.

        It tries again without limit what can be.

        Raises one of `FAILURES` when the group refuses.
        """
        await self._consumer.commit(
            {TopicPartition(*partition): at for partition, at in offsets.items()}
        )

    # -- looking after -------------------------------------------------------------------

    async def reachable(self, within: float) -> bool:
        """Ask a broker for news of our topics: it also finds their new partitions."""
        asked = self._consumer._client.force_metadata_update()
        try:
            async with asyncio.timeout(within):
                return bool(await asked)
        except TimeoutError:
            return False

    def gone(self, topics: Iterable[str]) -> frozenset[str]:
        """Give those of the subscribed topics that the last news knew nothing of."""
        known = self._consumer.partitions_for_topic
        return frozenset(topic for topic in topics if known(topic) is None)

    def known(self) -> list[Partition]:
        """Give the partitions of all topics subscribed to, in order, anybody's."""
        numbers = self._consumer.partitions_for_topic
        return sorted(
            (topic, number)
            for topic in self._consumer.subscription()
            for number in numbers(topic) or ()
        )

    def trouble(self) -> Exception | None:
        """Give what keeps us from joining; aiokafka tries again once it is seen."""
        try:
            self._consumer._coordinator.check_errors()
        except Exception as error:  # noqa: BLE001  it is handed on, whatever it is
            return error
        return None

    def dead(self) -> str | None:
        """Name the background task that has ended, if any: nobody restarts it."""
        consumer = self._consumer
        tasks = {
            "coordination": consumer._coordinator._coordination_task,
            "fetch": consumer._fetcher._fetch_task,
            "metadata": consumer._client._sync_task,
        }
        return next((name for name, task in tasks.items() if task.done()), None)

    async def close(self) -> None:
        """Leave the group if a broker listens, and end all tasks: 5 s, never raises."""
        # In a task of its own: stop() raises CancelledError in an outage though nobody
        # cancelled, and that must not look like a cancellation of the caller.
        await _end({asyncio.create_task(self._consumer.stop())}, STOP_LIMIT)
        await _end(self._tasks(), 0.0)
        # stop() does not get that far when it fails half-way.
        await _end({asyncio.create_task(self._consumer._client.close())}, 1.0)

    def _tasks(self) -> set["asyncio.Task[Any]"]:
        coordinator, fetcher = self._consumer._coordinator, self._consumer._fetcher
        found: set[asyncio.Task[Any] | None] = set()
        if coordinator is not None:
            found |= {
                coordinator._coordination_task,
                coordinator._heartbeat_task,
                coordinator._commit_refresh_task,
            }
        if fetcher is not None:
            found |= {fetcher._fetch_task, *fetcher._pending_tasks}
        return {task for task in found if task is not None}


async def _end(tasks: Collection["asyncio.Task[Any]"], within: float) -> None:
    """Wait, cancel what still runs then, and look at each error so that none is left."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=within)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=0.5)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()
