"""The nouns every part shares: a record, its ticket, an item of work, and how it ended.

Record   what Kafka gave us
Ticket   one record on its way to its end; settled once, by its last item
Item     one thing to ask of Klaviyo, for one or (coalesced) several tickets
Outcome  Delivered | Skipped | Dead: the closed list of ends. Cancelled is not one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from schemas import bulk_profiles
from schemas.commands import (
    ChangeConsent,
    Command,
    CreateEvent,
    EraseProfile,
    SuppressProfile,
    UpsertProfile,
)
from schemas.event import Skipped

__all__ = [
    "DELIVERED",
    "Dead",
    "DeadReason",
    "Delivered",
    "Item",
    "Kind",
    "Lot",
    "Mark",
    "Outcome",
    "Partition",
    "Record",
    "Skipped",
    "Stage",
    "Ticket",
]

Partition: TypeAlias = tuple[str, int]  # topic, number
Stage: TypeAlias = Literal["decode", "plan", "deliver"]
DeadReason: TypeAlias = Literal[
    "malformed",
    "schema",
    "no_identifier",
    "too_large",
    "mapping_failed",
    "refused",
    "identity_conflict",
]


class Record(msgspec.Struct, frozen=True, gc=False):
    """One Kafka record, its bytes untouched. `timestamp` is in ms since the epoch.

    A header's value may be null, which is not the same as blank.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key or b"") + len(self.value or b"")


class Delivered(msgspec.Struct, frozen=True, tag=True):
    """Klaviyo accepted it."""


class Dead(msgspec.Struct, frozen=True, tag=True):
    """The record's own fault: a dead letter. `message` names no customer."""

    reason: DeadReason
    stage: Stage
    message: str
    pointer: str = ""  # JSON pointer (Klaviyo's) or JSON path (ours) of the fault
    status: int | None = None  # HTTP status, when Klaviyo refused it
    code: str = ""  # Klaviyo's error code
    attempts: int = 0
    unique_id: str = ""


# Which endpoints can carry an item: any for a profile update, or the single call only;
# consent now, or when an earlier word of the customer shows; the end of a customer, by
# deletes.policy.
Kind: TypeAlias = Literal[
    "profile", "single", "event", "consent", "late", "suppress", "erase"
]
Outcome: TypeAlias = Delivered | Skipped | Dead
DELIVERED: Final = Delivered()


class Mark(NamedTuple):
    """How far a partition is: all below `offset` has ended, and above it `ended`."""

    offset: int
    ended: tuple[int, ...] = ()


class Lot:
    """The tickets of one partition in one assignment; a rebalance starts a new lot.

    After a rebalance the same offset is open again, in a new lot: a late end of the old
    ticket changes nothing there.
    """

    __slots__ = ("ahead", "begun", "bytes", "changed", "last", "live", "next", "open")

    def __init__(self, ahead: Iterable[int] = ()) -> None:
        self.ahead = set(ahead)  # ended in an earlier assignment; not read again yet
        self.open: deque[Ticket] = deque()  # in the order of their offsets
        self.bytes = 0  # accounted for its open tickets
        self.begun = 0  # of these bytes, those of which something was handed out
        self.last = -1  # highest offset opened
        self.next: int | None = None  # may be committed: everything below has ended
        self.changed = False  # since the last commit
        self.live = True


class Ticket:
    """One record on its way to its end.

    `left` counts the items still open for it. The first `Dead` outcome decides how the
    record ends; a neighbour item that was delivered does not undo it.
    """

    __slots__ = (
        "begun",
        "done",
        "left",
        "light",
        "lot",
        "outcome",
        "record",
        "sequence",
        "size",
    )

    def __init__(self, record: Record, lot: Lot, sequence: int, size: int) -> None:
        self.record = record
        self.lot = lot
        self.sequence = sequence  # grows in the order in which this process read records
        self.size = size  # bytes accounted against deliver.buffer_bytes
        self.left = 0
        self.outcome: Outcome = DELIVERED
        self.done = False
        self.begun = False  # something of it was handed out for sending
        self.light = False  # a job has what it asks for

    def begin(self) -> None:
        """Something of it is handed out for sending."""
        if not self.begun:
            self.begun = True
            self.lot.begun += self.size

    def weigh(self, change: int) -> None:
        """Account for so many bytes more, or less."""
        if self.done:
            return
        self.size += change
        self.lot.bytes += change
        if self.begun:
            self.lot.begun += change

    def lighten(self) -> None:
        """A job has what it asks for: its bytes count once less, however many follow."""
        if not self.light:
            self.light = True
            self.weigh(-self.record.size)

    def forget(self) -> None:
        """Let go of the bytes; what counts from now on is the offset."""
        self.record = msgspec.structs.replace(
            self.record, key=None, value=None, headers=()
        )

    def settle(self, outcome: Outcome) -> bool:
        """One of its items ended so; true if it was the last one."""
        if isinstance(outcome, Dead) and not isinstance(self.outcome, Dead):
            self.outcome = outcome
        self.left -= 1
        return self.left == 0


class Item:
    """One thing to ask of Klaviyo: an update of a profile, or a run of events.

    `commands` are one update, or the events of one record, all of one profile. `parts`
    are the tickets it settles with what each of them asked (of a run, its first event);
    several only when waiting profile updates of one customer were coalesced.
    """

    __slots__ = (
        "alone",
        "commands",
        "kind",
        "largest",
        "parts",
        "person",
        "row",
        "sequence",
    )

    def __init__(
        self,
        commands: list[Command],
        parts: list[tuple[Ticket, Command]],
        *,
        alone: bool = False,
    ) -> None:
        self.commands = commands
        self.kind = _kind(commands[0])
        self.parts = parts
        self.sequence = parts[0][0].sequence
        self.row = b""  # encoded for a bulk request, once; of a run, with commas between
        self.person = b""  # the profile it is about, encoded likewise
        self.largest = 10**9  # rows of a request it may be in; fewer to find a bad one
        self.alone = alone  # was taken out of a refused group: not to be coalesced again

    @property
    def command(self) -> Command:
        """What it asks, or the first of a run."""
        return self.commands[0]

    @property
    def history(self) -> bool:
        """Whether it can wait: what it asks happened long ago."""
        command = self.commands[0]
        return isinstance(command, CreateEvent) and command.backfill

    def coalesce(self, command: Command, part: tuple[Ticket, Command]) -> None:
        """Take over one more update of the same profile: `command` does both."""
        self.commands = [command]
        self.kind = _kind(command)
        self.parts.append(part)
        self.row = b""

    def single(self) -> None:
        """From now on by single call only: a bulk one could not carry it."""
        self.kind = "single"
        self.alone = True
        self.row = b""

    def later(self) -> None:
        """Consent that has to wait until an earlier word of the customer shows."""
        self.kind = "late"

    def split(self, count: int) -> Item:
        """The first `count` events of a run as an item of their own; the rest stays."""
        ((ticket, _),) = self.parts
        ticket.left += 1
        head = Item(self.commands[:count], [(ticket, self.commands[0])])
        self.commands = self.commands[count:]
        self.parts = [(ticket, self.commands[0])]
        self.row = b""
        return head

    def rows(self) -> list[Item]:
        """Each event of a run by itself; these are not counted by the ticket."""
        return [Item([command], self.parts) for command in self.commands]

    def halves(self) -> list[Item]:
        """A coalesced item that was refused, as two smaller ones: finds the bad part.

        After at most log2(parts) rounds a bad part stands by itself; the good ones go on.
        """
        middle = len(self.parts) // 2
        return [_coalesced(self.parts[:middle]), _coalesced(self.parts[middle:])]


def _kind(command: Command) -> Kind:
    match command:
        case CreateEvent():
            return "event"
        case UpsertProfile():
            return "profile" if bulk_profiles.able(command) else "single"
        case ChangeConsent():
            return "consent"
        case SuppressProfile():
            return "suppress"
        case EraseProfile():
            return "erase"


def _coalesced(parts: list[tuple[Ticket, Command]]) -> Item:
    command = parts[0][1]
    for _, later in parts[1:]:
        assert isinstance(command, UpsertProfile)  # noqa: S101  only these coalesce
        assert isinstance(later, UpsertProfile)  # noqa: S101
        merged = command.merged(later)
        assert merged is not None  # noqa: S101  what was merged once can be again
        command = merged
    return Item([command], parts, alone=True)
