"""A start: several replicas at the same moment, and one whose Klaviyo is not there."""

from contextlib import AsyncExitStack

import pytest

from tests.flow.rig import Rig, until

ACCOUNTS = "GET /api/accounts"  # 1 call a second, whichever replica asks


@pytest.mark.kafka
@pytest.mark.limits
@pytest.mark.timeout(120)
async def test_three_that_start_at_once_all_get_ready_without_a_halt(rig: Rig) -> None:
    await rig.customer(id="C-1", email="ada@shop.dev")
    async with AsyncExitStack() as stack:
        services = [rig.service() for _ in range(3)]
        for service in services:
            await stack.enter_async_context(service)
        await until(lambda: all('"running"' in each.output for each in services))
        await rig.drained()
        for service in services:
            assert await service.terminate() == 0
            assert '"halted"' not in service.output
    statuses = rig.sandbox.ledger.statuses
    assert statuses[ACCOUNTS][200] == 3
    assert rig.sandbox.ledger.throttled == statuses[ACCOUNTS].get(429, 0)


async def test_nothing_is_delivered_before_the_account_is_known(rig: Rig) -> None:
    """A path too much in the address: all calls are 404, with an error document."""
    await rig.customer(id="C-1", email="ada@shop.dev")
    service = rig.service(klaviyo__api_url=f"{rig.sandbox.url}/x")
    async with service:
        await until(lambda: "klaviyo.api_url" in service.output)
        status, text = await service.get("/readyz")
        assert status == 503
        assert "/x (unexpected" in text
        assert await service.terminate() == 0
    assert await rig.lag() == rig.sent
    assert not await rig.read_dead_letters(1, within=0.0)
