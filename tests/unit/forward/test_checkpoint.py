"""The committed offset is always the largest settled prefix of the current assignment."""

import asyncio
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any
from unittest.mock import Mock

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from pipeline.forward.checkpoint import Checkpoint
from pipeline.kafka import notes
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import Item, Mark, Partition, Record, Ticket
from schemas.commands import CreateEvent, Identity, UpsertProfile
from tests.parts import forward
from tests.virtual_time import LoopClock, virtual

PARTITIONS = (("customers", 0), ("orders", 0), ("orders", 1))


def record(partition: tuple[str, int], offset: int) -> Record:
    return Record(
        partition[0], partition[1], offset, 1_700_000_000_000 + offset, b"k", b"v"
    )


@dataclass
class Broker:
    """What the group has: the committed marks, through the note they are kept in."""

    marks: dict[Partition, tuple[int, str]] = field(default_factory=dict)

    def commit(self, marks: dict[Partition, Mark]) -> None:
        for partition, mark in marks.items():
            self.marks[partition] = mark.offset, notes.encode(*mark)

    def begin(self) -> dict[Partition, tuple[int, frozenset[int]]]:
        """Where a new owner begins: offset, and what ended above it."""
        return {
            partition: (offset, notes.decode(offset, note))
            for partition in PARTITIONS
            for offset, note in (self.marks.get(partition, (0, "")),)
        }


@settings(max_examples=400)
@given(st.data())
def test_any_order_of_opens_closes_commits_and_rebalances(  # noqa: C901, PLR0915  steps
    data: st.DataObject,
) -> None:
    """A new owner opens exactly what had not ended at the last commit."""
    checkpoint, broker = Checkpoint(), Broker()
    # Gaps are normal: compaction and transaction markers leave them.
    gaps = st.lists(st.integers(1, 3), min_size=12, max_size=12)
    there = {each: list(accumulate(data.draw(gaps))) for each in PARTITIONS}
    ended: dict[Partition, set[int]] = {each: set() for each in PARTITIONS}
    durable = {each: frozenset[int]() for each in PARTITIONS}  # ended at the last commit
    tickets: list[Ticket] = []
    old: list[Ticket] = []
    position = dict.fromkeys(PARTITIONS, 0)
    checkpoint.assign(dict.fromkeys(PARTITIONS, ()))
    steps = ["read", "read", "close", "close", "begin", "weigh", "commit"]
    steps += ["refused", "rebalance"]
    for step in data.draw(st.lists(st.sampled_from(steps), max_size=60)):
        if step == "read":
            partition = data.draw(st.sampled_from(PARTITIONS))
            after = [n for n in there[partition] if n >= position[partition]]
            if not after:
                continue
            position[partition] = after[0] + 1
            one = record(partition, after[0])
            if checkpoint.passed(one):
                assert after[0] in durable[partition], "it has not ended"
                continue
            assert after[0] not in durable[partition], "it has ended"
            ticket = checkpoint.open(one)
            assert ticket is not None
            tickets.append(ticket)
        elif step == "close" and tickets:
            ticket = tickets.pop(data.draw(st.integers(0, len(tickets) - 1)))
            checkpoint.close(ticket)
            checkpoint.close(ticket)  # a settlement happens at most once
            at = ticket.record
            ended[at.topic, at.partition].add(at.offset)
        elif step == "begin" and tickets:
            ticket = data.draw(st.sampled_from(tickets + old))
            ticket.begin()
            ticket.begin()
        elif step == "weigh" and tickets:
            ticket = data.draw(st.sampled_from(tickets + old))
            ticket.weigh(data.draw(st.integers(-1000, 10_000)))
        elif step == "commit":
            broker.commit(checkpoint.settled())
            assert checkpoint.settled() == {}
            durable = {each: frozenset(ended[each]) for each in PARTITIONS}
        elif step == "refused":
            marks = checkpoint.settled()
            checkpoint.unsettled(marks)
            assert checkpoint.settled().keys() == marks.keys()
            checkpoint.unsettled(marks)
        elif step == "rebalance":
            # An old ticket closed later must not count for the new owner.
            old += tickets
            tickets = []
            begin = broker.begin()
            position = {each: offset for each, (offset, _) in begin.items()}
            checkpoint.assign({each: ahead for each, (_, ahead) in begin.items()})
            ended = {each: set(durable[each]) for each in PARTITIONS}
            for ticket in old:
                ticket.begin()
                ticket.weigh(1)
                checkpoint.close(ticket)
                ticket.weigh(1)
        assert checkpoint.records == len(tickets)
        assert checkpoint.bytes == sum(t.size for t in tickets)
        assert checkpoint.bytes == sum(map(checkpoint.weight, PARTITIONS))
        begun = sum(t.size for t in tickets if t.begun)
        assert begun == sum(map(checkpoint.under_way, PARTITIONS))
    for partition, (offset, ahead) in broker.begin().items():
        below = {n for n in there[partition] if n < offset}
        assert below | ahead == durable[partition]


def test_a_record_that_is_open_already_gets_no_second_ticket() -> None:
    checkpoint = Checkpoint()
    checkpoint.assign(dict.fromkeys(PARTITIONS, ()))
    assert checkpoint.open(record(PARTITIONS[0], 7)) is not None
    assert checkpoint.open(record(PARTITIONS[0], 7)) is None
    assert checkpoint.open(record(PARTITIONS[0], 6)) is None


def test_a_record_of_a_partition_that_is_gone_gets_no_ticket() -> None:
    checkpoint = Checkpoint()
    checkpoint.assign({PARTITIONS[0]: ()})
    assert checkpoint.open(record(PARTITIONS[1], 0)) is None


def test_what_is_committed_is_not_offered_again() -> None:
    checkpoint = Checkpoint()
    checkpoint.assign(dict.fromkeys(PARTITIONS, ()))
    ticket = checkpoint.open(record(PARTITIONS[0], 0))
    assert ticket is not None
    checkpoint.close(ticket)
    assert checkpoint.settled() == {PARTITIONS[0]: Mark(1)}
    assert checkpoint.settled() == {}


def test_what_ended_behind_an_open_record_lets_go_of_its_bytes() -> None:
    checkpoint = Checkpoint()
    checkpoint.assign(dict.fromkeys(PARTITIONS, ()))
    first, second = (checkpoint.open(record(PARTITIONS[0], n)) for n in (1, 2))
    assert first is not None
    assert second is not None
    checkpoint.close(second)
    assert second.record.value is None
    assert checkpoint.settled() == {PARTITIONS[0]: Mark(1, (2,))}
    checkpoint.close(first)
    assert checkpoint.settled() == {PARTITIONS[0]: Mark(3)}


def test_a_record_that_asks_for_much_weighs_much_and_leaves_nothing_behind() -> None:
    checkpoint = Checkpoint()
    checkpoint.assign(dict.fromkeys(PARTITIONS, ()))
    ticket = checkpoint.open(record(PARTITIONS[0], 1))
    assert ticket is not None
    before = checkpoint.bytes
    line = CreateEvent(Identity("C1"), "Ordered", "O-1:1", "", Raw(b"{}"), {})
    checkpoint.weigh(ticket, [line] * 1000)
    assert checkpoint.bytes > before + 200_000
    checkpoint.close(ticket)
    assert checkpoint.bytes == 0


def test_a_partition_of_which_nothing_was_read_has_nothing_to_commit() -> None:
    checkpoint = Checkpoint()
    checkpoint.assign(dict.fromkeys(PARTITIONS, ()))
    checkpoint.unsettled(PARTITIONS)
    assert checkpoint.settled() == {}


@virtual
async def test_a_job_takes_the_bytes_of_a_record_off_once() -> None:
    """One that was coalesced goes by several jobs until the bad part is found."""
    metrics = Metrics()
    klaviyo: Any = Mock(served="2026-07-15")
    flow = forward(klaviyo, None, metrics, Health(metrics, LoopClock()))
    flow._source = Mock()
    checkpoint = flow.checkpoint
    checkpoint.assign({PARTITIONS[0]: ()})
    tickets = []
    for offset in range(8):
        ticket = checkpoint.open(Record(*PARTITIONS[0], offset, 0, None, b"v" * 60_000))
        assert ticket is not None
        tickets.append(ticket)
    before = checkpoint.bytes
    update = UpsertProfile(Identity("C1"), {}, {})
    items = [Item([update], [(ticket, update) for ticket in tickets])]
    while items:
        flow._taken(items)
        assert checkpoint.bytes == before - 8 * 60_000
        items = [half for item in items if len(item.parts) > 1 for half in item.halves()]
    checkpoint.close(*tickets)
    assert checkpoint.bytes == 0
    await asyncio.sleep(0)
