"""kill -9 again and again while a backlog drains: the ledger must balance."""

import random
from collections.abc import Callable

import pytest

from pipeline.demo.proof import compare, fetch
from pipeline.demo.shop import Shop
from tests.flow.rig import Rig, until

KILLS = 10


@pytest.mark.kafka
@pytest.mark.timeout(300)
async def test_ten_kills_lose_nothing_and_store_nothing_twice(
    rig: Rig, say: Callable[[str], None]
) -> None:
    shop = Shop(seed=7, bad=False)
    made = await rig.send(shop.day(customers=4000, orders=8000, at_least=20_000))
    sandbox = rig.sandbox
    service = rig.service(deliver__malformed_limit="1000000")
    chance = random.Random(7)
    for _ in range(KILLS):
        await service.start()
        seen = rig.accepted
        step = chance.randint(50, 300)  # requests; a bulk one carries 1,000 events
        await until(lambda: rig.accepted > seen + step, what="progress")  # noqa: B023
        await service.kill()
    async with service:
        await rig.drained(within=180)
        assert await service.terminate() == 0
    stored = await fetch(sandbox.url)
    findings = compare(shop, stored)
    ledger = [f"{each.what}: made {each.made}, stored {each.stored}" for each in findings]
    ledger.append(f"sent again: {sandbox.state.events.duplicates} events")
    say("\n  ".join((f"ledger after {KILLS} kills, {made} records:", *ledger)))
    assert made >= 20_000
    assert [finding for finding in findings if not finding.good] == []
