"""Odd records cost themselves, in whatever company they come."""

import json
from typing import Any

import pytest

from pipeline.demo.shop import Made
from tests.flow.rig import Rig

LINES = 900
UPDATES = 10_000


def order(name: str, who: str, lines: int = 0) -> Made:
    own = [{"id": str(n), "quantity": 1, "price": "1.00"} for n in range(lines)]
    body: dict[str, Any] = {"id": name, "customer": {"id": who}, "lines": own}
    value = json.dumps({"type": "order.placed", "order": body}).encode()
    return Made("shop.orders", name.encode(), value)


@pytest.mark.timeout(90)
async def test_huge_repeated_and_refused_orders_among_a_thousand(rig: Rig) -> None:
    """Orders of 900 lines, each order twice in a batch, and three that are refused."""
    rig.set(max_event_profile=200)
    bad = {f"O-{n}" for n in (0, 517, 999)}

    def made(number: int) -> Made:
        name = f"O-{number}"
        who = "x" * 300 if name in bad else f"C-{number % 50}"
        return order(name, who, LINES if number % 200 == 7 else 1)

    for _ in range(2):
        await rig.send(made(number) for number in range(1000))
    async with rig.service() as service:
        await rig.drained()
        letters = await rig.read_dead_letters(2 * len(bad))
        assert await service.terminate() == 0
    assert sorted(str(letter.key()) for letter in letters) == sorted(
        str(name.encode()) for name in [*bad] * 2
    )
    found = sorted(event["unique_id"] for event in rig.events())
    assert found == sorted(
        unique_id
        for number in range(1000)
        if (name := f"O-{number}") not in bad
        for unique_id in (
            name,
            *(f"{name}:{n}" for n in range(LINES if number % 200 == 7 else 1)),
        )
    )
    assert rig.sandbox.ledger.violation_count == 0


@pytest.mark.timeout(90)
async def test_a_customer_with_ten_thousand_waiting_updates(rig: Rig) -> None:
    """They become few writes; the last value of each field counts."""

    def update(number: int) -> Made:
        fields = {"first_name": f"N{number}", "custom_fields": {f"f{number % 7}": number}}
        value = {"type": "customer.updated", "customer": {"id": "C-1", **fields}}
        return Made("shop.customers", b"C-1", json.dumps(value).encode())

    await rig.send(update(number) for number in range(UPDATES))
    await rig.send([order("O-1", "C-1", 1)])
    async with rig.service() as service:
        await rig.drained()
        assert await service.terminate() == 0
    profile = rig.profile("C-1")
    assert profile["first_name"] == f"N{UPDATES - 1}"
    assert profile["properties"] == {f"f{n % 7}": n for n in range(UPDATES - 7, UPDATES)}
    assert rig.accepted < UPDATES / 100
    assert rig.sandbox.ledger.violation_count == 0
