"""Several replicas that start at the same moment, as a deployment's first pods do."""

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
