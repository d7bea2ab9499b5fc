"""A record to commands: what should become true in Klaviyo because of it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import UNSET

from pipeline.clock import SYSTEM, Clock
from pipeline.kafka.schema_registry import SchemaRegistry
from pipeline.records import Dead, Record, Skipped
from schemas import envelope
from schemas.commands import (
    ChangeConsent,
    Command,
    CreateEvent,
    EraseProfile,
    SuppressProfile,
    UpsertProfile,
)
from schemas.event import Context, Event, Plan, Rejected
from schemas.mapping import NO_MAPPINGS, Mapped, Mappings
from schemas.privacy import tombstone

__all__ = ["Planner"]

TOMBSTONE: Final = Skipped("tombstone")
_READ: Final = (Event, Mapped)  # a union would be made anew at each record
_SECOND: Final = len("2026-11-01T10:00:00")  # how exact times are compared


class Planner:
    """Holds what commands depend on beside the record."""

    def __init__(
        self,
        context: Context,
        mappings: Mappings = NO_MAPPINGS,
        registry: SchemaRegistry | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._context = context
        self._mappings = mappings
        self._registry = registry
        self._clock = clock

    async def ready(self, records: Sequence[Record]) -> bool:
        """Have what is needed to plan these; false to be asked again."""
        return self._registry is None or await self._registry.ready(records)

    def read(self, record: Record) -> Event | Mapped | Skipped | Rejected:
        """The event of the record, or how it ends without one."""
        mappings = self._mappings.of(record.topic)
        value = record.value
        if value is not None and self._registry is not None:
            unframed = self._registry.json(value)
            if isinstance(unframed, Rejected):
                return unframed
            value = unframed
        return envelope.decode(value, record.headers, record.key, mappings)

    def plan(self, record: Record) -> Plan | Skipped | Dead:
        """The commands of the record, or how it ends without any. Never raises.

        Identical records give identical commands, but that an event may
        have become history meanwhile.
        """
        planned: Event | Mapped | Plan | Skipped | Rejected
        try:
            planned = self.read(record)
            if isinstance(planned, _READ):
                planned = planned.commands(self._context, record.timestamp)
            elif planned == TOMBSTONE and not self._mappings.own(record.topic):
                planned = tombstone(record.key, self._context)
        except MemoryError:
            raise  # ours to answer for, not the record's
        except Exception as error:  # noqa: BLE001  an event type that fails on a record
            # must cost that record, not the partition; the name of the error is safe to
            # show, its text may hold the customer's data.
            return Dead("schema", "plan", f"the event type raised {type(error).__name__}")
        if isinstance(planned, Rejected):
            return Dead(
                reason=planned.reason,
                stage=planned.stage,
                message=planned.message,
                pointer=planned.path,
            )
        if isinstance(planned, Plan):
            if self._context.backfill:
                return _history(planned)
            if self._context.backfill_after is not None:
                self._age(planned, self._context.backfill_after)
        return planned

    def _age(self, plan: Plan, after: float) -> None:
        """Mark events that happened more than `after` seconds ago as history."""
        past = datetime.fromtimestamp(self._clock.now() - after, UTC).isoformat()
        for command in plan.commands:
            if isinstance(command, CreateEvent) and command.time is not UNSET:
                command.backfill = command.time[:_SECOND] < past[:_SECOND]  # UTC as well


def _history(plan: Plan) -> Plan:
    """The plan without anything a customer could notice: no flow, no consent.

    Here and not in the event types, so that none can forget it.
    """
    kept: list[Command] = []
    skipped = plan.skipped
    for command in plan.commands:
        match command:
            case CreateEvent():
                command.backfill = True
                kept.append(command)
            case UpsertProfile() | SuppressProfile() | EraseProfile():
                kept.append(command)
            case ChangeConsent():
                skipped = (*skipped, "consent_off")
    return Plan(kept, skipped, plan.degraded)
