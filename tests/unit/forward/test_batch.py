"""What a request held is given back however it ends."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.forward.batch import Batcher
from pipeline.forward.lanes import Group, Lanes
from pipeline.forward.routes import Route
from pipeline.observe.metrics import Metrics
from pipeline.records import Item, Lot, Record, Ticket
from schemas.commands import Identity, UpsertProfile
from tests.virtual_time import virtual

ROUTE = Route("create_or_update_profile", "profile", 1)
JOBS = Route("bulk_import_profiles", "profile", 100, 10**6, jobs=9)


class Gate:
    """A Klaviyo client that only gives permits."""

    served = "2026-07-15"

    def __init__(self) -> None:
        self.out = 0

    async def ready(self, operation: str) -> None:
        await asyncio.sleep(0)

    def free_now(self, operation: str) -> bool:
        return True

    async def acquire(self, operation: str) -> Any:
        self.out += 1
        gate = self

        class Permit:
            def unused(self) -> None:
                gate.out -= 1

        return Permit()


def add(lanes: Lanes, number: int) -> None:
    ticket = Ticket(Record("t", 0, number, 0, None, b""), Lot(), number, 1)
    lanes.add(ticket, [UpsertProfile(Identity(external_id=f"C-{number}"), {}, {})])


async def test_a_request_abandoned_before_its_first_step_holds_nothing() -> None:
    lanes, gate = Lanes(), Gate()
    client: Any = gate
    ran = []

    async def carry(route: Route, group: Group, permit: Any) -> Sequence[Item]:
        ran.append(group)
        return ()

    batcher = Batcher(lanes, client, carry, 1, Metrics())
    runner = asyncio.create_task(batcher.run(ROUTE))
    add(lanes, 1)
    while not batcher._tasks:
        await asyncio.sleep(0)
    await batcher.abandon()
    assert not ran
    assert (lanes.in_flight, gate.out) == (0, 0)
    add(lanes, 2)
    async with asyncio.timeout(5):
        while not ran:  # the only slot is free again
            await asyncio.sleep(0)
    runner.cancel()


@virtual
async def test_a_job_with_fewer_rows_than_the_last_one_starts_a_second_later() -> None:
    lanes, loop = Lanes(), asyncio.get_running_loop()
    client: Any = Gate()
    began: list[tuple[float, int]] = []

    async def carry(route: Route, group: Group, permit: Any) -> Sequence[Item]:
        began.append((loop.time() - started, group.rows))
        await asyncio.sleep(60)
        return ()

    batcher = Batcher(lanes, client, carry, 1, Metrics())
    started = loop.time()
    runner = asyncio.create_task(batcher.run(JOBS))
    for at, rows in ((0.0, 20), (0.3, 15), (0.4, 5), (0.5, 15), (3.0, 1)):
        await asyncio.sleep(at - (loop.time() - started))
        for number in range(rows):
            add(lanes, int(at * 1000) + number)
    await asyncio.sleep(2)
    expected = [(0.0, 20), (0.4, 20), (1.4, 15), (3.0, 1)]
    assert [rows for _, rows in began] == [rows for _, rows in expected]
    assert [at for at, _ in began] == pytest.approx([at for at, _ in expected], abs=0.051)
    runner.cancel()
    await batcher.abandon()


async def test_one_endpoint_that_hangs_leaves_the_others_their_slots() -> None:
    lanes, gate = Lanes(), Gate()
    client: Any = gate
    carried: list[str] = []
    for_ever = asyncio.Event()

    async def carry(route: Route, group: Group, permit: Any) -> Sequence[Item]:
        name = str(group.items[0].command.identity.external_id)
        if name == "C-1":
            await for_ever.wait()
        carried.append(name)
        return ()

    batcher = Batcher(lanes, client, carry, 1, Metrics())
    add(lanes, 1)
    first = asyncio.create_task(batcher.run(ROUTE))
    while not lanes.in_flight:
        await asyncio.sleep(0)
    add(lanes, 2)
    other = Route("bulk_import_profiles", "profile", 1)
    second = asyncio.create_task(batcher.run(other))
    async with asyncio.timeout(5):
        while carried != ["C-2"]:
            await asyncio.sleep(0)
    for task in (first, second):
        task.cancel()
    await batcher.abandon()


async def test_a_bug_ends_the_run_instead_of_leaving_its_items_open() -> None:
    lanes = Lanes()
    client: Any = Gate()

    async def carry(route: Route, group: Group, permit: Any) -> Sequence[Item]:
        raise ZeroDivisionError

    batcher = Batcher(lanes, client, carry, 1, Metrics())
    runner = asyncio.create_task(batcher.run(ROUTE))
    add(lanes, 1)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(batcher.failed, 5)
    runner.cancel()
