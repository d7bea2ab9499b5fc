"""What a record is accounted with is what it costs: else no bound of memory holds."""

import gc
import json
import tracemalloc
from collections.abc import Sequence

import pytest

from pipeline.forward.batch import Parcel
from pipeline.forward.checkpoint import Checkpoint
from pipeline.forward.lanes import Group, Lanes
from pipeline.forward.plan import Planner
from pipeline.forward.routes import ROUTES, Route
from pipeline.records import Record
from schemas.event import Context, Plan
from tests.bench import feed, quota

NEAR = 0.25  # of what is held, one way or the other
COUNT = 1000  # records; what is cached for all of them costs nothing beside
IMPORT, EVENTS = ROUTES[0][1], ROUTES[1][1]


def numbers(customer: int) -> bytes:
    fields = {f"field_{n}": customer * n / 8 for n in range(200)}
    body = {"id": f"C-{customer}", "custom_fields": fields}
    return json.dumps({"type": "customer.updated", "customer": body}).encode()


def of_ten_events(number: int) -> bytes:
    lines = [
        {"id": str(n), "sku": "S1", "quantity": 1, "price": f"{number}.{n}"}
        for n in range(9)
    ]
    body = {"id": f"O-{number}", "total": "9.00", "customer": {"id": f"B-{number}"}}
    return json.dumps(
        {"type": "order.placed", "order": {**body, "lines": lines}}
    ).encode()


KINDS: dict[str, tuple[Route, Sequence[bytes]]] = {
    "orders": (EVENTS, [*feed.orders(COUNT, COUNT)]),
    "orders with properties": (EVENTS, [*feed.orders(COUNT, COUNT, own=True)]),
    "orders of ten events": (EVENTS, [*map(of_ten_events, range(COUNT))]),
    "small changes": (IMPORT, [feed.change(number) for number in range(COUNT)]),
    "customers of fifty fields": (
        IMPORT,
        [one.value or b"" for one in quota.customers(COUNT, 5000)],
    ),
    "customers of many numbers": (IMPORT, [*map(numbers, range(COUNT))]),
}


class Held:
    """Records on their way, and the bytes they came to hold since then."""

    def __init__(self) -> None:
        self.checkpoint = Checkpoint()
        self.checkpoint.assign({("t", 0): ()})
        self._lanes = Lanes()
        self._planner = Planner(Context(default_country="US"))
        self._groups: list[Group] = []

    def read(self, values: Sequence[bytes]) -> None:
        for offset, value in enumerate(values):
            own = bytes(bytearray(value))  # as the client makes it anew
            record = Record("t", 0, offset, 1793527200000, None, own)
            plan = self._planner.plan(record)
            ticket = self.checkpoint.open(record)
            assert isinstance(plan, Plan)
            assert ticket is not None
            self.checkpoint.weigh(ticket, plan.commands)
            self._lanes.add(ticket, plan.commands)

    def take(self, route: Route) -> None:
        while self._lanes.ready(route.kind):
            parcel = Parcel(route, "2026-07-15")
            self._groups.append(self._lanes.take(route.kind, parcel))


@pytest.mark.parametrize("kind", KINDS)
def test_records_weigh_what_they_hold(kind: str) -> None:
    route, values = KINDS[kind]
    warm = Held()
    warm.read(values)
    warm.take(route)
    held = Held()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        held.read(values)
        waiting, _ = tracemalloc.get_traced_memory()
        assert held.checkpoint.bytes > (waiting - before) * (1 - NEAR)
        held.take(route)
        taken, _ = tracemalloc.get_traced_memory()
        assert held.checkpoint.bytes == pytest.approx(taken - before, rel=NEAR)
    finally:
        tracemalloc.stop()
