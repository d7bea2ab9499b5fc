"""kill -9 again and again while a backlog drains: the ledger must balance."""

import random
from collections.abc import Callable
from itertools import islice

import pytest

from pipeline.demo.proof import compare, fetch
from pipeline.demo.shop import Shop
from tests.flow.rig import Rig, until

KILLS = 10
PORTION = 2000  # records before each kill


@pytest.mark.kafka
@pytest.mark.timeout(300)
async def test_ten_kills_lose_nothing_and_store_nothing_twice(
    rig: Rig, say: Callable[[str], None]
) -> None:
    shop = Shop(seed=7, bad=False)
    day = shop.day(customers=4000, orders=8000, at_least=20_000)
    made, sandbox = 0, rig.sandbox
    service = rig.service(deliver__malformed_limit="1000000")
    chance = random.Random(7)
    for _ in range(KILLS):
        made += await rig.send(islice(day, PORTION))  # so that there is work at each kill
        await service.start()
        seen, step = rig.rows, chance.randint(1, PORTION // 2)
        await until(lambda: rig.rows > seen + step, what="progress")  # noqa: B023
        await service.kill()
    made += await rig.send(day)
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
