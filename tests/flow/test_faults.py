"""Whatever Klaviyo does: nothing lost, nothing dead-lettered, it goes on by itself."""

import asyncio
from typing import Any

import pytest

from pipeline.demo.proof import compare, fetch
from pipeline.demo.shop import Shop
from tests.flow.rig import Rig

FAULTS: dict[str, list[dict[str, Any]]] = {
    "429 storm with Retry-After": [
        {
            "match": {"method": "POST", "times": 5},
            "action": {"kind": "status", "status": 429, "retry_after": 1},
        }
    ],
    "429 with garbage for Retry-After": [
        {
            "match": {"times": 4, "after": 2},
            "action": {"kind": "status", "status": 429, "retry_after": "soon"},
        }
    ],
    "5xx": [
        {"match": {"after": 3, "times": 4}, "action": {"kind": "status", "status": 503}},
        {"match": {"probability": 0.1}, "action": {"kind": "status", "status": 500}},
    ],
    "reset after processing": [
        {"match": {"after": 1, "times": 6}, "action": {"kind": "reset_after"}}
    ],
    "reset before processing": [
        {"match": {"after": 1, "times": 6}, "action": {"kind": "reset_before"}}
    ],
    "processed, then 502": [
        {
            "match": {"after": 1, "times": 5},
            "action": {"kind": "status", "status": 502, "processed": True},
        }
    ],
    "garbage answers": [
        {"match": {"after": 1, "times": 3}, "action": {"kind": "garbage"}},
        {"match": {"after": 2, "times": 3}, "action": {"kind": "truncate"}},
    ],
    "a load balancer's 404": [
        {
            "match": {"after": 1, "times": 4},
            "action": {"kind": "garbage", "status": 404},
        }
    ],
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_of_klaviyo_costs_nothing(rig: Rig, name: str) -> None:
    shop = Shop(seed=3, bad=False)
    await rig.send(shop.day(customers=40, orders=60))
    rig.fault(*FAULTS[name])
    async with rig.service() as service:
        await rig.drained(within=100)
        assert await service.metric("dead_letters_total") == 0
        assert await service.metric("api_retries_total") > 0
        assert await service.terminate() == 0
    findings = compare(shop, await fetch(rig.sandbox.url))
    scripted = ("answers 429",)
    assert [f for f in findings if not f.good and f.what not in scripted] == []


@pytest.mark.timeout(180)
async def test_an_outage_of_a_minute_is_waited_out_and_seen(rig: Rig) -> None:
    shop = Shop(seed=6, bad=False)
    await rig.send(shop.day(customers=40, orders=60))
    rig.fault(
        {
            "match": {"after": 3, "seconds": 60},
            "action": {"kind": "status", "status": 503},
        }
    )
    async with rig.service() as service:
        async with asyncio.timeout(50):
            while "klaviyo" not in (await service.get("/readyz"))[1]:
                await asyncio.sleep(0.5)
        assert (await service.get("/readyz"))[0] == 200, "an outage needs no human"
        await rig.drained(within=120)
        assert await service.metric("dead_letters_total") == 0
        assert await service.terminate() == 0
    assert [f for f in compare(shop, await fetch(rig.sandbox.url)) if not f.good] == []


@pytest.mark.timeout(60)
async def test_a_bad_key_halts_and_a_good_one_goes_on(rig: Rig) -> None:
    shop = Shop(seed=4, bad=False)
    rig.set(revoked_keys=["*"])
    await rig.send(shop.day(customers=10, orders=10))
    async with rig.service() as service:
        await until_halted(service)
        status, text = await service.get("/readyz")
        assert status == 503
        assert "unauthorized" in text
        assert (await service.get("/livez"))[0] == 200
        rig.set(revoked_keys=[])
        await rig.drained()
        assert await service.metric("halted", {"reason": "unauthorized"}) == 0
        assert await service.metric("dead_letters_total") == 0
    assert [f for f in compare(shop, await fetch(rig.sandbox.url)) if not f.good] == []


@pytest.mark.timeout(60)
async def test_a_missing_scope_halts_in_the_middle(rig: Rig) -> None:
    shop = Shop(seed=5, bad=False)
    rig.set(forbidden=["POST /api/events", "POST /api/event-bulk-create-jobs"])
    await rig.send(shop.day(customers=10, orders=10))
    async with rig.service() as service:
        await until_halted(service, "forbidden")
        rig.set(forbidden=[])
        await rig.drained()
        assert await service.metric("dead_letters_total") == 0
    assert [f for f in compare(shop, await fetch(rig.sandbox.url)) if not f.good] == []


async def until_halted(service: Any, reason: str = "unauthorized") -> None:
    async with asyncio.timeout(30):
        while await service.metric("halted", {"reason": reason}) != 1:
            await asyncio.sleep(0.1)
