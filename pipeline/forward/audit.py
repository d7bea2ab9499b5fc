"""Does Klaviyo hold what it accepted? A few items are read back later and compared.

A 202 means validated and queued: an event may still be dropped, a bulk request of events
has no status to ask for, a phone number may go missing without a word. So one item of
`audit.sample` waits here, is read when Klaviyo must have it, several times because reads
lag behind, and what it does not hold is counted and said.

A later change of the same customer overtakes a profile: then nothing can be told.
Nothing here stops a delivery: the reads have a quota of their own (get_profiles,
get_events), a read that fails is no outage, and a key without the scopes profiles:read
and events:read only switches the audit off.
"""

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec
import structlog
from msgspec import UNSET

from pipeline.clock import Clock
from pipeline.forward import difference
from pipeline.klaviyo import held
from pipeline.klaviyo.client import Client
from pipeline.observe.metrics import Metrics
from pipeline.records import Item, Kind
from schemas import klaviyo as wire
from schemas.commands import (
    ChangeConsent,
    Command,
    CreateEvent,
    EraseProfile,
    SuppressProfile,
    UpsertProfile,
)

__all__ = ["DELAYS", "Audit"]

Result: TypeAlias = Literal["held", "mismatch", "overtaken", "unread", "crowded"]

# Seconds before each look at a sample. A profile-import is done when it is answered, and
# no lag of GET /profiles is known. An event may take minutes (Klaviyo, "Events API
# overview"), and GET /events lags: connectors found 110 minutes too short a look-back and
# went to 4 hours.
DELAYS: Final[dict[Kind, Sequence[float]]] = {
    "profile": (60.0, 120.0, 240.0),
    "event": (900.0, 3600.0, 4 * 3600.0),
}
# What carries it: a call of its own, or one in bulk.
OPERATIONS: Final[dict[Kind, tuple[str, str]]] = {
    "profile": ("create_or_update_profile", "bulk_import_profiles"),
    "event": ("create_event", "bulk_create_events"),
}
ROOM: Final = 4 * 2**20  # bytes of samples that wait; a few thousand orders
NAMED: Final = 10  # fields named in one log line


class _Sample(msgspec.Struct, gc=False):
    kind: Kind
    operation: str
    sent: bytes  # the body as a single call has it
    who: dict[str, str]  # identifiers under Klaviyo's names, the strongest first
    place: tuple[str, int, int]  # topic, partition, offset
    looks: int = 0
    overtaken: bool = False


class _Finding(msgspec.Struct, frozen=True):
    """Fields that Klaviyo shows otherwise; `id` is Klaviyo's, None when it has none."""

    fields: list[str]
    id: str | None


class Audit:
    """Chooses, waits, reads, compares. One task; `delivered` is told of each item."""

    def __init__(
        self,
        client: Client,
        sample: int,
        chance: Callable[[], float],
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """One of `sample` items, 0 for none; `chance` draws from [0, 1)."""
        self._client = client
        self._sample = sample
        self._chance = chance
        self._metrics = metrics
        self._clock = clock
        self._log = structlog.get_logger("audit")
        self._waiting: list[tuple[float, int, _Sample]] = []  # by monotonic s
        self._bytes = 0
        self._numbers = itertools.count()
        self._watched: dict[str, _Sample] = {}  # identifier -> profile that waits
        self._added = asyncio.Event()
        self._left = self._gap()
        for result in get_args(Result):  # at 0: an alert must see the first one
            metrics.audits.labels(result)
        for operation in itertools.chain.from_iterable(OPERATIONS.values()):
            metrics.audit_mismatches.labels(operation)

    def delivered(self, items: Iterable[Item], *, bulk: bool) -> None:
        """Klaviyo accepted these items. Nearly always a countdown."""
        for item in items:
            if watched := self._watched:
                who = item.command.identity
                for name in (who.external_id, who.email, who.phone):
                    if name in watched:
                        self._overtake(watched[name])
            self._left -= len(item.commands)
            while self._left <= 0:
                self._take(item, item.commands[int(self._left) - 1], bulk=bulk)
                self._left += self._gap()

    def revoked(self) -> None:
        """From now on others may change the customers whose profiles wait here."""
        for sample in list(self._watched.values()):
            self._overtake(sample)

    async def run(self) -> None:
        """Look at samples when they are due, for ever."""
        while True:
            sample = await self._due()
            try:
                await self._look(sample)
            except Exception as error:  # noqa: BLE001  a bug of the audit costs the audit
                self._switch_off(
                    "the audit failed and is off until the next start",
                    error=type(error).__name__,
                )

    # -- choose and wait ------------------------------------------------------------

    def _gap(self) -> float:
        """Commands until the next sample; random, as what comes may have a rhythm."""
        if not self._sample:
            return math.inf
        return 1 + int(self._chance() * (2 * self._sample - 1))

    def _take(self, item: Item, command: Command, *, bulk: bool) -> None:
        if isinstance(command, ChangeConsent):
            return  # a job takes minutes, and other people change consent as well
        if isinstance(command, SuppressProfile | EraseProfile):
            return  # it takes hours, or leaves nothing to be read
        if isinstance(command, CreateEvent) and command.time is UNSET:
            return  # Klaviyo chose the second it would have to be looked for in
        kind, sent = _sent(command, self._client.served)
        who = wire.identifiers(command.identity)
        if not any(map(held.askable, who.values())):
            return
        if self._bytes + len(sent) > ROOM:
            self._count("crowded")
            return
        record = item.parts[-1][0].record
        place = (record.topic, record.partition, record.offset)
        sample = _Sample(kind, OPERATIONS[kind][bulk], sent, who, place)
        if kind == "profile":
            self._watched.update(dict.fromkeys(who.values(), sample))
        self._bytes += len(sent)
        self._wait(sample)

    def _wait(self, sample: _Sample) -> None:
        due = self._clock.monotonic() + DELAYS[sample.kind][sample.looks]
        heapq.heappush(self._waiting, (due, next(self._numbers), sample))
        self._added.set()

    async def _due(self) -> _Sample:
        """The sample to look at next; what is added meanwhile may be due earlier."""
        while True:
            self._added.clear()
            left = None
            if self._waiting:
                left = self._waiting[0][0] - self._clock.monotonic()
                if left <= 0:
                    return heapq.heappop(self._waiting)[2]
            try:
                async with asyncio.timeout(left):
                    await self._added.wait()
            except TimeoutError:
                pass

    def _overtake(self, sample: _Sample) -> None:
        sample.overtaken = True
        self._forget(sample)

    def _forget(self, sample: _Sample) -> None:
        for name in sample.who.values():
            if self._watched.get(name) is sample:
                del self._watched[name]

    # -- read and compare -----------------------------------------------------------

    async def _look(self, sample: _Sample) -> None:
        found: _Finding | held.Unread | None = None
        if not sample.overtaken:
            sample.looks += 1
            found = await self._compare(sample)
        last = sample.looks == len(DELAYS[sample.kind])
        match found:
            case _ if sample.overtaken:
                self._end(sample, "overtaken")
            case held.Unread("forbidden"):
                self._end(sample, "unread")
                self._switch_off(
                    "the audit is off until the next start: the credential may not read; "
                    "make a key with the scopes profiles:read and events:read, or set "
                    "audit.sample to 0"
                )
            case _Finding(fields=[]):
                self._end(sample, "held")
            case _ if not last:
                self._wait(sample)
            case _Finding():
                self._end(sample, "mismatch")
                self._report(sample, found)
            case _:
                self._end(sample, "unread")

    async def _compare(self, sample: _Sample) -> _Finding | held.Unread:
        """Ask for the customer by one identifier after the other."""
        sent = msgspec.json.decode(sample.sent)
        nearest: _Finding | None = None
        for kind, value in sample.who.items():
            if not held.askable(value):
                continue
            person = await self._client.profile(kind, value)
            if person is None:
                continue
            if isinstance(person, held.Unread):
                return person
            if sample.kind == "profile":
                return _Finding(difference.profile(sent, person.attributes), person.id)
            found = await self._event(sent, person.id)
            if isinstance(found, held.Unread) or not found.fields:
                return found
            nearest = nearest or found
        return nearest or _Finding([sample.kind], None)

    async def _event(self, sent: dict[str, Any], profile: str) -> _Finding | held.Unread:
        """The event of the profile that comes closest to what was sent.

        It is known by its metric, its second and its unique_id, which is shown as the
        property `$event_id` ("Events API overview"); the newest documents do not name it,
        so where it is absent the properties decide.
        """
        attributes = sent["data"]["attributes"]
        at = datetime.fromisoformat(attributes["time"])
        events = await self._client.events(profile, at)
        if isinstance(events, held.Unread):
            return events
        metric = attributes["metric"]["data"]["attributes"]["name"]
        unique_id = attributes["unique_id"]
        findings = [
            _Finding(difference.event(sent, each.properties), each.id)
            for each in events
            if each.metric == metric
            and each.properties.get("$event_id", unique_id) == unique_id
        ]
        missing = _Finding(["event"], None)
        return min(findings, key=lambda each: len(each.fields), default=missing)

    # -- say ------------------------------------------------------------------------

    def _end(self, sample: _Sample, result: Result) -> None:
        self._bytes -= len(sample.sent)
        self._forget(sample)
        self._count(result)

    def _count(self, result: Result) -> None:
        self._metrics.audits.labels(result).inc()

    def _report(self, sample: _Sample, found: _Finding) -> None:
        self._metrics.audit_mismatches.labels(sample.operation).inc()
        topic, partition, offset = sample.place
        self._log.error(
            "Klaviyo does not hold what it accepted",
            operation=sample.operation,
            fields=found.fields[:NAMED],
            klaviyo_id=found.id,
            topic=topic,
            partition=partition,
            offset=offset,
        )

    def _switch_off(self, message: str, **fields: str) -> None:
        self._left = math.inf
        self._waiting.clear()
        self._watched.clear()
        self._log.warning(message, **fields)


def _sent(command: UpsertProfile | CreateEvent, revision: str) -> tuple[Kind, bytes]:
    """Kind, and body as of a single call."""
    match command:
        case UpsertProfile():
            return "profile", wire.profile_import(command, revision)
        case CreateEvent():
            return "event", wire.event(command, revision)
