"""Our place in the consumer group: joined, given back in order, won back when stuck.

An *epoch* is one assignment, from `on_assigned` to the end of `on_revoked`, for which
aiokafka waits in its rebalance. It begins only when it is decided where each partition
begins, and what the group had no offset for is committed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition

from pipeline.clock import Clock
from pipeline.errors import KafkaUnreachable, PipelineError
from pipeline.kafka import notes
from pipeline.kafka.client import REBALANCE_LIMIT, Client
from pipeline.kafka.connection import FAILURES
from pipeline.kafka.positions import Places, decide
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import Partition
from pipeline.settings import Kafka

__all__ = ["REVOKE_BUDGET", "Membership"]

REVOKE_BUDGET: Final = REBALANCE_LIMIT - 15.0  # s for on_revoked; then they go anyway
WATCH_EVERY: Final = 2.0  # s between two looks at the client
ANSWER_LIMIT: Final = 5.0  # s a broker may take to answer before Kafka counts as away
UNREACHABLE_LIMIT: Final = 60.0  # s away until bootstrap_servers are tried anew
JOIN_LIMIT: Final = 120.0  # s without an assignment until we join anew
TOPICS_EVERY: Final = 10.0  # s between two lists of all topics: large in large clusters
REOPEN_LIMIT: Final = 10.0  # s at most between two tries to connect
AGAIN: Final = 0.5  # s between two tries to learn where to begin
PATIENCE: Final = 5  # tries until that is said: each rebalance makes one or two fail


class Membership:
    """The client of this moment, and what the group gave it."""

    def __init__(
        self,
        *,
        settings: Kafka,
        metrics: Metrics,
        health: Health,
        clock: Clock,
        on_assigned: Callable[[Mapping[Partition, frozenset[int]]], None],
        on_revoked: Callable[[], Awaitable[None]],
        exclude: Collection[str],
    ) -> None:
        self.client: Client | None = None
        self.epoch = 0
        self.assigned: frozenset[Partition] = frozenset()
        self.began: Mapping[Partition, int] = {}  # where this epoch's reading began
        self.first: Mapping[str, int] = {}  # for the notes; see `Places`
        self.releasing = False  # they are still ours, to commit, but not to read on
        self.failure: PipelineError | None = None  # what only a human can decide
        # Done, and replaced, when one of the above changes.
        self.changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settings = settings
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._exclude = exclude
        self._topics: frozenset[str] = frozenset()  # those we are subscribed to
        self._first: frozenset[str] = frozenset()  # those there were when we began
        self._told = False  # whether on_assigned was called and on_revoked was not
        self._releasing = asyncio.Lock()
        self._placing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._look = asyncio.Event()
        self._broken = ""  # why the client must be made anew
        self._answered = self._joined = clock.monotonic()
        self._listed = float("-inf")  # when all topics were last asked for
        self._reopen_at, self._reopen_wait = float("-inf"), 1.0
        self._log = structlog.get_logger("kafka")

    async def start(self) -> None:
        """Connect and ask to join. Raises `KafkaUnreachable` and `SettingsError`."""
        client = Client(self._settings)
        await client.open()
        try:
            self._first = await client.topics(self._exclude)
        except FAILURES as error:
            await client.close()
            raise KafkaUnreachable(
                f"Kafka took the connection but did not list its topics: {error!r}. "
                "Check the rights of the user and the health of the cluster."
            ) from None
        except BaseException:  # cancelled: nobody else knows of its tasks yet
            await client.close()
            raise
        self._take_up(client, self._first)
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Leave the group; partitions are given up without asking `on_revoked`."""
        await _cancel(self._watching)
        await _cancel(self._placing)
        self._told = False
        self._close()
        if self._closing:
            await asyncio.wait(self._closing)
        self._health.ended("kafka")

    def mend(self, why: str) -> None:
        """Make the client anew: what it is in cannot be left otherwise."""
        self._broken = self._broken or why
        self._look.set()

    # -- what the group says -------------------------------------------------------------

    async def revoked(self, client: Client) -> None:
        """Give back what the group takes, or has taken from a member that was silent.

        Then each call that still ends could be older than one of the new owner.
        """
        if client is self.client:
            await _cancel(self._placing)
            await self._release(0.0 if client.lost else REVOKE_BUDGET)

    def given(self, client: Client, partitions: Collection[Partition]) -> None:
        """Take what the group gives; it is ours once it is clear where it begins."""
        if client is self.client and not self._broken:
            # Not awaited here: until this returns no heartbeat is sent.
            self._placing = asyncio.create_task(self._place(client, partitions))

    async def _place(self, client: Client, partitions: Collection[Partition]) -> None:
        """Begin an epoch: learn where to read, commit what is new, then tell the flow."""
        places = await self._learn(client, partitions)
        if places is None:
            return
        self._told = True
        self.epoch += 1
        self.assigned = frozenset(partitions)
        self.began, self.first = places.at, places.first
        self._metrics.rebalances.inc()
        self._log.info("assigned", partitions=_names(partitions), epoch=self.epoch)
        self._on_assigned(places.ended)
        self._signal()

    async def _learn(
        self, client: Client, partitions: Collection[Partition]
    ) -> Places | None:
        tries = 0
        said: set[Partition] = set()
        while True:
            try:
                places = await self._decide(client, partitions, said)
            except PipelineError as error:
                self.failure = error
                self._signal()
                return None
            except FAILURES as error:  # Kafka away, the next rebalance, no rights...
                tries += 1
                if tries == PATIENCE:
                    self._health.away("offsets", f"where to begin is unknown: {error!r}")
                    if isinstance(error, AssertionError):
                        raise  # not for a moment: the client is made anew
                await asyncio.sleep(AGAIN)
            else:
                self._health.back("offsets")
                return places

    async def _decide(
        self, client: Client, partitions: Collection[Partition], said: set[Partition]
    ) -> Places:
        bounds, started = await client.bounds(partitions)
        places = decide(
            bounds,
            group=self._settings.group,
            start=self._settings.start,
            started=started,
            young=self._topics - self._first,
        )
        self._say_lost(places, said)  # before the commit: the next owner cannot know
        # Without this a crash before the first commit would begin elsewhere: with
        # `latest` at a later end, beyond records that were read and not delivered.
        moved = places.fresh.keys() | places.lost.keys()
        if moved:
            await client.commit(
                {
                    each: (at, notes.encode(at, (), places.first[each[0]]))
                    for each, at in places.at.items()
                    if each in moved
                }
            )
        client.seek(places.at)
        return places

    def _say_lost(self, places: Places, said: set[Partition]) -> None:
        """Count and name what retention took, once in all tries to begin an epoch."""
        for topic, number in sorted(places.lost.keys() - said):
            said.add((topic, number))
            count = places.lost[topic, number]
            self._metrics.records_lost.labels(topic).inc(count)
            self._log.error(
                "records were deleted before they were delivered",
                topic=topic,
                partition=number,
                lost=count,
                going_on_at=places.at[topic, number],
            )

    async def _release(self, budget: float = REVOKE_BUDGET) -> None:
        """End the epoch, once: the flow ends and commits what it can, in bounded time."""
        async with self._releasing:
            if not self._told:
                return
            self._told, self.releasing = False, True
            self._log.info("giving back", partitions=_names(self.assigned))
            try:
                async with asyncio.timeout(budget):
                    await self._on_revoked()
            except TimeoutError:
                self._log.warning("what is in flight is given up", budget=budget)
            except Exception:  # noqa: BLE001  a bug of the flow must not end the group
                # What it has not committed is read again.
                self._log.exception("on_revoked failed")
            finally:
                self.assigned, self.releasing = frozenset(), False
                self._signal()

    def _signal(self) -> None:
        changed, self.changed = self.changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)

    # -- looking after -------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            self._health.beat("kafka")
            try:
                async with asyncio.timeout(WATCH_EVERY):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            try:
                await self._look_after()
            except Exception:  # noqa: BLE001  the watchman must not die of what he sees
                self._log.exception("looking after the consumer failed")

    async def _look_after(self) -> None:
        client = self.client
        if client is None:
            await self._reopen()
            return
        if (task := client.dead()) is not None:
            self.mend(f"its {task} task has ended")
        now = self._clock.monotonic
        if await client.reachable(ANSWER_LIMIT):
            self._answered = now()
            self._health.back("kafka")
            self._name_missing(client.gone(self._topics))
            await self._follow_topics(client)
        else:
            # poll and commit do not tell: aiokafka raises nothing while brokers are away.
            self._health.away("kafka", "no broker answers; nothing is lost meanwhile")
            self._joined = now()  # no broker, no assignment: that is not being stuck
            if now() - self._answered > UNREACHABLE_LIMIT:
                self.mend("none of the brokers it knows answers")
        self._look_at_group(client)
        if self._broken:
            await self._give_up()

    def _look_at_group(self, client: Client) -> None:
        if (error := client.trouble()) is not None:
            self._health.away("group", f"the group cannot be joined: {error!r}")
        if (bug := _error(self._placing)) is not None:
            self.mend(f"its assignment could not be begun: {bug!r}")
        now = self._clock.monotonic()
        if client.joined or not self._topics:
            self._health.back("group")
            self._joined = now
        elif now - self._joined > JOIN_LIMIT:
            self.mend(f"no partitions were assigned for {JOIN_LIMIT:.0f} s")

    async def _follow_topics(self, client: Client) -> None:
        """Join for topics that came into being; asked for only where some can."""
        names = self._settings.topics
        if all(not name.startswith("^") and name in self._topics for name in names):
            return
        now = self._clock.monotonic()
        if now - self._listed < TOPICS_EVERY:
            return
        self._listed = now
        topics = await client.topics(self._exclude)
        if topics - self._topics:
            # Before subscribing: that ends the assignment, and a commit needs one.
            await _cancel(self._placing)
            await self._release()
            self._take_up(client, topics | self._topics)

    def _take_up(self, client: Client, topics: frozenset[str]) -> None:
        self.client = client
        self._topics = topics
        self._answered = self._joined = self._clock.monotonic()
        self._name_missing(frozenset())
        if topics:
            client.subscribe(topics, _Listener(self, client))

    def _name_missing(self, gone: frozenset[str]) -> None:
        """Say which topics do not exist: not yet, or, in `gone`, not any more."""
        for name in self._settings.topics:
            if name.startswith("^") or name in self._topics - gone:
                self._health.back(f"topic {name}")
            else:
                self._health.away(
                    f"topic {name}",
                    f"{name} does not exist, or may not be read: create it, or correct "
                    "kafka.topics; it is waited for",
                )

    async def _give_up(self) -> None:
        self._log.warning("the consumer is made anew", why=self._broken)
        await _cancel(self._placing)
        self._placing = None  # its failure was the old client's: the new one has none
        await self._release()
        self._health.beat("kafka")
        closing = self._close()
        self._broken = ""
        await asyncio.wait(closing)
        await self._reopen()

    def _close(self) -> set["asyncio.Task[None]"]:
        """Close the client, in a task: it is brought to its end also when we are not."""
        client, self.client = self.client, None
        self.assigned = frozenset()
        self._signal()
        if client is not None:
            closing = asyncio.create_task(client.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        return self._closing

    async def _reopen(self) -> None:
        if self._clock.monotonic() < self._reopen_at:
            return
        client = Client(self._settings)
        try:
            await client.open()
            topics = await client.topics(self._exclude)
        except (KafkaUnreachable, *FAILURES) as error:
            self._health.away("kafka", str(error) or repr(error))
            self._reopen_at = self._clock.monotonic() + self._reopen_wait
            self._reopen_wait = min(REOPEN_LIMIT, 2 * self._reopen_wait)
            await client.close()
        else:
            self._reopen_wait = 1.0
            self._health.back("kafka")
            self._take_up(client, topics | self._topics)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Tells apart the clients that follow each other."""

    def __init__(self, membership: Membership, client: Client) -> None:
        self._membership = membership
        self._client = client

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        del revoked  # a rebalance takes all there are
        await self._membership.revoked(self._client)

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        partitions = [(tp.topic, tp.partition) for tp in assigned]
        self._membership.given(self._client, partitions)


async def _cancel(task: "asyncio.Task[None] | None") -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])


def _error(task: "asyncio.Task[None] | None") -> BaseException | None:
    ended = task is not None and task.done() and not task.cancelled()
    return task.exception() if task is not None and ended else None


def _names(partitions: Collection[Partition]) -> str:
    return (
        ", ".join(f"{topic}-{number}" for topic, number in sorted(partitions)) or "none"
    )
