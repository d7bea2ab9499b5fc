"""The composition root: builds the parts, starts and stops them in order, with deadlines.

Start: probes (so that Kubernetes sees us), topics, then per direction what it needs;
forward: producer, Klaviyo session and the revision it serves, consumer, flow; reverse:
Klaviyo session, membership, flow. Stop is the reverse; each step is bounded, because a
broker or Klaviyo that is down must not keep the process alive.
"""

import asyncio
import ctypes
import gc
import os
import random
import signal
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
)
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import structlog
import uvloop

from pipeline.access import VERSION, connect, owned, same_account, spread
from pipeline.clock import SYSTEM
from pipeline.errors import SettingsError
from pipeline.forward.asked import Asked
from pipeline.forward.dead_letters import DeadLetters
from pipeline.forward.imports import Imports
from pipeline.forward.ledger import Ledger
from pipeline.forward.source import Source
from pipeline.kafka.admin import Admin, TopicRefused
from pipeline.kafka.consumer import Consumer
from pipeline.kafka.follow import Follower
from pipeline.kafka.leader import Leader
from pipeline.kafka.producer import Producer
from pipeline.kafka.schema_registry import SchemaRegistry
from pipeline.kafka.state import State
from pipeline.kafka.transactions import Transactions
from pipeline.klaviyo.connect_page import ConnectPage
from pipeline.klaviyo.jobs import Jobs
from pipeline.klaviyo.share import Share
from pipeline.observe.health import Health
from pipeline.observe.http import Probes
from pipeline.observe.metrics import Metrics
from pipeline.records import Partition
from pipeline.reverse import flow as reverse
from pipeline.reverse.carry import Carry, Turn
from pipeline.reverse.poll import Poller
from pipeline.reverse.publish import Publisher
from pipeline.reverse.view import View
from pipeline.settings import Settings
from pipeline.stages import context, forward, planning, require_history, telling

if TYPE_CHECKING:  # OpenTelemetry is an extra, and off
    from pipeline.observe.tracing import Tracing

__all__ = ["App", "run", "stop_on_signal"]

TIDY_EVERY: Final = 60.0  # s
STOPPED: Final = 9.5  # s after the first signal; what is not down then is left as it is


Only: TypeAlias = Literal["forward", "reverse"] | None
Direction: TypeAlias = Callable[[asyncio.Event], Awaitable[None]]


class App:
    """One process of the pipeline."""

    def __init__(self, settings: Settings, only: Only = None) -> None:
        """Build what needs no loop; `only` leaves the other direction out.

        Raises `SettingsError` when there is nothing to log in to Klaviyo with.
        """
        settings.require_credential()
        self.settings = settings
        self._only = only
        self._chance = random.Random().random  # noqa: S311  jitter, not a secret
        self.metrics = Metrics()
        self.health = Health(self.metrics, SYSTEM)
        self.tracing = _tracing(settings)
        self.page: ConnectPage | None = None
        self._states: tuple[State, ...] = ()
        if settings.uses_oauth:
            connection, self._states = owned(settings)
            self.page = ConnectPage(connection, self.health, SYSTEM)
        self.probes = Probes(
            settings.http,
            self.health,
            self.metrics,
            self.page.routes() if self.page else (),
        )
        self.metrics.build.labels(VERSION, settings.klaviyo.api_revision).set(1)
        self._log = structlog.get_logger("app")

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set. Raises `PipelineError` when it cannot start.

        A stop while it still starts, or waits for Kafka or Klaviyo, cancels that wait.
        """
        service = asyncio.create_task(self._serve(stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([service, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not service.done():
            if self.health.phase == "starting":
                service.cancel()
            await asyncio.wait([service], timeout=STOPPED)
        stopping.cancel()
        if not service.done():
            self._log.error("not stopped in time; what was not committed is read again")
            service.cancel()
        elif not service.cancelled():
            service.result()

    async def _serve(self, stop: asyncio.Event) -> None:
        settings, health = self.settings, self.health
        async with AsyncExitStack() as stack:
            await self.probes.start()
            stack.push_async_callback(self.probes.stop)
            if self.tracing is not None:
                stack.push_async_callback(self.tracing.close)
            for state in self._states:
                stack.push_async_callback(state.close)
            if self.page is not None:
                self.page.announce()
            if settings.topics.create:
                await self._create_topics()
            directions: list[Direction] = []
            if self._only != "forward" and settings.reverse.enabled:
                directions.append(await self._reverse(stack))
            if self._only != "reverse":
                directions.append(await self._forward(stack))
            health.phase = "running"
            self._log.info(
                "running", topics=settings.kafka.topics, group=settings.kafka.group
            )
            try:
                await _together(directions, stop)
            finally:
                health.phase = "draining"
        self._log.info("stopped")

    async def _forward(self, stack: AsyncExitStack) -> "Direction":
        settings, health, metrics = self.settings, self.health, self.metrics
        producer = Producer(settings=settings.kafka)
        await producer.start()
        stack.push_async_callback(producer.stop)
        client = await stack.enter_async_context(
            connect(settings, health, metrics, tracing=self.tracing)
        )
        # One harmless call before the first record: a bad key halts before anything
        # is read, and the answer says which revision's bodies to speak.
        await spread(self._chance)
        await same_account(settings, await client.accounts())
        require_history(context(settings), client.served)
        sent = telling(settings, producer, client, health)
        ledger = Ledger(
            State(settings.kafka, settings.topics.state, f"{settings.slug}/jobs")
        )
        stack.push_async_callback(ledger.stop)
        registry: SchemaRegistry | None = None
        if settings.schema_registry.url:
            registry = SchemaRegistry(settings.schema_registry, health)
            stack.push_async_callback(registry.close)
        letters = DeadLetters(
            producer,
            settings.topics.dead_letters,
            settings.subscription.name,
            health,
            metrics,
        )
        asked: Asked | None = None
        if settings.consent.writes:
            notes = State(
                settings.kafka, settings.topics.state, f"{settings.slug}/consent"
            )
            asked = Asked(notes, health, SYSTEM)
            stack.push_async_callback(asked.stop)
        flow = forward(
            settings,
            client,
            planning(settings, registry),
            letters,
            health,
            metrics,
            Imports(client, Jobs(client, SYSTEM), ledger, health),
            sent=sent,
            asked=asked,
            tracing=self.tracing,
        )
        share = Share(settings.throttle.quota_share, client.set_share)

        def assigned(partitions: Mapping[Partition, Iterable[int]]) -> None:
            share.owns(*consumer.places())
            flow.assigned(partitions)

        consumer = Consumer(
            settings=settings.kafka,
            metrics=metrics,
            health=health,
            clock=SYSTEM,
            on_assigned=assigned,
            on_revoked=flow.revoked,
            exclude=(settings.topics.dead_letters, settings.topics.state),
        )
        await consumer.start()
        stack.push_async_callback(consumer.stop)
        source = Source(
            consumer,
            flow.checkpoint,
            health,
            buffer_records=settings.deliver.buffer_records,
            buffer_bytes=int(settings.deliver.buffer_bytes),
        )
        running = partial(flow.run, consumer, source)
        return partial(_beside, sent.run, running) if sent else running

    async def _reverse(self, stack: AsyncExitStack) -> "Direction":
        settings = self.settings
        leader = Leader(
            settings.kafka, f"{settings.kafka.group}-reverse", settings.topics.state
        )
        alone = self._only == "reverse"
        if alone:
            await spread(self._chance)
        flow = await self._back(stack, leader, alone=alone)
        return partial(_beside, leader.run, flow.run)

    async def sync_profile(self, who: str) -> reverse.Kind | None:
        """Fetch one profile from Klaviyo and publish it; say as what it is news, if so.

        Raises `PipelineError`.
        """
        async with AsyncExitStack() as stack:
            if self.settings.topics.create:
                await self._create_topics()
            leader = Leader(self.settings.kafka, "", self.settings.topics.state)
            return await (await self._back(stack, leader)).sync(who)

    async def _back(
        self, stack: AsyncExitStack, turn: Turn, *, alone: bool = True
    ) -> reverse.Flow:
        settings, health, metrics = self.settings, self.health, self.metrics
        client = await stack.enter_async_context(
            connect(settings, health, metrics, reverse=True, tracing=self.tracing)
        )
        if alone:  # else the forward direction looks: one call a second is allowed
            await same_account(settings, await client.accounts())
        publisher = Publisher(
            transactions=Transactions(settings.kafka, f"{settings.kafka.group}-reverse"),
            follower=Follower(settings.kafka, settings.topics.state, f"{settings.slug}/"),
            view=View(settings.reverse.folder),
            profiles=settings.topics.profiles,
            state=settings.topics.state,
            slug=settings.slug,
            subscription=settings.subscription.name,
            key=settings.reverse.key,
            metrics=metrics,
        )
        carry = Carry(
            poller=Poller(client, SYSTEM),
            publisher=publisher,
            turn=turn,
            settings=settings.reverse,
            health=health,
            metrics=metrics,
            clock=SYSTEM,
        )
        return reverse.Flow(carry, settings.reverse, health, SYSTEM)

    async def _create_topics(self) -> None:
        topics = self.settings.topics
        admin = Admin(self.settings.kafka)
        for topic in (topics.dead_letters, topics.profiles, topics.state):
            try:
                if await admin.create_missing(topic, compact=topic == topics.state):
                    self._log.info("created", topic=topic)
            except TopicRefused as refused:
                # Not needed at once; whoever needs it halts or waits, and says so.
                self._log.warning("topic cannot be created", message=str(refused))


def _tracing(settings: Settings) -> "Tracing | None":
    if not settings.tracing.enabled:
        return None
    try:
        from pipeline.observe.tracing import Tracing  # noqa: PLC0415  an extra, and off
    except ImportError:
        raise SettingsError(
            "tracing.enabled is true, but the libraries for it are not installed: "
            "pip install 'klaviyo-pipeline[tracing]', or leave the setting false."
        ) from None
    return Tracing()


async def _together(directions: Collection[Direction], stop: asyncio.Event) -> None:
    """Run them until `stop`, or until one fails: then the other one stops as well."""
    ending = asyncio.Event()
    tasks = [asyncio.ensure_future(run(ending)) for run in directions]
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        ending.set()
        await asyncio.gather(*tasks)
    finally:
        for task in (*tasks, stopping):
            task.cancel()
        await asyncio.gather(*tasks, stopping, return_exceptions=True)


async def _beside(
    endless: Callable[[], Awaitable[None]], run: Direction, stop: asyncio.Event
) -> None:
    """Run with what it needs beside it; a failure of either ends both."""
    beside, running = asyncio.ensure_future(endless()), asyncio.ensure_future(run(stop))
    try:
        await asyncio.wait([beside, running], return_when=asyncio.FIRST_COMPLETED)
        if beside.done():
            beside.result()
        await running
    finally:
        for task in (running, beside):
            task.cancel()
        await asyncio.gather(running, beside, return_exceptions=True)


def run(settings: Settings, only: Only = None) -> None:
    """Run until SIGTERM or SIGINT; a second signal ends the process at once."""
    # A backlog makes many objects that live for seconds and no cycles: the collector's
    # usual pace would cost a sixth of our time. What libraries leave is still found.
    gc.freeze()
    gc.set_threshold(200_000, 10, 1000)
    uvloop.run(_until_signal(settings, only))


async def _until_signal(settings: Settings, only: Only) -> None:
    tidying = asyncio.create_task(_tidy())
    try:
        await App(settings, only).run(stop_on_signal())
    finally:
        tidying.cancel()


async def _tidy() -> None:
    """Give back what bursts and errors leave behind, however little is made since.

    An error's cycle may hold a whole request, and glibc keeps what is free between two
    blocks in use: under faults, 5 MiB a minute.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while True:
        await asyncio.sleep(TIDY_EVERY)
        gc.collect()
        if trim is not None:
            trim(0)


def stop_on_signal() -> asyncio.Event:
    """Give an event that SIGTERM and SIGINT set; a second one ends the process."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            # Nothing is lost by it: only settled offsets were ever committed.
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    return stop
