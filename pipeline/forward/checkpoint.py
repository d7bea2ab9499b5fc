"""Which offsets may be committed: the settled prefix per partition and assignment epoch.

A ticket is opened for each record in the order of its offsets and closed when the
record has ended. Only the offset below which everything is closed may be
committed; what ended above it is committed beside it, so that it is not sent again
after a stop or a crash. Tickets belong to a `Lot`, one per partition *and* assignment.

No I/O and no clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pipeline.records import Lot, Mark, Partition, Record, Ticket
from schemas.commands import Command, CreateEvent, UpsertProfile

__all__ = ["Checkpoint"]

# Bytes a record costs beside its own, measured (tests/unit/forward/test_weight.py). What
# it holds once it is encoded for a request counts from the beginning: when it is handed
# out it is too late to read less.
OVERHEAD: Final = 1536  # ticket, lane, item
EVENT: Final = 650  # and its properties, twice
FIELD: Final = 56  # of a profile, and twice the record: decoded, encoded
COMMAND: Final = 320  # any other


class Checkpoint:
    """Tickets and the settled prefix of every partition this process owns now."""

    def __init__(self) -> None:
        self._lots: dict[Partition, Lot] = {}
        self._sequence = 0
        self.records = 0  # open tickets
        self.epoch = 0  # a mark of an earlier one is not to be committed any more

    def assign(self, partitions: Mapping[Partition, Iterable[int]]) -> None:
        """A new assignment, with the offsets that ended already in each partition.

        Everything known of an earlier one is dropped.
        """
        self.revoke()
        self._lots = {each: Lot(ahead) for each, ahead in partitions.items()}

    def revoke(self) -> None:
        """The partitions are gone; their tickets, closed or not, no longer count."""
        for lot in self._lots.values():
            lot.live = False
        self._lots = {}
        self.records = 0
        self.epoch += 1

    @property
    def bytes(self) -> int:
        """What the open tickets are accounted with."""
        return sum(lot.bytes for lot in self._lots.values())

    def passed(self, record: Record) -> bool:
        """Whether it needs no ticket: not ours, already open, or ended before."""
        lot = self._lots.get((record.topic, record.partition))
        if lot is None or record.offset <= lot.last:
            return True
        if record.offset not in lot.ahead:
            return False
        lot.ahead.remove(record.offset)
        lot.last = record.offset
        ticket = Ticket(record, lot, 0, 0)
        ticket.forget()
        ticket.done = True
        lot.open.append(ticket)
        self._advance(lot)
        return True

    def open(self, record: Record) -> Ticket | None:
        """A ticket; None if the partition is not ours or the record is already open."""
        lot = self._lots.get((record.topic, record.partition))
        if lot is None or record.offset <= lot.last:
            return None
        lot.last = record.offset
        self._sequence += 1
        ticket = Ticket(record, lot, self._sequence, OVERHEAD + record.size)
        lot.open.append(ticket)
        self.records += 1
        lot.bytes += ticket.size
        return ticket

    @staticmethod
    def weigh(ticket: Ticket, commands: Sequence[Command]) -> None:
        """Account for what the record asks for."""
        size = 0
        for command in commands:
            match command:
                case CreateEvent():
                    size += EVENT + 2 * len(command.properties)
                case UpsertProfile():
                    fields = len(command.attributes) + len(command.properties)
                    size += FIELD * fields + 2 * ticket.record.size
                case _:
                    size += COMMAND
        ticket.weigh(size)

    def close(self, *tickets: Ticket) -> None:
        """The records have ended. Closing twice, or after a revoke, changes nothing."""
        lots: dict[Lot, list[Ticket]] = {}
        for ticket in tickets:
            if ticket.done:
                continue
            ticket.done = True
            lot = ticket.lot
            if lot.live:
                lot.bytes -= ticket.size
                if ticket.begun:
                    lot.begun -= ticket.size
                if lot in lots:
                    lots[lot].append(ticket)
                else:
                    lots[lot] = [ticket]
        for lot, closed in lots.items():
            self.records -= len(closed)
            self._advance(lot)
            if lot.open:
                first = lot.open[0].sequence
                for ticket in closed:
                    if first < ticket.sequence:
                        ticket.forget()  # an open one may keep it here for long

    def _advance(self, lot: Lot) -> None:
        lot.changed = True
        waiting = lot.open
        while waiting and waiting[0].done:
            lot.next = waiting.popleft().record.offset + 1

    def settled(self) -> dict[Partition, Mark]:
        """How far each partition is, where that changed since it was last asked.

        What could not be committed is put back with `unsettled`.
        """
        marks = {}
        for partition, lot in self._lots.items():
            below = lot.next
            if below is None and lot.open:
                below = lot.open[0].record.offset
            if lot.changed and below is not None:
                lot.changed = False
                ended = sorted(lot.ahead)
                ended += [each.record.offset for each in lot.open if each.done]
                marks[partition] = Mark(below, tuple(ended))
        return marks

    def unsettled(self, partitions: Iterable[Partition]) -> None:
        """The broker did not take these; they are of the present epoch."""
        for partition in partitions:
            lot = self._lots.get(partition)
            if lot is not None:
                lot.changed = True

    def partitions(self) -> list[Partition]:
        """The partitions of the present assignment."""
        return list(self._lots)

    def held(self, partition: Partition) -> int:
        """Records from the first open one of the partition on: its window."""
        lot = self._lots.get(partition)
        return len(lot.open) if lot is not None else 0

    def weight(self, partition: Partition) -> int:
        """Bytes accounted for the partition."""
        lot = self._lots.get(partition)
        return lot.bytes if lot is not None else 0

    def under_way(self, partition: Partition) -> int:
        """Bytes of the partition's records of which something was handed out."""
        lot = self._lots.get(partition)
        return lot.begun if lot is not None else 0

    def position(self, partition: Partition) -> int | None:
        """Where the partition's settled prefix ends; None before its first record."""
        lot = self._lots.get(partition)
        if lot is None:
            return None
        if lot.next is None and lot.open:
            return lot.open[0].record.offset
        return lot.next

    def oldest(self) -> int | None:
        """Kafka timestamp (ms) of the oldest open record."""
        heads = [lot.open[0].record.timestamp for lot in self._lots.values() if lot.open]
        return min(heads, default=None)
