"""Per-customer order: what may be sent now.

A lane is the queue of one customer. It is found by any of the customer's identifiers,
so that a customer record and an order that name the same e-mail stand in one lane; a
record that names two lanes joins them. At most one request is in flight per lane, so no
later change of a customer overtakes an earlier one. Waiting profile
updates at the end of a lane are coalesced; all their tickets settle together.

Lanes are ready oldest first: the settled prefix then follows closely what was delivered,
and little is sent again after a crash. Those that hold nothing but history come last.
"""

import asyncio
import bisect
import heapq
import operator
from collections.abc import Iterator, Sequence
from typing import Final, Protocol, TypeAlias

from pipeline.records import Item, Kind, Ticket
from schemas.commands import Command, CreateEvent, UpsertProfile

__all__ = ["Group", "Lanes"]

LAST: Final = 1 << 62  # more than any sequence
FEW: Final = 8  # times as many items in one lane: those of the other are put in singly
NAMES: Final = 64  # identifiers of one lane; a customer has three
# What a route for that kind can carry: a single call takes any profile update.
CARRIES: Final[dict[Kind, tuple[Kind, ...]]] = {
    "profile": ("profile",),
    "single": ("profile", "single"),
    "event": ("event",),
    "suppress": ("suppress",),
    "erase": ("erase",),
    "consent": ("consent",),
    "late": ("late",),
}


class _Lane:
    # Plain lists: nearly every lane is short, and there are as many as customers.
    __slots__ = ("bound", "busy", "items", "joined", "live", "names", "queued")

    def __init__(self, names: Sequence[str]) -> None:
        self.items: list[Item] = []  # in the order of their sequence
        self.live = 0  # sequence of the latest that was put in and cannot wait
        self.names = list(names)
        self.bound = NAMES  # so many names, and those nobody uses any more are dropped
        self.busy = 0  # requests in flight; more than one only after lanes were joined
        self.queued = 0  # number of its valid entry among the ready; 0 = none
        self.joined: _Lane | None = None  # the lane that took this one over

    def home(self) -> "_Lane":
        """The lane that holds its items now."""
        lane = self
        while lane.joined is not None:
            lane = lane.joined
        return lane


class Parcel(Protocol):
    """What can go in one request."""

    full: bool
    """Nothing more fits."""

    def add(self, item: Item) -> Item | None:
        """Put the item in, or so much of it as fits; None if nothing does."""
        ...


class Group:
    """Items that go in one request, in order, and the lanes they keep busy."""

    __slots__ = ("era", "items", "lanes")

    def __init__(self, era: int) -> None:
        self.era = era
        self.items: list[Item] = []
        self.lanes: list[_Lane] = []

    @property
    def rows(self) -> int:
        """Rows of the request."""
        return sum(len(item.commands) for item in self.items)


_sequence = operator.attrgetter("sequence")
_Heap: TypeAlias = list[tuple[int, int, _Lane]]  # order, entry number, lane


def _begun(item: Item) -> bool:
    return any(ticket.begun for ticket, _ in item.parts)


def _order(lane: _Lane) -> int:
    """Where a lane stands among the ready: by its oldest item, or among the last."""
    head = lane.items[0]
    if head.sequence > lane.live and head.history:  # nothing newer waits for it
        return head.sequence + LAST
    return head.sequence


def _runs(commands: Sequence[Command]) -> list[list[Command]]:
    """Events of one profile that stand together, and any other command by itself."""
    runs: list[list[Command]] = []
    first: CreateEvent | None = None  # of the run
    for command in commands:
        event = command if isinstance(command, CreateEvent) else None
        if (
            event is not None
            and first is not None
            and event.identity is first.identity
            and event.profile is first.profile
        ):
            runs[-1].append(command)
        else:
            runs.append([command])
            first = event
    return runs


def _names(item: Item) -> Iterator[str]:
    """All identifiers the item and what was coalesced into it came with."""
    for _, command in item.parts:
        yield from command.identity.names()


class Lanes:
    """All waiting work, by customer."""

    def __init__(self) -> None:
        self._by_name: dict[str, _Lane] = {}
        self._ready: dict[Kind, _Heap] = {kind: [] for kind in CARRIES}
        self._some = {kind: asyncio.Event() for kind in CARRIES}
        self._wakes = {
            kind: [self._some[each] for each, kinds in CARRIES.items() if kind in kinds]
            for kind in CARRIES
        }
        self._waiting: dict[Kind, int] = dict.fromkeys(CARRIES, 0)
        self._released = asyncio.Event()
        self._entries = 0
        self._era = 0
        self.in_flight = 0  # groups taken and not released

    def add(self, ticket: Ticket, commands: Sequence[Command]) -> None:
        """Queue what the record asks for. All commands are about one customer."""
        lane = self._lane(commands[0].identity.names())
        items, live, now = lane.items, lane.live, ticket.sequence
        for run in _runs(commands):
            first = run[0]
            last = items[-1] if items else None
            if (
                last is not None
                and isinstance(first, UpsertProfile)
                and isinstance(last.command, UpsertProfile)
                and not last.alone
                and (merged := last.command.merged(first)) is not None
            ):
                before = last.kind
                last.coalesce(merged, (ticket, first))
                if last.kind != before:
                    self._waiting[before] -= 1
                    self._waiting[last.kind] += 1
                    lane.queued = 0  # it may stand among those of the kind before
            else:
                items.append(last := Item(run, [(ticket, first)]))
                if not last.history:
                    lane.live = now
                self._waiting[last.kind] += len(run)
            ticket.left += 1
        if lane.live != live and live < items[0].sequence < now:
            lane.queued = 0  # it may stand among the last
        self._offer(lane)

    def waiting(self, kind: Kind) -> int:
        """How many rows of that kind wait, those behind a busy lane included."""
        return self._waiting[kind]

    @property
    def rows(self) -> int:
        """How many rows of any kind wait."""
        return sum(self._waiting.values())

    def ready(self, kind: Kind) -> bool:
        """Whether a lane has something to send by a route for that kind."""
        return any(map(self._valid, CARRIES[kind]))

    async def some(self, kind: Kind) -> None:
        """Return when a lane has something to send by a route for that kind."""
        while not self.ready(kind):
            self._some[kind].clear()
            await self._some[kind].wait()

    def take(self, kind: Kind, parcel: Parcel) -> Group:
        """The oldest ready items for a route of that kind; their lanes become busy.

        A lane gives the unbroken run of such items at its head; of profile updates one,
        as a profile has one row in a request. An empty group need not be released.
        """
        group = Group(self._era)
        aside: list[_Lane] = []
        kinds = CARRIES[kind]
        while not parcel.full and (heap := self._oldest(kinds)):
            lane = heapq.heappop(heap)[2]
            lane.queued = 0
            if self._fit(lane, kinds, parcel, group.items):
                lane.busy += 1
                group.lanes.append(lane)
            else:
                aside.append(lane)  # its head goes in another request
        for lane in aside:
            self._offer(lane)
        if group.items:
            self.in_flight += 1
        for item in group.items:
            self._waiting[item.kind] -= len(item.commands)
            for ticket, _ in item.parts:
                ticket.begin()
        return group

    def _fit(
        self, lane: _Lane, kinds: Sequence[Kind], parcel: Parcel, taken: list[Item]
    ) -> bool:
        """Move the lane's head into the parcel; whether anything went in."""
        some = False
        run = 0
        for item in lane.items:
            before = item.kind
            if before not in kinds:
                break
            put = parcel.add(item)
            if item.kind != before:  # too large for the endpoint: a single call may do
                self._waiting[before] -= 1
                self._waiting[item.kind] += 1
            if put is None:
                break
            some = True
            taken.append(put)
            if put is not item:
                break
            run += 1
            if before != "event" or parcel.full:
                break
        del lane.items[:run]
        return some

    def release(self, group: Group, again: Sequence[Item] = ()) -> None:
        """The request has ended; `again` are items to send anew, ahead of what waits."""
        self.in_flight -= 1
        for lane in group.lanes:
            lane.home().busy -= 1
        if group.era == self._era:
            for item in reversed(again):
                items = self._lane(tuple(_names(item))).items
                if items and items[0].sequence < item.sequence:
                    # The lane was joined with an older one meanwhile. It stays in order:
                    # another join sorts it, and a new update goes into its last item.
                    item.sequence = items[0].sequence
                items.insert(0, item)
                self._waiting[item.kind] += len(item.commands)
            for lane in group.lanes:
                self._offer(lane.home())
        self._released.set()

    def finish(self) -> None:
        """Forget what waits, but for records of which a part was handed out.

        These end as a whole, so that nothing is sent again after a stop.
        """
        for lane in set(self._by_name.values()):
            # With what stands before them: of older records, if the lane was joined.
            begun = [place for place, item in enumerate(lane.items, 1) if _begun(item)]
            kept = max(begun, default=0)
            for item in lane.items[kept:]:
                self._waiting[item.kind] -= len(item.commands)
            del lane.items[kept:]
            lane.queued = 0
            self._offer(lane)

    async def finished(self) -> None:
        """After `finish`: return when nothing waits and nothing is in flight."""
        while self.in_flight or self.rows:
            self._released.clear()
            await self._released.wait()

    def clear(self) -> None:
        """Forget all that waits: the partitions are gone, or the process stops."""
        self._era += 1
        for lane in self._by_name.values():
            lane.items.clear()
        self._by_name.clear()
        self._waiting = dict.fromkeys(self._waiting, 0)
        for heap in self._ready.values():
            heap.clear()
        for event in self._some.values():
            event.clear()
        self._released.set()

    def _oldest(self, kinds: Sequence[Kind]) -> _Heap:
        """The heap, of those of these kinds, with the oldest head."""
        oldest = self._valid(kinds[0])
        for other in kinds[1:]:
            if (heap := self._valid(other)) and (not oldest or heap[0] < oldest[0]):
                oldest = heap
        return oldest

    def _valid(self, kind: Kind) -> _Heap:
        """The heap, entries of lanes that were joined away or queued anew dropped."""
        heap = self._ready[kind]
        while heap and heap[0][2].queued != heap[0][1]:
            heapq.heappop(heap)
        return heap

    def _lane(self, names: tuple[str, ...]) -> _Lane:
        by_name = self._by_name
        lane: _Lane | None = None
        for name in names:
            other = by_name.get(name)
            if other is not None and other is not lane:
                lane = other if lane is None else self._join(lane, other)
        if lane is None:
            lane = _Lane(names)
            for name in names:
                by_name[name] = lane
            return lane
        for name in names:
            if by_name.get(name) is not lane:
                lane.names.append(name)
                by_name[name] = lane
        return lane

    def _join(self, lane: _Lane, other: _Lane) -> _Lane:
        """Two lanes turn out to be one customer: one queue, oldest first.

        The shorter one goes into the longer: an e-mail that many customers share would
        else move all that waits with each of them.
        """
        if len(other.items) > len(lane.items):
            lane, other = other, lane
        other.joined = lane
        lane.busy += other.busy
        lane.live = max(lane.live, other.live)
        lane.names += other.names
        for name in other.names:
            self._by_name[name] = lane
        if len(other.items) * FEW < len(lane.items):
            for item in other.items:
                bisect.insort(lane.items, item, key=_sequence)
        elif other.items:
            lane.items = sorted(lane.items + other.items, key=_sequence)
        lane.queued = other.queued = 0
        return lane

    def _rename(self, lane: _Lane) -> None:
        """Keep the names of what waits. A shared e-mail would gather them for ever."""
        used = {name for item in lane.items for name in _names(item)}
        for name in lane.names:
            if name not in used and self._by_name.get(name) is lane:
                del self._by_name[name]
        lane.names = list(used)
        lane.bound = NAMES + 2 * len(used)

    def _offer(self, lane: _Lane) -> None:
        """Put the lane among the ready ones, or drop it when it is empty."""
        if lane.busy or lane.queued:
            return
        if not lane.items:
            for name in lane.names:
                if self._by_name.get(name) is lane:
                    del self._by_name[name]
            lane.names = []
            return
        if len(lane.names) > lane.bound:
            self._rename(lane)
        head = lane.items[0]
        self._entries += 1
        lane.queued = self._entries
        heapq.heappush(self._ready[head.kind], (_order(lane), lane.queued, lane))
        for some in self._wakes[head.kind]:
            some.set()
