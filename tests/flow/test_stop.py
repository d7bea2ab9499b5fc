"""SIGTERM ends the process in time whatever is down, and loses nothing."""

import asyncio

import pytest

from pipeline.demo.proof import compare, fetch
from pipeline.demo.shop import Shop
from pipeline.sandbox import Sandbox
from tests.brokers.apache import Apache
from tests.flow.rig import Rig, until

GRACE = 25.0  # s; well under Kubernetes' grace period, far above what it takes


@pytest.mark.timeout(280)
async def test_stop_under_load_sends_nothing_again(rig: Rig) -> None:
    shop = Shop(seed=11, bad=False)
    await rig.send(shop.day(customers=2000, orders=5000))
    rig.set(latency=0.5, import_processing=1.0)
    service = rig.service()
    await service.start()
    await until(lambda: rig.accepted > 5, what="load")
    async with asyncio.timeout(GRACE):
        assert await service.terminate() == 0
    assert await rig.lag() > 0, "it was not stopped under load"
    async with service:
        await rig.drained(within=200)
        await service.terminate()
    assert rig.sandbox.state.events.duplicates == shop.resent
    assert [f for f in compare(shop, await fetch(rig.sandbox.url)) if not f.good] == []


@pytest.mark.timeout(280)
async def test_stop_while_klaviyo_hangs(rig: Rig) -> None:
    shop = Shop(seed=12, bad=False)
    await rig.send(shop.day(customers=500, orders=500))
    rig.fault({"match": {"after": 3}, "action": {"kind": "hang_after", "seconds": 600}})
    service = rig.service()
    await service.start()
    await until(lambda: rig.sandbox.ledger.in_flight >= 2, what="hanging calls")
    async with asyncio.timeout(GRACE):
        assert await service.terminate() == 0
    rig.fault()
    async with service:
        await rig.drained(within=200)
    assert [f for f in compare(shop, await fetch(rig.sandbox.url)) if not f.good] == []


@pytest.mark.kafka
@pytest.mark.timeout(300)
async def test_stop_while_kafka_is_down(kafka: Apache) -> None:
    """The broker dies under load: SIGTERM ends it in time, and the next run finishes."""
    if not kafka.ours:
        pytest.skip("the broker of KAFKA_BOOTSTRAP_SERVERS must not be killed")
    shop = Shop(seed=13, bad=False)
    async with Sandbox(limits=False) as sandbox:
        rig = Rig(kafka.bootstrap, sandbox)
        await rig.create_topics()
        await rig.send(shop.day(customers=2000, orders=5000))
        rig.set(latency=0.5, import_processing=1.0)
        service = rig.service()
        await service.start()
        await until(lambda: rig.accepted > 5, what="load")
        await asyncio.to_thread(kafka.kill)
        async with asyncio.timeout(GRACE):
            assert await service.terminate() == 0
        await asyncio.to_thread(kafka.start)
        async with service:
            await rig.drained(within=200)
        findings = compare(shop, await fetch(sandbox.url))
        assert [f for f in findings if not f.good] == []
