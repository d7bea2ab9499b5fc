"""The whole forward direction against a sandbox Klaviyo, in one virtual loop.

Kafka is a list of records and a dict of notes; everything else is the real thing. Time
jumps, so what takes Klaviyo minutes takes a test no time.
"""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from pipeline.errors import PipelineError
from pipeline.forward.asked import Asked
from pipeline.forward.consent import Consents
from pipeline.forward.plan import Planner
from pipeline.forward.source import Source
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.limits import Limits
from pipeline.klaviyo.lists import Lists
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import Mark, Partition, Record
from pipeline.sandbox import Rule, Sandbox
from pipeline.sandbox import Settings as SandboxSettings
from pipeline.sandbox.consent import Consent
from pipeline.sandbox.profile import Profile
from pipeline.sandbox.state import List
from schemas.commands import ChangeConsent, Command
from schemas.event import Context
from schemas.mapping import NO_MAPPINGS, Mappings
from tests.parts import forward, session
from tests.virtual_time import LoopClock

__all__ = [
    "ADA",
    "ADD",
    "IMPORT",
    "NO",
    "REMOVE",
    "REVISIONS",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "YES",
    "Notes",
    "World",
    "at",
    "each",
    "fault",
]

TOPIC = "shop"
REVISIONS = ("2025-01-15", "2026-07-15")
IMPORT = "POST /api/profile-import"
SUBSCRIBE = "POST /api/profile-subscription-bulk-create-jobs"
UNSUBSCRIBE = "POST /api/profile-subscription-bulk-delete-jobs"
ADD = "POST /api/lists/{id}/relationships/profiles"
REMOVE = "DELETE /api/lists/{id}/relationships/profiles"
YES = {"email": {"status": "subscribed"}}
NO = {"email": {"status": "unsubscribed"}}
each = pytest.mark.parametrize("revision", REVISIONS)
ADA = {"id": "C-1", "email": "ada@shop.dev", "phone": "+12025550123"}


def at(seconds: float) -> str:
    """That time of the virtual loop, as records have it; negative is before the start."""
    when = datetime.fromtimestamp(LoopClock().now(), UTC).timestamp() + seconds
    return datetime.fromtimestamp(when, UTC).isoformat().replace("+00:00", "Z")


def fault(world: "World", path: str, action: dict[str, Any], **match: Any) -> None:
    """Let it happen to requests of that path."""
    rule = {"match": {"path": path, **match}, "action": action}
    world.sandbox.faults.add(msgspec.convert(rule, Rule))


class Notes:
    """The state topic: what was put outlives whoever put it."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.away = False

    async def load(self) -> dict[str, bytes]:
        await asyncio.sleep(0.01)
        self._reach()
        return dict(self.held)

    async def put(self, name: str, value: bytes | None) -> None:
        await asyncio.sleep(0.01)
        self._reach()
        if value is None:
            self.held.pop(name, None)
        else:
            self.held[name] = value

    async def close(self) -> None:
        """Nothing is open."""

    def _reach(self) -> None:
        if self.away:
            raise PipelineError("the state topic cannot be reached")


class World:
    """One shop's topic, one account at Klaviyo, and the pipeline between them."""

    def __init__(
        self,
        revision: str = REVISIONS[-1],
        *,
        writes: bool = True,
        backfill: bool = False,
        default: str = "",
        create: bool = False,
        topics: Sequence[str] = (TOPIC,),
        mappings: Mappings = NO_MAPPINGS,
        **klaviyo: Any,
    ) -> None:
        self._revision = revision
        self._context = Context(default_country="US", consent=writes, backfill=backfill)
        self._default = default
        self._create = create
        self._mappings = mappings
        self._ends: dict[Partition, int] = dict.fromkeys([(t, 0) for t in topics], 0)
        self._marks: dict[Partition, int] = {}
        settings = SandboxSettings(limits=False, keep_bodies=True).changed(klaviyo)
        self.clock = LoopClock()
        self.sandbox = Sandbox(settings=settings, clock=self.clock)
        self.notes = Notes()
        self.log: list[Record] = []
        self.position = 0
        self.letters: list[dict[str, str]] = []
        self.dead: dict[bytes, list[str]] = {}  # key -> reasons
        self.took: list[Command] = []

    async def __aenter__(self) -> Self:
        await self.sandbox.__aenter__()
        await self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.crash()
        await self.sandbox.__aexit__(None, None, None)

    async def _begin(self) -> None:
        clock = self.clock
        self.metrics = metrics = Metrics(CollectorRegistry())
        health = Health(metrics, clock)
        health.phase = "running"
        limits = Limits(clock, lambda: 0.5)
        url = self.sandbox.url
        self._session = session(url, limits, metrics, health, revision=self._revision)
        await self._session.__aenter__()
        self.client = client = Client(self._session, limits)
        await client.accounts()
        notes: Any = self.notes
        broker: Any = self
        consents = Consents(
            client=client,
            lists=Lists(client.subscriptions, clock, create=self._create),
            asked=Asked(notes, health, clock),
            source="the shop",
            default=self._default,
            metrics=metrics,
            clock=clock,
        )
        flow = forward(
            client,
            broker,
            metrics,
            health,
            planner=Planner(self._context, self._mappings),
            consents=consents,
            sent=broker,
        )
        flow.assigned(dict.fromkeys(self._ends, ()))
        source = Source(
            broker, flow.checkpoint, health, buffer_records=50_000, buffer_bytes=2**26
        )
        self._running = asyncio.create_task(flow.run(broker, source, asyncio.Event()))

    async def crash(self) -> None:
        """Cancel everything; what was not committed is read again by the next."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._session.__aexit__()

    async def restart(self) -> None:
        """A crash, and a new process: only the notes and the offsets are left."""
        await self.crash()
        self.position = self.committed
        await self._begin()

    # -- the shop ------------------------------------------------------------------------

    def say(self, occurred_at: str | None = None, **customer: Any) -> None:
        """Write a customer record."""
        self.write(
            {"type": "customer.updated", "occurred_at": occurred_at, "customer": customer}
        )

    def write(self, message: dict[str, Any]) -> None:
        """Write a record."""
        self.put(TOPIC, None, json.dumps(message).encode())

    def put(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        """Write a record as it is to one of the topics."""
        partition = (topic, 0)
        offset, self._ends[partition] = self._ends[partition], self._ends[partition] + 1
        timestamp = int(self.clock.now() * 1000)
        self.log.append(Record(*partition, offset, timestamp, key, value))

    @property
    def committed(self) -> int:
        """How many records are below the committed offsets."""
        return sum(self._marks.values())

    async def settled(self) -> Self:
        """Wait until all is committed, and Klaviyo has done what it was asked."""
        while self.committed < len(self.log):
            assert not self._running.done(), self._running.exception()
            await asyncio.sleep(0.5)
        settings = self.sandbox.settings
        await asyncio.sleep(settings.subscribe_delay + 0.1)
        self.sandbox.state.catch_up()
        return self

    async def heard(self, occurred_at: str | None = None, **customer: Any) -> Self:
        """Write a customer record and wait until it has taken effect."""
        self.say(occurred_at, **customer)
        return await self.settled()

    def change(self, **klaviyo: Any) -> None:
        """Change the sandbox."""
        self.sandbox.settings = self.sandbox.settings.changed(klaviyo)

    # -- what outsiders see --------------------------------------------------------------

    def profile(self, email: str = "ada@shop.dev") -> Profile:
        """Who has that address."""
        found = self.sandbox.state.profiles.owner("email", email)
        assert found is not None, f"no profile {email}"
        return found

    def consent(self, email: str = "ada@shop.dev") -> Consent:
        """What Klaviyo holds of who has that address."""
        return self.profile(email).consent

    def status(self, channel: str = "email", email: str = "ada@shop.dev") -> str:
        """The consent Klaviyo holds."""
        held = self.consent(email).channels.get(f"{channel}.marketing")
        return held.status if held else "NEVER_SUBSCRIBED"

    def group(self, name: str, opt_in: str = "single_opt_in", created: int = 1) -> List:
        """Make a list by hand, in Klaviyo."""
        state = self.sandbox.state
        made = List(state.ids.short(), name, created, created, opt_in)
        state.lists[made.id] = made
        return made

    def members(self, name: str) -> set[str | None]:
        """External ids of who is on the lists of that name."""
        state = self.sandbox.state
        return {
            state.profiles.by_id[member].identifiers.get("external_id")
            for group in state.lists.values()
            if group.name == name
            for member in group.members
        }

    def bodies(self, operation: str) -> list[Any]:
        """The bodies of accepted requests, in their order."""
        return [
            entry.body["data"]
            for entry in self.sandbox.ledger.entries
            if entry.operation == operation and entry.status < 300
        ]

    def asked(self, operation: str) -> list[list[str]]:
        """The addresses in each request, refused ones included."""
        return [
            [row["attributes"]["email"] for row in data["attributes"]["profiles"]["data"]]
            for entry in self.sandbox.ledger.entries
            if entry.operation == operation
            for data in [entry.body["data"]]
        ]

    def count(self, operation: str) -> int:
        """How many requests there were, refused ones included."""
        entries = self.sandbox.ledger.entries
        return sum(entry.operation == operation for entry in entries)

    def writes(self) -> list[str]:
        """The operations that change something, in their order."""
        entries = self.sandbox.ledger.entries
        return [e.operation for e in entries if not e.operation.startswith("GET")]

    def number(self, name: str, **labels: str) -> float:
        """A metric's value now; 0 when it has none."""
        full = f"klaviyo_pipeline_{name}"
        return self.metrics.registry.get_sample_value(full, labels) or 0.0

    def lost(self, field: str) -> float:
        """How often a field was left out."""
        return self.number("degraded_fields_total", field=field)

    def echoes(self) -> list[ChangeConsent]:
        """What the reverse direction is told of consent that Klaviyo took."""
        return [each for each in self.took if isinstance(each, ChangeConsent)]

    # -- Kafka, as the pipeline sees it ----------------------------------------------

    async def poll(
        self, partitions: Collection[Partition], max_records: int, timeout: float
    ) -> list[Record]:
        found = self.log[self.position :][:max_records] if partitions else []
        await asyncio.sleep(0 if found else timeout)
        self.position += len(found)
        return found

    full = False

    def note(self, commands: Sequence[Command]) -> None:
        """The reverse direction is told of it."""
        self.took += commands

    async def told(self) -> bool:
        return True

    async def commit(self, marks: Mapping[Partition, Mark]) -> bool:
        await asyncio.sleep(0.005)
        self._marks |= {partition: mark.offset for partition, mark in marks.items()}
        return True

    def highwater(self, partition: Partition) -> int | None:
        return self._ends[partition]

    def began(self, partition: Partition) -> int | None:
        return None

    async def send(
        self,
        topic: str,
        key: Any,
        value: Any,
        headers: Any,
        timestamp_ms: int | None = None,
    ) -> None:
        letter = {name: text.decode() for name, text in headers}
        self.letters.append(letter)
        self.dead.setdefault(key or b"", []).append(letter["klaviyo.reason"])
