"""The composition root: builds the parts, starts and stops them in order, with deadlines.

Start: probes (so that Kubernetes sees us), topics, then per direction what it needs;
forward: producer, Klaviyo session and the revision it serves, consumer, flow; reverse:
Klaviyo session, membership, flow. Stop is the reverse; each step is bounded, because a
broker or Klaviyo that is down must not keep the process alive (contract G8).
"""

import asyncio
import gc
import os
import random
import signal
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
)
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import structlog
import uvloop

from pipeline.clock import SYSTEM
from pipeline.errors import PipelineError, SettingsError
from pipeline.forward.asked import Asked
from pipeline.forward.audit import Audit
from pipeline.forward.consent import Consents
from pipeline.forward.dead_letters import DeadLetters
from pipeline.forward.deletions import Deletions
from pipeline.forward.deliver import Deliver
from pipeline.forward.erased import Erased
from pipeline.forward.facts import Facts, Table
from pipeline.forward.flood import Flood
from pipeline.forward.flow import Flow
from pipeline.forward.imports import Imports
from pipeline.forward.ledger import Ledger
from pipeline.forward.links import Links
from pipeline.forward.merges import Merges
from pipeline.forward.plan import Planner
from pipeline.forward.sent import Sent
from pipeline.forward.source import Source
from pipeline.kafka.admin import Admin, TopicRefused
from pipeline.kafka.consumer import Consumer
from pipeline.kafka.follow import Follower
from pipeline.kafka.leader import Leader
from pipeline.kafka.producer import Producer
from pipeline.kafka.schema_registry import SchemaRegistry
from pipeline.kafka.state import State
from pipeline.kafka.transactions import Transactions
from pipeline.klaviyo.access import Access
from pipeline.klaviyo.account import AnotherAccount, Belongs
from pipeline.klaviyo.auth import ApiKey, Credential
from pipeline.klaviyo.backoff import backoff
from pipeline.klaviyo.client import Account, Client
from pipeline.klaviyo.connect import Connect
from pipeline.klaviyo.connect_page import ConnectPage
from pipeline.klaviyo.jobs import Jobs
from pipeline.klaviyo.limits import Ceiling, Limits
from pipeline.klaviyo.lists import Lists
from pipeline.klaviyo.oauth import App as Registered
from pipeline.klaviyo.oauth import OAuth
from pipeline.klaviyo.revision import Revision
from pipeline.klaviyo.session import Refused, Session
from pipeline.klaviyo.share import Share
from pipeline.klaviyo.tokens import Vault
from pipeline.klaviyo.trust import trust
from pipeline.observe.health import Health
from pipeline.observe.http import Probes
from pipeline.observe.metrics import Metrics
from pipeline.records import Partition
from pipeline.reverse import flow as reverse
from pipeline.reverse.poll import Poller
from pipeline.reverse.publish import Publisher
from pipeline.reverse.view import View
from pipeline.settings import Settings
from schemas import event as schema
from schemas.klaviyo import BACKFILL_SINCE, most_properties

if TYPE_CHECKING:  # OpenTelemetry is an extra, and off
    from pipeline.observe.tracing import Tracing

__all__ = [
    "App",
    "account",
    "connect",
    "context",
    "forward",
    "planning",
    "require_history",
    "run",
    "same_account",
    "stop_on_signal",
    "telling",
]

ERASES: Final = "data-privacy:write"  # the scope nobody needs to be asked for otherwise
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
        self.metrics = Metrics()
        self.health = Health(self.metrics, SYSTEM)
        self.tracing = _tracing(settings)
        self.page: ConnectPage | None = None
        self._states: tuple[State, ...] = ()
        if settings.uses_oauth:
            self._states = state, belongs = _state(settings), _belongs(settings)
            account = _account(settings, state, belongs)
            self.page = ConnectPage(account, self.health, SYSTEM)
        self.probes = Probes(
            settings.http,
            self.health,
            self.metrics,
            self.page.routes() if self.page else (),
        )
        self.metrics.build.labels(
            version("klaviyo-pipeline"), settings.klaviyo.api_revision
        ).set(1)
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
            share.owns(consumer.part)
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
        flow = await self._back(stack, leader, alone=self._only == "reverse")
        return partial(_beside, leader.run, flow.run)

    async def sync_profile(self, who: str) -> reverse.Kind | None:
        """Fetch one profile from Klaviyo and publish it if it is news; say as what.

        Raises `PipelineError`.
        """
        async with AsyncExitStack() as stack:
            if self.settings.topics.create:
                await self._create_topics()
            leader = Leader(self.settings.kafka, "", self.settings.topics.state)
            return await (await self._back(stack, leader)).sync(who)

    async def _back(
        self, stack: AsyncExitStack, turn: reverse.Turn, *, alone: bool = True
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
        return reverse.Flow(
            poller=Poller(client, SYSTEM),
            publisher=publisher,
            turn=turn,
            settings=settings.reverse,
            health=health,
            metrics=metrics,
            clock=SYSTEM,
        )

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


@asynccontextmanager
async def connect(
    settings: Settings,
    health: Health,
    metrics: Metrics,
    wrapped: Callable[[Session], Session] | None = None,
    *,
    reverse: bool = False,
    tracing: "Tracing | None" = None,
    spare: bool = False,
) -> AsyncIterator[Client]:
    """Open the way to Klaviyo that the settings describe; leaving the block closes it.

    `wrapped` may put something of its own between the client and the session. Each
    direction has its own: the poller spends from other limits than the writes. `spare`
    takes only the quota that a running service leaves.
    """
    throttle = settings.throttle
    calls, seconds = (
        (throttle.limit_reverse, throttle.seconds_reverse)
        if reverse
        else (throttle.limit, throttle.seconds)
    )
    ceiling = Ceiling(calls, seconds) if calls and seconds else None
    chance = random.Random().random  # noqa: S311  jitter, not a secret
    limits = Limits(
        SYSTEM, chance, share=throttle.quota_share, ceiling=ceiling, spare=spare
    )
    async with _credential(settings, health, metrics) as credential:
        session = Session(
            api_url=settings.klaviyo.api_url,
            agent=_agent(settings),
            credential=credential,
            revision=Revision(
                settings.klaviyo.api_revision,
                strict=settings.klaviyo.strict_revision,
                metrics=metrics,
                clock=SYSTEM,
            ),
            limits=limits,
            connections=throttle.concurrent_connections,
            health=health,
            metrics=metrics,
            clock=SYSTEM,
            chance=chance,
            trust=trust(settings.klaviyo.ssl_cafile),
            tracing=tracing,
        )
        async with session:
            yield Client(wrapped(session) if wrapped else session, limits)


@asynccontextmanager
async def account(settings: Settings) -> AsyncIterator[Connect]:
    """Open what `login`, `logout` and `status` work with: the app, the stored tokens.

    Makes the state topic if it is missing and may be made. Raises `SettingsError`,
    `KafkaUnreachable`.
    """
    settings.require_oauth()
    state, belongs = _state(settings), _belongs(settings)
    try:
        if settings.topics.create:
            with suppress(TopicRefused):  # said when something is written
                await Admin(settings.kafka).create_missing(
                    settings.topics.state, compact=True
                )
        yield _account(settings, state, belongs)
    finally:
        await state.close()
        await belongs.close()


@asynccontextmanager
async def _credential(
    settings: Settings, health: Health, metrics: Metrics
) -> AsyncIterator[Credential]:
    """What we log in with: the private key, or the tokens of the account connected."""
    if not settings.uses_oauth:
        yield ApiKey(
            settings.api_key().current_api_key, partial(_wrong, settings, health)
        )
        return
    state = _state(settings)
    try:
        async with Access(
            _oauth(settings),
            _vault(settings, state),
            health=health,
            metrics=metrics,
            clock=SYSTEM,
            chance=random.Random().random,  # noqa: S311  jitter, not a secret
        ) as access:
            yield access
    finally:
        await state.close()


async def _wrong(settings: Settings, health: Health) -> str:
    """Say why the key in force may not be used: blank, or whose it is."""
    chance = random.Random().random  # noqa: S311  jitter, not a secret
    failures = 0
    while True:
        metrics = Metrics()
        try:
            async with connect(settings, Health(metrics, SYSTEM), metrics) as client:
                found = await client.probe()
            await same_account(settings, found.account)
            why = found.message if found.standing == "unreachable" else ""
        except AnotherAccount as error:
            return str(error)
        except PipelineError as error:
            why = str(error)
        if not why:
            health.back("klaviyo_account")
            return ""  # if the key is refused, the call itself says so
        failures += 1
        health.away("klaviyo_account", f"it is not known whose the new key is: {why}")
        await asyncio.sleep(backoff(failures, chance()))


async def same_account(
    settings: Settings,
    found: Account | Refused | None,
    *,
    replace: bool = False,
    look_only: bool = False,
) -> None:
    """Make sure that this is the account the subscription delivers to.

    The first one is remembered, unless `look_only`. Raises `AnotherAccount`, and what
    reading and writing the state topic raises.
    """
    if isinstance(found, Account):
        state = _belongs(settings)
        try:
            ask = Belongs(state).check if look_only else Belongs(state).to
            await ask(found.id, found.name or "", replace=replace)
        finally:
            await state.close()


def _belongs(settings: Settings) -> State:
    return State(settings.kafka, settings.topics.state, f"{settings.slug}/account")


def _account(settings: Settings, state: State, belongs: State) -> Connect:
    return Connect(_oauth(settings), _vault(settings, state), Belongs(belongs))


def _state(settings: Settings) -> State:
    return State(settings.kafka, settings.topics.state, f"{settings.slug}/oauth")


def _vault(settings: Settings, state: State) -> Vault:
    chance = random.Random().random  # noqa: S311  jitter, not a secret
    return Vault(state, settings.secrets.key.get_secret_value(), SYSTEM, chance)


def _oauth(settings: Settings) -> OAuth:
    klaviyo = settings.klaviyo
    scopes = klaviyo.scopes
    if settings.deletes.policy == "erase" and ERASES not in scopes:
        scopes = (*scopes, ERASES)
    registered = Registered(
        client_id=klaviyo.client_id,
        client_secret=klaviyo.client_secret.get_secret_value(),
        redirect_url=klaviyo.redirect_url,
        scopes=scopes,
    )
    return OAuth(
        registered,
        klaviyo.api_url,
        _agent(settings),
        klaviyo.api_revision,
        SYSTEM,
        trust(klaviyo.ssl_cafile),
    )


def _agent(settings: Settings) -> str:
    own = f"klaviyo-pipeline/{version('klaviyo-pipeline')}"
    return f"{own} ({settings.subscription.version})"


def planning(
    settings: Settings, registry: SchemaRegistry | None = None, *, backfill: bool = False
) -> Planner:
    """Build what turns records into commands."""
    return Planner(context(settings, backfill=backfill), settings.mapping, registry)


def telling(
    settings: Settings, producer: Producer, client: Client, health: Health
) -> Sent | None:
    """Build what tells the reverse direction of writes; None if nobody listens."""
    if not settings.reverse.enabled:
        return None
    return Sent(
        producer,
        settings.topics.state,
        settings.slug,
        lambda: client.now() or SYSTEM.now(),
        health,
    )


def forward(
    settings: Settings,
    client: Client,
    planner: Planner,
    dead_letters: DeadLetters,
    health: Health,
    metrics: Metrics,
    imports: Imports | None = None,
    sent: Sent | None = None,
    asked: Asked | None = None,
    tracing: "Tracing | None" = None,
    *,
    writes: bool = True,
) -> Flow:
    """Join the stages of the forward direction, as the settings say.

    Without `imports` no profile goes by bulk. `sent` is told what Klaviyo took. Without
    `asked` what was asked for lately is forgotten at the end; without `writes` nothing is
    kept of what is learnt, as nothing is sent.
    """
    facts: list[Facts] = []

    def kept(owner: str, table: Table) -> Facts:
        prefix = f"{settings.slug}/{owner}"
        state = State(settings.kafka, settings.topics.state, prefix)
        facts.append(Facts(state, table, health, writes=writes))
        return facts[-1]

    erasing = linking = merge = None
    if settings.deletes.policy == "erase":
        erased = Erased(settings.secrets.key.get_secret_value())
        erasing = erased, kept("erased", erased)
    if settings.profile.identity_conflict == "merge":
        links = Links()
        linking = links, kept("links", links)
        merge = Merges(client, *linking).merge
    consents = Consents(
        client=client,
        lists=Lists(client.subscriptions, SYSTEM, create=settings.consent.create_lists),
        asked=asked or Asked(None, health, SYSTEM),
        source=settings.subscription.name,
        default=settings.consent.list,
        metrics=metrics,
        clock=SYSTEM,
    )
    return Flow(
        planner=planner,
        client=client,
        deliver=Deliver(client, metrics, settings.profile.identity_conflict, merge),
        deletions=Deletions(client, SYSTEM, erasing, linking),
        facts=facts,
        imports=imports,
        consents=consents,
        sent=sent,
        dead_letters=dead_letters,
        flood=Flood(settings.deliver.malformed_limit, health),
        audit=Audit(
            client,
            settings.audit.sample,
            random.Random().random,  # noqa: S311  which ones, not a secret
            metrics,
            SYSTEM,
        ),
        connections=settings.throttle.concurrent_connections,
        health=health,
        metrics=metrics,
        clock=SYSTEM,
        tracing=tracing,
    )


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


def context(settings: Settings, *, backfill: bool = False) -> schema.Context:
    """Give what commands depend on beside the record."""
    return schema.Context(
        metrics=settings.events.model_dump(),
        default_country=settings.profile.default_country or None,
        generate_events=settings.klaviyo.generate_events,
        deletes=settings.deletes.policy,
        most_properties=most_properties(settings.klaviyo.api_revision),
        backfill=backfill,
        consent=settings.consent.writes,
        backfill_after=settings.deliver.backfill_after,
    )


def require_history(context: schema.Context, served: str) -> None:
    """Make sure that events can be marked as history, where that is asked for.

    Raises `SettingsError` for a revision without it: there flows would mail customers.
    """
    if served >= BACKFILL_SINCE or not (context.backfill or context.backfill_after):
        return
    asked = "a backfill" if context.backfill else "deliver.backfill_after"
    raise SettingsError(
        f"Klaviyo serves revision {served}, in which events cannot be marked as "
        "history: its flows would send messages to customers. Set "
        f"klaviyo.api_revision to {BACKFILL_SINCE} or newer for {asked}."
    )


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
    await App(settings, only).run(stop_on_signal())


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
