"""A record to commands: what should become true in Klaviyo because of it."""

from pipeline.records import Dead, Record, Skipped
from schemas import envelope
from schemas.event import Context, Event, Plan, Rejected
from schemas.mapping import NO_MAPPINGS, Mapped, Mappings

__all__ = ["Planner"]


class Planner:
    """Holds what commands depend on beside the record."""

    def __init__(self, context: Context, mappings: Mappings = NO_MAPPINGS) -> None:
        self._context = context
        self._mappings = mappings

    def read(self, record: Record) -> Event | Mapped | Skipped | Rejected:
        """The event of the record, or how it ends without one."""
        mappings = self._mappings.of(record.topic)
        return envelope.decode(record.value, record.headers, record.key, mappings)

    def plan(self, record: Record) -> Plan | Skipped | Dead:
        """The commands of the record, or how it ends without any. Never raises.

        Identical records give identical commands (contract 5).
        """
        planned: Event | Mapped | Plan | Skipped | Rejected
        try:
            planned = self.read(record)
            if isinstance(planned, Event | Mapped):
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
        return planned
