"""A bulk request: filled to the byte, no id twice, and one bad row costs one row."""

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.forward.batch import Parcel
from pipeline.forward.deliver import Deliver, _body
from pipeline.forward.lanes import Lanes
from pipeline.forward.routes import Route
from pipeline.klaviyo.call import Accepted, Refused
from pipeline.klaviyo.retry import Fault
from pipeline.observe.metrics import Metrics
from pipeline.records import DELIVERED, Dead, Lot, Outcome, Record, Ticket
from schemas import bulk_events
from schemas.commands import CreateEvent, Identity

TOP = "/data/attributes/events-bulk-create/data"


def event(number: int, who: int, filling: str = "") -> CreateEvent:
    return CreateEvent(
        Identity(external_id=f"C-{who}", email=f"c{who}@shop.dev"),
        "Placed Order",
        f"O-{number}",
        "2026-01-01T00:00:00Z",
        msgspec.Raw(orjson.dumps({"filling": filling})),
        {},
    )


def ticket(number: int) -> Ticket:
    return Ticket(Record("t", 0, number, 0, None, b""), Lot(), number, 1)


def route(rows: int = 1000, size: int = bulk_events.BYTES) -> Route:
    return Route("bulk_create_events", "event", rows, size)


class Klaviyo:
    """Refuses a request whole while it holds a bad row, as the real one does."""

    served = "2026-07-15"

    def __init__(self, bad: set[str], *, names: bool = True, most: int = 10**9) -> None:
        self.bad = bad
        self.names = names
        self.most = most
        self.stored: list[str] = []
        self.requests: list[int] = []

    def _faults(self, entries: Any) -> list[Fault]:
        found = []
        for i, entry in enumerate(entries):
            for j, row in enumerate(entry["attributes"]["events"]["data"]):
                if row["attributes"]["unique_id"] in self.bad:
                    pointer = f"{TOP}/{i}/attributes/events/data/{j}/attributes/unique_id"
                    found.append(
                        Fault("invalid", pointer if self.names else "/data", "Bad", "")
                    )
        return found

    async def create_events(self, body: bytes, permit: Any) -> Accepted | Refused:
        entries = orjson.loads(body)["data"]["attributes"]["events-bulk-create"]["data"]
        ids = [
            row["attributes"]["unique_id"]
            for entry in entries
            for row in entry["attributes"]["events"]["data"]
        ]
        self.requests.append(len(ids))
        if len(body) > self.most:
            return Refused(413, (), 1)
        if faults := self._faults(entries):
            return Refused(400, tuple(faults), 1)
        self.stored += ids
        return Accepted(202, b"", 1)

    async def create_event(self, body: bytes, permit: Any) -> Accepted | Refused:
        unique_id = orjson.loads(body)["data"]["attributes"]["unique_id"]
        if unique_id in self.bad:
            pointer = "/data/attributes/unique_id"
            return Refused(400, (Fault("invalid", pointer, "Bad", ""),), 1)
        self.stored.append(unique_id)
        return Accepted(202, b"", 1)


async def deliver(klaviyo: Any, events: list[CreateEvent]) -> list[Outcome]:
    lanes, parcel = Lanes(), Parcel(route(), "2026-07-15")
    for number, each in enumerate(events, 1):
        lanes.add(ticket(number), [each])
    group = lanes.take("event", parcel)
    assert len(group.items) == len(events)
    sender, permit = Deliver(klaviyo, Metrics(), "drop_identifier"), None
    outcomes = await sender.send(group.items, permit, bulk=True)  # type: ignore[arg-type]
    order = [str(item.command.unique_id) for item in group.items]  # type: ignore[union-attr]
    found = dict(zip(order, outcomes, strict=True))
    return [found[each.unique_id] for each in events]


@pytest.mark.parametrize("names", [True, False])
async def test_of_a_thousand_exactly_the_bad_ones_are_dead(names: bool) -> None:
    bad = {"O-0", "O-517", "O-999"}
    klaviyo = Klaviyo(bad, names=names)
    events = [event(n, n // 3) for n in range(1000)]
    outcomes = await deliver(klaviyo, events)
    dead = {
        e.unique_id for e, o in zip(events, outcomes, strict=True) if isinstance(o, Dead)
    }
    assert dead == bad
    assert sorted(klaviyo.stored) == sorted(
        e.unique_id for e in events if e.unique_id not in bad
    )
    assert len(klaviyo.stored) == 997, "a row was sent twice"
    assert len(klaviyo.requests) <= (2 if names else 64)
    for outcome in outcomes:
        if isinstance(outcome, Dead):
            assert outcome.pointer == "/data/attributes/unique_id"
            assert outcome.unique_id in bad


async def test_the_order_of_a_customer_holds_when_halves_are_sent() -> None:
    klaviyo = Klaviyo({"O-7"}, names=False)
    await deliver(klaviyo, [event(n, 1) for n in range(40)])
    numbers = [int(name[2:]) for name in klaviyo.stored]
    assert numbers == sorted(numbers)


async def test_all_rows_refused_are_all_dead_in_one_request() -> None:
    klaviyo = Klaviyo({f"O-{n}" for n in range(50)})
    outcomes = await deliver(klaviyo, [event(n, n) for n in range(50)])
    assert all(isinstance(outcome, Dead) for outcome in outcomes)
    assert klaviyo.requests == [50]


async def test_a_body_that_is_too_large_after_all_is_split() -> None:
    klaviyo = Klaviyo(set(), most=6000)
    outcomes = await deliver(klaviyo, [event(n, n, "x" * 300) for n in range(40)])
    assert outcomes == [DELIVERED] * 40
    assert len(klaviyo.stored) == 40


async def test_an_optional_field_of_one_profile_is_left_out_for_its_rows_only() -> None:
    class Picky(Klaviyo):
        def _faults(self, entries: Any) -> list[Fault]:
            return [
                Fault(
                    "invalid",
                    f"{TOP}/{i}/attributes/profile/data/attributes/email",
                    "B",
                    "",
                )
                for i, entry in enumerate(entries)
                if entry["attributes"]["profile"]["data"]["attributes"].get("email")
                == "c1@shop.dev"
            ]

    klaviyo = Picky(set())
    outcomes = await deliver(klaviyo, [event(n, n % 3) for n in range(9)])
    assert outcomes == [DELIVERED] * 9
    assert klaviyo.requests == [9, 9]


@pytest.mark.parametrize("names", [True, False])
async def test_one_bad_event_of_a_record_costs_the_record_alone(names: bool) -> None:
    klaviyo = Klaviyo({"O-12"}, names=names)
    lanes, parcel = Lanes(), Parcel(route(), "2026-07-15")
    tickets = [ticket(number) for number in range(20)]
    for number, each in enumerate(tickets):
        lanes.add(each, record(number % 3, [(3 * number + n, 0) for n in range(3)]))
    group = lanes.take("event", parcel)
    sender = Deliver(klaviyo, Metrics(), "drop_identifier")  # type: ignore[arg-type]
    outcomes = await sender.send(group.items, None, bulk=True)  # type: ignore[arg-type]
    for item, outcome in zip(group.items, outcomes, strict=True):
        ((one, _),) = item.parts
        assert one.settle(outcome)
    assert [n for n, one in enumerate(tickets) if isinstance(one.outcome, Dead)] == [4]
    assert sorted(klaviyo.stored) == sorted(f"O-{n}" for n in range(60) if n != 12)


def record(who: int, events: list[tuple[int, int]]) -> list[CreateEvent]:
    """What one record asks: events by their number, each with so much filling."""
    first = event(0, who)
    return [
        msgspec.structs.replace(
            event(number, who, "x" * filling),
            identity=first.identity,
            profile=first.profile,
        )
        for number, filling in events
    ]


@settings(max_examples=150)
@given(
    records=st.lists(
        st.tuples(
            st.integers(0, 6),
            st.lists(
                st.tuples(st.integers(0, 30), st.integers(0, 400)), min_size=1, max_size=7
            ),
        )
    ),
    most=st.integers(600, 4000),
    limit=st.integers(1, 12),
)
def test_every_request_keeps_its_bounds_and_no_id_stands_twice(
    records: list[tuple[int, list[tuple[int, int]]]], most: int, limit: int
) -> None:
    lanes = Lanes()
    expected: dict[int, list[tuple[int, str]]] = {who: [] for who in range(7)}
    tickets = []
    for number, (who, events) in enumerate(records, 1):
        tickets.append(ticket(number))
        lanes.add(tickets[-1], record(who, events))
        expected[who] += [(number, f"O-{name}") for name, _ in events]
    found: dict[int, list[tuple[int, str]]] = {who: [] for who in range(7)}
    left = sum(map(len, expected.values()))
    while left:
        assert lanes.waiting("event") == left
        parcel = Parcel(route(limit, most), "2026-07-15")
        group = lanes.take("event", parcel)
        assert group.items
        body = _body(group.items)
        rows = orjson.loads(body)["data"]["attributes"]["events-bulk-create"]["data"]
        ids = [
            each["attributes"]["unique_id"]
            for entry in rows
            for each in entry["attributes"]["events"]["data"]
        ]
        assert len(ids) == len(set(ids)) == group.rows <= limit
        assert len(body) <= most or group.rows == 1
        assert len(body) <= parcel._bytes <= len(body) + 2 * group.rows
        told = iter(ids)
        for item in group.items:
            who = int(str(item.command.identity.external_id)[2:])
            found[who] += [(item.sequence, next(told)) for _ in item.commands]
            ((one, _),) = item.parts
            one.settle(DELIVERED)
        left -= group.rows
        lanes.release(group)
    assert found == expected
    assert not lanes.waiting("event")
    assert all(each.left == 0 for each in tickets)
