"""A crowd of updates goes by import jobs: nothing is settled before a job ends."""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.demo.shop import Made
from tests.flow.rig import Rig, until

CROWD = 3000
KILLS = 4
JOBS = "POST /api/profile-bulk-import-jobs"


def update(number: int, **fields: Any) -> Made:
    key = f"C-{number}"
    customer = {"id": key, "email": f"c{number}@shop.dev", **fields}
    value = {"type": "customer.updated", "customer": customer}
    return Made("shop.customers", key.encode(), json.dumps(value).encode())


def order(number: int) -> Made:
    body = {"id": f"O-{number}", "customer": {"id": f"B-{number}"}}
    value = {"type": "order.placed", "order": body}
    return Made("shop.orders", b"%d" % number, json.dumps(value).encode())


def names(rig: Rig) -> dict[str, Any]:
    return {
        str(profile.identifiers.get("external_id")): profile.fields.get("first_name")
        for profile in rig.sandbox.state.profiles
    }


def answers(rig: Rig, operation: str = JOBS, *statuses: int) -> int:
    found = rig.sandbox.ledger.statuses.get(operation, {})
    return sum(found.get(status, 0) for status in statuses or (202,))


@pytest.mark.timeout(120)
async def test_a_crowd_goes_by_jobs_and_each_row_arrives(rig: Rig) -> None:
    rig.set(import_queued=0.3, import_processing=0.5)
    await rig.send(update(n, first_name=f"N{n}") for n in range(CROWD))
    async with rig.service() as service:
        await rig.drained(within=90)
        assert await service.metric("dead_letters_total") == 0
        assert await service.terminate() == 0
    assert names(rig) == {f"C-{n}": f"N{n}" for n in range(CROWD)}
    assert answers(rig) >= 1
    assert rig.accepted < CROWD / 3, "most of them had to go by bulk"
    assert rig.sandbox.ledger.violation_count == 0


@pytest.mark.timeout(120)
async def test_a_failed_row_costs_that_row_and_says_why(rig: Rig) -> None:
    """In import-errors only its place stands; the single call says why."""
    rig.set(import_processing=0.2, failing_rows=["C-7", "C-1900"])
    await rig.send(update(n, first_name=f"N{n}") for n in range(CROWD))
    async with rig.service() as service:
        await rig.drained(within=90)
        assert await service.metric("dead_letters_total") == 0
        assert await service.terminate() == 0
    assert names(rig) == {f"C-{n}": f"N{n}" for n in range(CROWD)}, "singles took them"


@pytest.mark.timeout(120)
async def test_rows_that_are_refused_cost_themselves(rig: Rig) -> None:
    """A customer nobody can name in 100 KB; what can be cut, and what bulk cannot do."""
    odd: dict[int, dict[str, Any]] = {
        5: {"id": "C-5" * 40_000},
        9: {"custom_fields": {f"note {n}": "x" * 30_000 for n in range(4)} | {"n": 1}},
        6: {"first_name": None},
        7: {"first_name": "N7", "custom_fields": {"tier": None}},
        8: {"first_name": "N8", "address": {"city": None}},
    }
    await rig.send(update(n, **odd.get(n, {"first_name": f"N{n}"})) for n in range(CROWD))
    async with rig.service() as service:
        await rig.drained(within=90)
        letters = await rig.read_dead_letters(1)
        assert [letter.key() for letter in letters] == [b"C-5"]
        lost = {"field": "custom_fields"}
        assert await service.metric("degraded_fields_total", lost) == 1
        assert await service.terminate() == 0
    want: dict[str, Any] = {f"C-{n}": f"N{n}" for n in range(CROWD) if n != 5}
    assert names(rig) == want | {"C-6": None, "C-9": None}
    held = rig.profile("C-9")["properties"]
    assert sum(map(len, map(str, held.values()))) > 60_000, "no more than must go"
    assert held["n"] == 1


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503, "processed": True},
        {"kind": "reset_after"},
        {"kind": "status", "status": 413},
        {"kind": "status", "status": 400},
    ],
    ids=["processed, then 503", "reset after", "too large", "refused, nobody named"],
)
async def test_a_fault_at_the_start_of_a_job_costs_nothing(
    rig: Rig, fault: dict[str, Any]
) -> None:
    rig.set(import_queued=0.2, import_processing=0.3)
    match = {"method": "POST", "path": "/api/profile-bulk-import-jobs", "times": 2}
    rig.fault({"match": match, "action": fault})
    await rig.send(update(n, first_name="old") for n in range(CROWD))
    await rig.send(update(n, first_name=f"N{n}") for n in range(CROWD))
    async with rig.service() as service:
        await rig.drained(within=120)
        assert await service.metric("dead_letters_total") == 0
        assert await service.terminate() == 0
    assert names(rig) == {f"C-{n}": f"N{n}" for n in range(CROWD)}


@pytest.mark.kafka
@pytest.mark.timeout(300)
async def test_kills_in_every_phase_of_a_job(
    rig: Rig, say: Callable[[str], None]
) -> None:
    """A job of a dead process never overwrites what its successor sends.

    A job works for longer than it takes to notice that its process is dead. Every other
    process dies before it has learnt the id of its job.
    """
    rig.set(import_queued=0.5, import_processing=9.0)
    match = {"method": "POST", "path": JOBS.partition(" ")[2]}
    slow = {"match": match, "action": {"kind": "drip", "seconds": 3.0}}
    chance = random.Random(5)
    imports = rig.sandbox.state.imports
    service = rig.service()

    async def killed(turn: int, least: float, most: float, rows: int = 0) -> None:
        await rig.send(update(n, first_name=f"T{turn}") for n in range(1500))
        started, before = len(imports), rig.rows
        await service.start()
        await until(lambda: len(imports) > started, what="a job")
        await until(lambda: rig.rows - before >= rows, what="all to be handed out")
        await asyncio.sleep(chance.uniform(least, most))  # to die at any moment of it
        await service.kill()

    for turn in range(0, KILLS, 2):
        rig.fault(slow)
        await killed(turn, 0.0, 1.5)
        rig.fault()
        await killed(turn + 1, 0.0, 1.5)
    async with service:
        await rig.drained(within=120)
    # All is handed out, the ids are noted, what went by single call is committed.
    await killed(KILLS, 4.0, 5.0, rows=1500)
    sent = rig.accepted
    async with service:
        await rig.drained(within=120)
        assert await service.terminate() == 0
    assert rig.accepted == sent, "what the dead one's job carried was sent again"
    rows = sum(job.total for job in imports.values())
    say(f"{KILLS + 1} kills, {rig.sent} updates: {len(imports)} jobs, {rows} rows")
    assert names(rig) == {f"C-{n}": f"T{KILLS}" for n in range(1500)}
    assert rig.sandbox.ledger.violation_count == 0


@pytest.mark.timeout(120)
async def test_the_ceiling_holds_over_all_endpoints_with_imports(rig: Rig) -> None:
    """Jobs, looks at them, single calls, events: all of them count."""
    limit, seconds = 8, 2.0
    rig.set(import_queued=0.3, import_processing=0.5, failing_rows=["C-7"])
    ceiling = {"throttle__limit": str(limit), "throttle__seconds": str(seconds)}
    await rig.send(update(n, first_name=f"N{n}") for n in range(CROWD))
    await rig.send(order(n) for n in range(200))
    async with rig.service(**ceiling) as service:
        await rig.drained(within=90)
        assert await service.terminate() == 0
    assert len(rig.events()) == 200
    assert names(rig).items() >= {f"C-{n}": f"N{n}" for n in range(CROWD)}.items()
    times = [entry.monotonic for entry in rig.sandbox.ledger.entries]
    operations = {entry.operation for entry in rig.sandbox.ledger.entries}
    assert {JOBS, "GET /api/profile-bulk-import-jobs"} <= operations
    for first, beyond in zip(times, times[limit:], strict=False):
        assert beyond - first >= seconds, f"{limit + 1} calls in {beyond - first} s"
