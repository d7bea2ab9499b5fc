"""A record to commands: what should become true in Klaviyo because of it."""

from pipeline.records import Dead, Record, Skipped
from schemas import envelope
from schemas.commands import Command, CreateEvent, UpsertProfile
from schemas.event import Context, Event, Plan, Rejected

__all__ = ["Planner"]


class Planner:
    """Holds what commands depend on beside the record."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def plan(self, record: Record) -> Plan | Skipped | Dead:
        """The commands of the record, or how it ends without any. Never raises.

        Identical records give identical commands (contract 5).
        """
        planned: Event | Plan | Skipped | Rejected
        try:
            planned = envelope.decode(record.value, record.headers)
            if isinstance(planned, Event):
                planned = planned.commands(self._context, record.timestamp)
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
        if isinstance(planned, Plan) and self._context.backfill:
            return _history(planned)
        return planned


def _history(plan: Plan) -> Plan:
    """The plan without anything a customer could notice: no flow, no consent.

    Here and not in the event types, so that none can forget it.
    """
    kept: list[Command] = []
    for command in plan.commands:
        match command:
            case CreateEvent():
                command.backfill = True
                kept.append(command)
            case UpsertProfile():
                kept.append(command)
            # whatever else there is subscribes, unsubscribes or moves between lists
    return Plan(kept, plan.skipped, plan.degraded)
