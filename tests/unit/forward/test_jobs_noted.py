"""A job is in the ledger before it starts, and tells only ends that are ends."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pipeline.clock import SYSTEM
from pipeline.errors import PipelineError
from pipeline.forward.imports import Imports
from pipeline.forward.ledger import Entry, Unfinished
from pipeline.klaviyo.call import Accepted, Refused
from pipeline.klaviyo.jobs import Ended
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import DELIVERED, Dead, Item, Lot, Partition, Record, Ticket
from schemas.commands import Identity, UpsertProfile
from tests.virtual_time import virtual

PART: Partition = ("t", 0)
DEAD = Dead("refused", "deliver", "no")


class World:
    """Ledger, Klaviyo and its jobs; all that happens stands in `log`."""

    def __init__(self, ended: Ended | None = None) -> None:
        self.log: list[str] = []
        self.noted: Mapping[Partition, list[tuple[int, int]]] = {}
        self.left: list[Unfinished] = []
        self.ended = ended or Ended()
        self.answer: Any = ("J", Accepted(202, b"", 1))
        self.unwritable = False
        me: Any = self
        self.health = Health(Metrics(), SYSTEM)
        self.imports = Imports(me, me, me, self.health)

    async def send(self, items: list[Item], *, committed: bool = True) -> Any:
        permit: Any = self

        async def commit() -> bool:
            self.log.append("commit")
            return committed

        def taken(items: Sequence[Item]) -> None:
            self.log.append(f"{len(items)} taken")

        return await self.imports.send(items, permit, commit, taken)

    def unused(self) -> None:
        self.log.append("not sent")

    async def open(self, rows: Mapping[Partition, list[tuple[int, int]]]) -> Entry:
        if self.unwritable:
            raise PipelineError("the state topic is away")
        self.log.append("noted")
        self.noted = rows
        return Entry("1", rows)

    async def import_profiles(self, body: bytes, permit: Any) -> Any:
        self.log.append("sent")
        return self.answer

    async def started(self, entry: Entry, job: str) -> None:
        self.log.append(f"started {job}")

    async def end(self, job: str) -> Ended:
        self.log.append(f"ended {job}")
        return self.ended

    async def quiet(self) -> None:
        self.log.append("quiet")

    def close(self, entry: Entry) -> None:
        self.log.append("closed")

    async def unfinished(self, partitions: object) -> list[Unfinished]:
        return self.left

    async def forget(self, left: object) -> None:
        self.log.append("forgotten")


def item(number: int, *, more: int = 0, outcome: Any = DELIVERED) -> Item:
    ticket = Ticket(Record(*PART, number, 0, None, b""), Lot(), number, 1)
    ticket.left, ticket.outcome = 1 + more, outcome
    command = UpsertProfile(Identity(external_id=f"C-{number}"), {}, {})
    made = Item([command], [(ticket, command)])
    made.row = b"{}"
    return made


async def test_a_job_is_noted_before_it_is_sent_and_closed_after_its_end() -> None:
    world = World()
    assert await world.send([item(5), item(6)]) == [DELIVERED, DELIVERED]
    assert world.log[:4] == ["commit", "noted", "sent", "2 taken"]
    assert world.log[4:] == ["started J", "ended J", "closed"]
    assert world.noted == {PART: [(0, 5), (1, 6)]}


async def test_an_attempt_without_an_answer_is_waited_out_before_the_job_is_closed() -> (
    None
):
    world = World()
    world.answer = ("J", Accepted(202, b"", 2))
    await world.send([item(5)])
    assert world.log[-3:] == ["ended J", "quiet", "closed"]


@pytest.mark.parametrize("committed", [True, False])
@virtual
async def test_what_cannot_be_noted_or_committed_is_not_sent(committed: bool) -> None:
    world = World()
    world.unwritable = True
    assert await world.send([item(5)], committed=committed) == [None]
    assert world.log == ["commit", "not sent"]


async def test_a_job_ends_only_records_that_need_nothing_else() -> None:
    """A dead part still needs its letter: after a crash the record is read again."""
    world = World()
    await world.send([item(5), item(6, more=1), item(7, outcome=DEAD)])
    assert world.noted == {PART: [(0, 5)]}


@pytest.mark.parametrize(
    ("ended", "again"),
    [
        (Ended(), []),
        (Ended(frozenset({1})), [1]),
        (Ended(lost=True), [0, 1, 2]),
        (Ended(frozenset({1, 9})), [0, 1, 2]),  # a row we did not send: nothing is sure
    ],
)
async def test_rows_that_were_not_stored_go_by_single_call(
    ended: Ended, again: list[int]
) -> None:
    items = [item(number) for number in range(3)]
    outcomes = await World(ended).send(items)
    assert [row for row, outcome in enumerate(outcomes) if outcome is None] == again
    assert [row for row, each in enumerate(items) if each.kind == "single"] == again


async def test_a_refusal_without_a_name_halves_and_the_last_goes_alone() -> None:
    world = World()
    world.answer = Refused(400, (), 1)
    items = [item(number) for number in range(5)]
    assert await world.send(items) == [None] * 5
    assert {each.largest for each in items} == {3}
    assert await world.send(items[:1]) == [None]
    assert items[0].kind == "single"


async def test_the_next_owner_waits_for_the_jobs_and_sends_nothing_of_them_again() -> (
    None
):
    world = World(Ended(frozenset({1})))
    rows = [(0, 5), (1, 6), (2, 7)]
    world.left = [Unfinished("a", PART, None, [(0, 3)]), Unfinished("b", PART, "J", rows)]
    ended = await world.imports.resume({PART: [9]})
    assert ended == {PART: {5, 7, 9}}
    assert world.log == ["quiet", "ended J", "forgotten"]
    assert not world.health.waits()


async def test_a_lost_job_ends_nothing() -> None:
    world = World(Ended(lost=True))
    world.left = [Unfinished("b", PART, "J", [(0, 5)])]
    assert await world.imports.resume({PART: []}) == {PART: set()}
