"""Reads what there is room for, and a stuck partition does not stop the others."""

from collections.abc import Collection
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.forward.checkpoint import Checkpoint
from pipeline.forward.source import Source
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import Partition, Record, Ticket
from tests.virtual_time import LoopClock, virtual

A, B = ("t", 0), ("t", 1)


class Broker:
    """Remembers which partitions it was asked for."""

    def __init__(self) -> None:
        self.asked: list[set[Partition]] = []

    async def poll(
        self, partitions: Collection[Partition], max_records: int, timeout: float
    ) -> list[Record]:
        self.asked.append(set(partitions))
        return []


class World:
    def __init__(self, *, records: int, size: int, partitions: int = 2) -> None:
        self.checkpoint = Checkpoint()
        self.checkpoint.assign({("t", number): () for number in range(partitions)})
        self.health = Health(Metrics(), LoopClock())
        self.broker = Broker()
        broker: Any = self.broker
        self.source = Source(
            broker,
            self.checkpoint,
            self.health,
            buffer_records=records,
            buffer_bytes=size,
        )
        self._offset = 0

    def read(self, partition: Partition, count: int, size: int = 10) -> list[Ticket]:
        tickets = []
        for _ in range(count):
            self._offset += 1
            record = Record(*partition, self._offset, 0, None, b"x" * size)
            ticket = self.checkpoint.open(record)
            assert ticket is not None
            tickets.append(ticket)
        return tickets


@virtual
async def test_all_partitions_are_read_while_there_is_room() -> None:
    world = World(records=5000, size=10**9)
    await world.source.poll()
    assert world.broker.asked == [{A, B}]


@virtual
async def test_a_full_buffer_reads_nothing_until_a_tenth_is_free() -> None:
    world = World(records=100, size=10**9)
    tickets = world.read(A, 50) + world.read(B, 50)
    await world.source.poll()
    assert world.broker.asked == []
    for ticket in tickets[:8]:
        world.checkpoint.close(ticket)
    await world.source.poll()
    assert world.broker.asked == [], "92 of 100: above the lower mark"
    for ticket in tickets[8:40]:
        world.checkpoint.close(ticket)
    await world.source.poll()
    assert world.broker.asked == [{A, B}]


@virtual
async def test_a_full_buffer_keeps_a_little_for_a_partition_that_holds_nothing() -> None:
    """Else a live change would wait for the backlog of another topic."""
    world = World(records=1000, size=10**9)
    world.read(A, 1000)
    await world.source.poll()
    assert world.broker.asked == [{B}]
    world.read(B, 100)
    await world.source.poll()
    assert len(world.broker.asked) == 1


@virtual
async def test_partitions_that_hold_records_share_the_bytes_evenly() -> None:
    """What drains slowly leaves room for what drains fast."""
    world = World(records=10**6, size=1_000_000)
    world.read(A, 9, size=55_000)  # 509 kB: more than its half
    world.read(B, 1)
    await world.source.poll()
    assert world.broker.asked == [{B}]


@virtual
async def test_what_a_partition_has_no_use_for_goes_to_those_with_more_under_way() -> (
    None
):
    world = World(records=10**6, size=1_000_000)
    for ticket in world.read(A, 11, size=55_000):  # 622 kB: over its half
        ticket.begin()
    world.read(B, 1)
    await world.source.poll()
    assert world.broker.asked == [{A, B}], "B has nothing under way"
    world.read(A, 3, size=55_000)
    await world.source.poll()
    assert world.broker.asked[1:] == [{B}], "a quarter of its half is B's"
    for ticket in world.read(B, 2, size=55_000):
        ticket.begin()
    await world.source.poll()
    assert world.broker.asked[2:] == [{B}]


@given(
    budget=st.integers(1, 1 << 30),
    held=st.lists(st.lists(st.tuples(st.integers(1, 99_999), st.booleans())), max_size=9),
)
def test_shares_never_add_up_to_more_than_there_is(
    budget: int, held: list[list[tuple[int, bool]]]
) -> None:
    world = World(records=10**6, size=budget, partitions=len(held))
    for number, sizes in enumerate(held):
        for size, begun in sizes:
            (ticket,) = world.read(("t", number), 1, size)
            if begun:
                ticket.begin()
    shares = world.source.shares(0.0)
    busy = [number for number, sizes in enumerate(held) if sizes]
    total = sum(shares["t", number] for number in busy)
    assert total <= budget * (1 + 1e-9)
    equal = budget / max(len(busy), min(2, len(held)), 1)
    assert all(share >= equal / 4 for share in shares.values())
    if len(busy) == 1 < len(held):
        assert total <= budget * 7 / 8 * (1 + 1e-9), "room for one that comes new"


@virtual
async def test_one_partition_may_not_take_all_bytes() -> None:
    world = World(records=10**6, size=1_000_000)
    world.read(A, 10, size=55_000)
    await world.source.poll()
    assert world.broker.asked == [{B}]


@virtual
async def test_a_record_that_cannot_end_stops_its_partition_only() -> None:
    world = World(records=1000, size=10**9)
    tickets = world.read(A, 1001)
    for ticket in tickets[1:]:
        world.checkpoint.close(ticket)
    await world.source.poll()
    assert world.broker.asked[0] == {B}


@virtual
async def test_nothing_is_read_while_the_flow_is_halted() -> None:
    world = World(records=1000, size=10**9)
    world.health.halt("unauthorized", "a test")
    await world.source.poll()
    assert world.broker.asked == []
    world.health.resume("unauthorized")
    await world.source.poll()
    assert len(world.broker.asked) == 1
