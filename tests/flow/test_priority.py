"""Live changes come before history, in one process and beside another."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline.demo.shop import Made
from tests.flow.cli import environ
from tests.flow.commands import Command
from tests.flow.rig import Rig, until

BACKLOG = 12_000  # old events
ROWS = 1000  # of a bulk request
SLOW = {"POST /api/event-bulk-create-jobs": (1, 20), "POST /api/events": (1, 20)}


def order(name: str, at: str) -> Made:
    body = {"id": name, "customer": {"id": f"C-{name}"}}
    value = {"type": "order.placed", "occurred_at": at, "order": body}
    return Made("shop.orders", name.encode(), json.dumps(value).encode())


def stored(rig: Rig) -> int:
    return sum(1 for _ in rig.sandbox.state.events)


def lives(rig: Rig) -> int:
    return sum(1 for event in rig.sandbox.state.events if not event.backfill)


def has(rig: Rig, name: str) -> bool:
    return any(event.unique_id == name for event in rig.sandbox.state.events)


def refused(rig: Rig) -> dict[str, int]:
    """429s; only GET /api/accounts, one call a second, is not shared out."""
    found = rig.sandbox.ledger.statuses
    return {name: count for name in SLOW if (count := found.get(name, {}).get(429, 0))}


@pytest.mark.kafka
@pytest.mark.limits
@pytest.mark.timeout(120)
async def test_a_live_event_overtakes_history(rig: Rig) -> None:
    rig.set(limit_overrides=SLOW)
    await rig.send(order(f"O-{n}", "2020-01-01T00:00:00Z") for n in range(BACKLOG))
    async with rig.service(deliver__backfill_after="86400") as service:
        await until(lambda: stored(rig) >= ROWS, what="history")
        before = stored(rig)
        await rig.send([order("live", datetime.now(UTC).isoformat())])
        await until(lambda: has(rig, "live"), what="the live event")
        # How much went meanwhile is the machine's speed; without the rule it is all.
        assert stored(rig) - before <= (BACKLOG - ROWS) / 2
        assert await service.terminate() == 0
    assert not refused(rig)


@pytest.mark.kafka
@pytest.mark.limits
@pytest.mark.timeout(120)
async def test_a_backfill_leaves_the_quota_to_the_service_beside_it(rig: Rig) -> None:
    """While the service has a backlog, little of the other's goes."""
    rig.set(limit_overrides=dict.fromkeys(SLOW, (5, 120)))
    await rig.send(order(f"O-{n}", "2020-01-01T00:00:00Z") for n in range(BACKLOG))
    again = Command(environ(rig), "backfill", "--topic", rig.orders)
    async with rig.service(kafka__topics=rig.customers) as service:
        await until(lambda: '"assigned"' in service.output, what="its partitions")
        async with again:
            await until(lambda: stored(rig) >= ROWS, what="history")
            made = (order(f"L-{n}", "2026-11-01T00:00:00Z") for n in range(BACKLOG))
            await rig.send(replace(each, topic="shop.customers") for each in made)
            await until(lambda: lives(rig) == BACKLOG, what="all live ones")
        assert await service.terminate() == 0
    # Each is somebody's else, so they stand in the order in which they were taken.
    history = [event.backfill for event in rig.sandbox.state.events]
    first, last = history.index(False), BACKLOG + history.count(True) - 1
    last -= history[::-1].index(False)
    assert sum(history[:first]) < BACKLOG - ROWS, "no history was left to compete"
    assert sum(history[first:last]) <= BACKLOG / 2
    assert not refused(rig)
