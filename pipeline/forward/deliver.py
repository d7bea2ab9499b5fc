"""Send a group, read the answer, say for each item how it ended.

Outages, limits and bad credentials never come back from the client: it waits them out.
What comes back is accepted, or refused by Klaviyo with a document that says why. A
refusal costs as little as possible: first the named optional field, then
the weaker identifiers, only then the item.
"""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from pipeline.forward.refused import dead
from pipeline.klaviyo.call import Accepted, Refused
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.family import Permit
from pipeline.klaviyo.retry import Fault
from pipeline.observe.metrics import Metrics
from pipeline.records import DELIVERED, Dead, Item, Outcome
from schemas import bulk_events
from schemas import klaviyo as wire
from schemas.commands import (
    ChangeConsent,
    Command,
    CreateEvent,
    EraseProfile,
    Identity,
    SuppressProfile,
    UpsertProfile,
)
from schemas.weight import LARGEST, lighter

__all__ = ["Deliver"]

Conflicts: TypeAlias = Literal["drop_identifier", "dead_letter", "merge"]
Merge: TypeAlias = Callable[[Identity], Awaitable[bool]]
_VANISHED: Final = 404  # the profile that was found was merged away or deleted
_CONFLICT: Final = 409
_TOO_LARGE: Final = 413
MERGES: Final = 3  # times the profiles of an item are merged before one is left alone
REPAIRS: Final = 10  # times an item is sent with less before it is given up

# What Klaviyo would say of a profile over 100 KB; it need not be asked.
_TOO_HEAVY: Final = Refused(
    _TOO_LARGE, (Fault("too_large", "/data/attributes", "Over 100 KB", ""),), 0
)


class Deliver:
    """Carries groups to Klaviyo; one outcome per item, in the order of the items."""

    def __init__(
        self,
        client: Client,
        metrics: Metrics,
        conflicts: Conflicts,
        merge: Merge | None = None,
    ) -> None:
        """`merge` makes all profiles of somebody one; false if there is nothing to do."""
        self._client = client
        self._metrics = metrics
        self._conflicts = conflicts
        self._merge = merge

    @property
    def served(self) -> str:
        """The revision whose bodies we speak."""
        return self._client.served

    async def send(
        self, items: Sequence[Item], permit: Permit, *, bulk: bool
    ) -> Sequence[Outcome]:
        """Outcomes by index. Cancelling it leaves no outcome at all."""
        if not bulk:
            return [await self._single(item, permit) for item in items]
        answer = await self._client.create_events(_body(items), permit)
        if isinstance(answer, Accepted):
            return [DELIVERED] * len(items)
        runs = [_rows(item) for item in items]
        rows = list(itertools.chain.from_iterable(runs))
        ends = iter(await self._refused(rows, answer, REPAIRS))
        outcomes = []
        for item, run in zip(items, runs, strict=True):
            own = list(itertools.islice(ends, len(run)))
            outcomes.append(next((end for end in own if end != DELIVERED), DELIVERED))
            item.commands = [row.command for row in run]  # what Klaviyo took
        return outcomes

    async def _bulk(self, rows: Sequence[Item], repairs: int) -> list[Outcome]:
        """All rows, of one event each, in one request."""
        if not rows:
            return []
        answer = await self._client.create_events(_body(rows), None)
        if isinstance(answer, Accepted):
            return [DELIVERED] * len(rows)
        return await self._refused(rows, answer, repairs)

    async def _refused(
        self, rows: Sequence[Item], answer: Refused, repairs: int
    ) -> list[Outcome]:
        """What Klaviyo names in a refusal is taken out, as it refuses a request whole.

        Rows that a pointer names are mended or dead, the rest is sent again; when nobody
        is named, halves find the one, the last by itself.
        """
        if len(rows) == 1:
            return [await self._single(rows[0], None)]
        named = _named(rows, answer)
        if not named:
            # One after the other: rows of one customer stand in both.
            middle = len(rows) // 2
            first = await self._bulk(rows[:middle], repairs)
            return first + await self._bulk(rows[middle:], repairs)
        outcomes: dict[int, Outcome] = {}
        for index, faults in named.items():
            row = rows[index]
            repaired = self._without(row.command, faults) if repairs else None
            if repaired is None:
                outcomes[index] = _dead(row.command, answer, answer.attempts, faults[0])
            else:
                row.commands = [repaired]
                _encode(row)
        rest = [index for index in range(len(rows)) if index not in outcomes]
        sent = await self._bulk([rows[index] for index in rest], repairs - 1)
        outcomes.update(zip(rest, sent, strict=True))
        return [outcomes[index] for index in range(len(rows))]

    async def _single(self, item: Item, permit: Permit | None) -> Outcome:
        command = item.command
        attempts = repairs = 0
        while True:
            answer = await self._call(command, permit)
            if answer is not _TOO_HEAVY:
                permit = None  # a repaired command is a new call
            attempts += answer.attempts
            if isinstance(answer, Accepted):
                item.commands = [command]  # what Klaviyo took
                return DELIVERED
            # What was coalesced is taken apart first: the value that is refused may have
            # come after a good one of the same field.
            alone = len(item.parts) == 1
            repaired = None
            if alone and repairs < REPAIRS:
                repaired = await self._repair(command, answer, repairs)
            if repaired is None:
                return _dead(command, answer, attempts)
            command = repaired
            repairs += 1

    async def _call(self, command: Command, permit: Permit | None) -> Accepted | Refused:
        revision = self._client.served
        match command:
            case UpsertProfile():
                body = wire.profile_import(command, revision)
                if len(body) > LARGEST:
                    return _TOO_HEAVY
                return await self._client.import_profile(body, permit)
            case CreateEvent():
                body = wire.event(command, revision)
                return await self._client.create_event(body, permit)
            case ChangeConsent():
                raise AssertionError("consent goes by pipeline.forward.consent")
            case SuppressProfile() | EraseProfile():
                raise AssertionError("goes by pipeline.forward.deletions")

    async def _repair(
        self, command: Command, answer: Refused, repairs: int
    ) -> Command | None:
        """The command without what was refused; None if that would be nothing."""
        if answer is _TOO_HEAVY and isinstance(command, UpsertProfile):
            return self._lighter(command)
        if answer.status == _VANISHED and not repairs:
            return command  # whom it is about is found out again
        if answer.status == _CONFLICT and self._conflicts != "dead_letter":
            if (
                self._merge is not None
                and repairs < MERGES
                and await self._merge(command.identity)
            ):
                return command
            strongest = _strongest(command.identity)
            if strongest != command.identity:
                self._degraded("identity_conflict")
                return msgspec.structs.replace(command, identity=strongest)
        return self._without(command, answer.faults)

    def _lighter(self, command: UpsertProfile) -> Command | None:
        found = lighter(command, self._client.served)
        if found is None:
            return None
        rest, lost = found
        for field in lost:
            self._degraded(field)
        return rest

    def _without(self, command: Command, faults: Sequence[Fault]) -> Command | None:
        """The command without the optional fields that were refused, all at once."""
        repaired: Command | None = None
        for fault in faults:
            if (rest := wire.without(repaired or command, fault.pointer)) is not None:
                repaired, field = rest
                self._degraded(field)
        return repaired

    def _degraded(self, field: str) -> None:
        self._metrics.degraded_fields.labels(field).inc()


def _strongest(identity: Identity) -> Identity:
    """Only the identifier that wins in Klaviyo's identity resolution."""
    if identity.external_id is not None:
        return Identity(external_id=identity.external_id)
    if identity.email is not None:
        return Identity(email=identity.email)
    return identity


def _rows(item: Item) -> list[Item]:
    """Each event of the run by itself, as a row of a request."""
    rows = item.rows()
    for row in rows:
        _encode(row)
    return rows


def _encode(row: Item) -> None:
    event = row.command
    assert isinstance(event, CreateEvent)  # noqa: S101  so says its kind
    row.row = bulk_events.rows([event])
    row.person = bulk_events.person(event)


def _body(items: Sequence[Item]) -> bytes:
    return bulk_events.body([item.person for item in items], [item.row for item in items])


def _named(items: Sequence[Item], answer: Refused) -> dict[int, list[Fault]]:
    """Faults by index of the row they name, with pointers as of a single event."""
    starts: list[int] = []  # index of the first item of each entry
    for index, item in enumerate(items):
        if not index or items[index - 1].person != item.person:
            starts.append(index)
    found: dict[int, list[Fault]] = {}
    for fault in answer.faults:
        place = bulk_events.place(fault.pointer)
        if place is None or place.entry >= len(starts):
            continue
        first = starts[place.entry]
        last = starts[place.entry + 1] if place.entry + 1 < len(starts) else len(items)
        single = msgspec.structs.replace(fault, pointer=place.pointer)
        if place.row is None:
            rows = range(first, last)
        else:
            rows = range(first + place.row, min(first + place.row + 1, last))
        for index in rows:
            found.setdefault(index, []).append(single)
    return found


def _dead(
    command: Command, answer: Refused, attempts: int, fault: Fault | None = None
) -> Dead:
    reasons: dict[int, Literal["identity_conflict", "too_large"]] = {
        _CONFLICT: "identity_conflict",
        _TOO_LARGE: "too_large",
    }
    return msgspec.structs.replace(
        dead(answer, fault),
        reason=reasons.get(answer.status, "refused"),
        attempts=attempts,
        unique_id=command.unique_id if isinstance(command, CreateEvent) else "",
    )
