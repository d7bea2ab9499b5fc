"""The committed offset is always the largest settled prefix of the current assignment."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.forward.checkpoint import Checkpoint
from pipeline.records import Record, Ticket

PARTITIONS = (("customers", 0), ("orders", 0), ("orders", 1))


def record(partition: tuple[str, int], offset: int) -> Record:
    return Record(
        partition[0], partition[1], offset, 1_700_000_000_000 + offset, b"k", b"v"
    )


@dataclass
class Model:
    """What the checkpoint should know, kept the slow and obvious way."""

    opened: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    ended: set[tuple[tuple[str, int], int]] = field(default_factory=set)

    def settled(self, partition: tuple[str, int]) -> int | None:
        best = None
        for offset in self.opened[partition]:
            if (partition, offset) not in self.ended:
                break
            best = offset + 1
        return best


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_order_of_opens_closes_and_rebalances(data: st.DataObject) -> None:
    checkpoint, model = Checkpoint(), Model()
    tickets: list[tuple[int, tuple[str, int], Ticket]] = []  # era, partition, ticket
    era = 0
    checkpoint.assign(PARTITIONS)
    model.opened = {partition: [] for partition in PARTITIONS}
    next_offset = dict.fromkeys(PARTITIONS, 0)
    for step in data.draw(
        st.lists(st.sampled_from(["open", "open", "open", "close", "close", "rebalance"]))
    ):
        if step == "open":
            partition = data.draw(st.sampled_from(PARTITIONS))
            # Gaps are normal: compaction and transaction markers leave them.
            next_offset[partition] += data.draw(st.integers(1, 3))
            ticket = checkpoint.open(record(partition, next_offset[partition]))
            assert ticket is not None
            model.opened[partition].append(next_offset[partition])
            tickets.append((era, partition, ticket))
        elif step == "close" and tickets:
            born, partition, ticket = tickets.pop(
                data.draw(st.integers(0, len(tickets) - 1))
            )
            checkpoint.close(ticket)
            checkpoint.close(ticket)  # a settlement happens at most once
            if born == era:
                model.ended.add((partition, ticket.record.offset))
        elif step == "rebalance":
            era += 1
            checkpoint.assign(PARTITIONS)
            model = Model({partition: [] for partition in PARTITIONS})
            # The new owner reads again from what was committed: the same offsets are open
            # again, and closing an old ticket of them must not count.
            next_offset = dict.fromkeys(PARTITIONS, 0)
        expected = {
            partition: settled
            for partition in PARTITIONS
            if (settled := model.settled(partition)) is not None
        }
        assert checkpoint.settled() == expected
        still_open = [t for born, _, t in tickets if born == era]
        assert checkpoint.records == len(still_open)
        assert checkpoint.bytes == sum(t.size for t in still_open)


def test_a_record_that_is_open_already_gets_no_second_ticket() -> None:
    checkpoint = Checkpoint()
    checkpoint.assign(PARTITIONS)
    assert checkpoint.open(record(PARTITIONS[0], 7)) is not None
    assert checkpoint.open(record(PARTITIONS[0], 7)) is None
    assert checkpoint.open(record(PARTITIONS[0], 6)) is None


def test_a_record_of_a_partition_that_is_gone_gets_no_ticket() -> None:
    checkpoint = Checkpoint()
    checkpoint.assign(PARTITIONS[:1])
    assert checkpoint.open(record(PARTITIONS[1], 0)) is None


def test_what_is_committed_is_not_offered_again() -> None:
    checkpoint = Checkpoint()
    checkpoint.assign(PARTITIONS)
    ticket = checkpoint.open(record(PARTITIONS[0], 0))
    assert ticket is not None
    checkpoint.close(ticket)
    offsets = checkpoint.settled()
    assert offsets == {PARTITIONS[0]: 1}
    checkpoint.committed(offsets)
    assert checkpoint.settled() == {}


def test_what_ended_behind_an_open_record_lets_go_of_its_bytes() -> None:
    checkpoint = Checkpoint()
    checkpoint.assign(PARTITIONS)
    first, second = (checkpoint.open(record(PARTITIONS[0], n)) for n in (1, 2))
    assert first is not None
    assert second is not None
    checkpoint.close(second)
    assert second.record.value is None
    assert checkpoint.settled() == {}
    checkpoint.close(first)
    assert checkpoint.settled() == {PARTITIONS[0]: 3}


def test_a_record_that_asks_for_much_weighs_much_and_leaves_nothing_behind() -> None:
    checkpoint = Checkpoint()
    checkpoint.assign(PARTITIONS)
    ticket = checkpoint.open(record(PARTITIONS[0], 1))
    assert ticket is not None
    before = checkpoint.bytes
    checkpoint.weigh(ticket, 1000)
    assert checkpoint.bytes > before + 500_000
    checkpoint.close(ticket)
    assert checkpoint.bytes == 0
