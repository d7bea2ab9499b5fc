"""At a backlog at least 98 % of the quota is used, and no call is refused for it."""

import asyncio
import math
import random
from collections.abc import Callable

import pytest

from tests.unit.klaviyo.fixed_windows import FixedWindow, assert_never_more_than, family
from tests.virtual_time import virtual

QUOTAS = [(350, 3500), (75, 750), (10, 150), (3, 60)]
LATENCIES: dict[str, Callable[[random.Random], float]] = {
    "at once": lambda _: 0.0,
    "150 ms": lambda _: 0.15,
    "random": lambda chance: chance.expovariate(4),
}


@pytest.mark.parametrize("quota", QUOTAS)
@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize("phase", [0.0, 37.3])
@pytest.mark.parametrize("rounded", [math.ceil, math.floor])
@virtual
async def test_a_backlog_uses_the_quota_without_a_429(
    quota: tuple[int, int],
    latency: str,
    phase: float,
    rounded: Callable[[float], int],
) -> None:
    burst, steady = quota
    limits, window = family(burst, steady), FixedWindow(steady, phase, rounded)
    counted: list[float] = []
    loop, chance = asyncio.get_running_loop(), random.Random(1)

    async def worker() -> None:
        while True:
            with await limits.acquire() as permit:
                seconds = LATENCIES[latency](chance)
                before = seconds * chance.random()
                await asyncio.sleep(before)
                headers = window.spend()
                counted.append(loop.time())
                await asyncio.sleep(seconds - before)
                assert headers is not None, "a 429 of our own making"
                permit.answered(202, headers)

    workers = [asyncio.create_task(worker()) for _ in range(100)]
    await asyncio.sleep(180 - phase)
    for task in workers:
        task.cancel()
    results = await asyncio.gather(*workers, return_exceptions=True)
    assert {type(each) for each in results} == {asyncio.CancelledError}
    # Two whole windows of the server; one call is the grain of a small quota.
    used = window.windows[1] + window.windows[2]
    assert used >= 0.98 * 2 * steady - 1
    assert_never_more_than(burst, 1, counted)
    assert_never_more_than(steady, 60, counted)
