"""The whole client against the second witness: full windows, no 429, in virtual time."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

import orjson
import pytest

from pipeline.klaviyo.call import Accepted
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.limits import BESIDE, POLLER, Limits
from pipeline.klaviyo.look import Account
from pipeline.klaviyo.portion import Portion
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.sandbox import Sandbox
from pipeline.sandbox.settings import Settings
from pipeline.sandbox.structure.load import operations
from tests.parts import session
from tests.virtual_time import LoopClock, virtual

OPERATION = "POST /api/profile-import"
STEADY = 750  # create_or_update_profile, calls a minute


def body(number: int) -> bytes:
    attributes = {"external_id": f"C-{number}"}
    return orjson.dumps({"data": {"type": "profile", "attributes": attributes}})


@asynccontextmanager
async def process(
    sandbox: Sandbox,
    share: float = 1.0,
    *,
    spare: bool = False,
    parts: Mapping[str, float] = {},
) -> AsyncIterator[tuple[Client, Metrics, Health]]:
    metrics, clock, chance = Metrics(), LoopClock(), random.Random(1).random
    limits, health = (
        Limits(clock, chance, share=share, spare=spare, parts=parts),
        Health(metrics, clock),
    )
    async with session(sandbox.url, limits, metrics, health, chance=chance) as opened:
        yield Client(opened, limits), metrics, health


async def flood(
    sandbox: Sandbox, seconds: float, share: float = 1.0, *, spare: bool = False
) -> Metrics:
    """A process that has more to send than it may, for so long; then it is killed."""
    numbers = iter(range(10_000))

    async def worker(client: Client) -> None:
        for number in numbers:
            answer = await client.import_profile(body(number))
            assert isinstance(answer, Accepted)

    async with process(sandbox, share, spare=spare) as (client, metrics, _):
        workers = [asyncio.create_task(worker(client)) for _ in range(20)]
        await asyncio.wait(workers, timeout=seconds)
        for task in workers:
            task.cancel()
        ends = await asyncio.gather(*workers, return_exceptions=True)
    assert {type(end) for end in ends} == {asyncio.CancelledError}
    return metrics


def answers(
    metrics: Metrics, status: str, operation: str = "create_or_update_profile"
) -> float:
    """How many of them it got."""
    return (
        metrics.registry.get_sample_value(
            "klaviyo_pipeline_api_responses_total",
            {"operation": operation, "status": status},
        )
        or 0
    )


def throttled(metrics: Metrics) -> float:
    """How many 429s it got."""
    return answers(metrics, "429")


def used(sandbox: Sandbox) -> list[int]:
    """Calls counted in each minute of the sandbox's clock."""
    spent = sandbox.account.windows.usage()[OPERATION]
    return [window.used for window in spent]


@pytest.mark.parametrize("header", ["list", "number"])
@pytest.mark.parametrize("latency", [0.0, 0.15])
@virtual
async def test_two_whole_windows_are_full_and_nothing_is_refused(
    latency: float, header: Literal["list", "number"]
) -> None:
    settings = Settings(latency=latency, limit_header=header)
    async with Sandbox(settings=settings, clock=LoopClock(), sleep=asyncio.sleep) as box:
        metrics = await flood(box, 119.99)
        assert throttled(metrics) == 0
        assert sum(used(box)) >= 0.98 * 2 * STEADY


@virtual
async def test_a_restarted_process_keeps_to_what_the_killed_one_left() -> None:
    async with Sandbox(clock=LoopClock(), sleep=asyncio.sleep) as box:
        await flood(box, 40)
        assert throttled(await flood(box, 100)) == 0
        assert used(box)[0] == STEADY


@virtual
async def test_three_replicas_share_the_quota_without_a_429() -> None:
    settings = Settings(latency=(0.05, 0.4))
    async with Sandbox(settings=settings, clock=LoopClock(), sleep=asyncio.sleep) as box:
        ends = await asyncio.gather(*(flood(box, 119.99, 1 / 3) for _ in range(3)))
        assert [throttled(metrics) for metrics in ends] == [0, 0, 0]
        assert sum(used(box)) >= 0.98 * 2 * STEADY


async def read(sandbox: Sandbox, parts: Mapping[str, float], own: Portion) -> Metrics:
    """A process that reads profiles as often as it may, for two windows."""

    async def worker(client: Client) -> None:
        while True:
            await client.profile("external_id", "C-1")

    async with process(sandbox, parts=parts) as (client, metrics, _):
        client.set_share(own)
        workers = [asyncio.create_task(worker(client)) for _ in range(20)]
        await asyncio.wait(workers, timeout=119.9)
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return metrics


@virtual
async def test_both_directions_read_profiles_without_a_429() -> None:
    """One polls, two look up consent, each as much as it may."""
    settings = Settings(latency=(0.05, 0.2))
    async with Sandbox(settings=settings, clock=LoopClock(), sleep=asyncio.sleep) as box:
        found = await asyncio.gather(
            read(box, POLLER, Portion(1.0)),
            read(box, BESIDE, Portion(1.0, (0,), 3)),
            read(box, BESIDE, Portion(1.0, (1, 2), 3)),
        )
        assert [answers(each, "429", "get_profiles") for each in found] == [0, 0, 0]
        polled, *beside = (answers(each, "200", "get_profiles") for each in found)
        assert 0.95 <= polled / 500 <= 1.0
        assert 0.95 <= sum(beside) / 1000 <= 1.0


@pytest.mark.parametrize("spent", [0, 15])
@virtual
async def test_replicas_that_start_at_once_wait_their_turn_to_ask_for_the_account(
    spent: int,
) -> None:
    """GET /api/accounts allows 1 call a second and 15 a minute, whoever asks."""
    async with Sandbox(clock=LoopClock()) as box, AsyncExitStack() as stack:
        accounts = operations("2026-07-15")["GET /api/accounts"]
        box.account.windows.take(accounts, spent, box.settings)
        replicas = [await stack.enter_async_context(process(box)) for _ in range(3)]
        starts = [asyncio.create_task(client.accounts()) for client, _, _ in replicas]
        while not all(start.done() for start in starts):
            assert not any(health.halted for _, _, health in replicas)
            assert not any(health.stuck() for _, _, health in replicas)
            await asyncio.sleep(0.1)
        assert all(isinstance(start.result(), Account) for start in starts)
        assert box.ledger.statuses["GET /api/accounts"] == {
            200: 3,
            429: 2 + 1 + (3 if spent else 0),  # in each second one of them gets through
        }


@pytest.mark.parametrize("latency", [0.0, (0.05, 0.4)])
@virtual
async def test_a_replay_leaves_a_busy_service_its_quota(
    latency: float | tuple[float, float],
) -> None:
    async with Sandbox(
        settings=Settings(latency=latency), clock=LoopClock(), sleep=asyncio.sleep
    ) as box:
        live, again = await asyncio.gather(
            flood(box, 119.9), flood(box, 119.9, spare=True)
        )
        assert (throttled(live), throttled(again)) == (0, 0)
        assert answers(live, "201") + answers(live, "200") >= 0.94 * 2 * STEADY


@virtual
async def test_a_replay_takes_what_an_idle_service_leaves() -> None:
    settings = Settings(latency=0.15)
    async with Sandbox(settings=settings, clock=LoopClock(), sleep=asyncio.sleep) as box:
        assert throttled(await flood(box, 179.9, spare=True)) == 0
        assert sum(used(box)) >= 0.85 * 3 * STEADY


@virtual
async def test_a_service_that_gets_busy_beside_a_replay_is_not_refused() -> None:
    async with Sandbox(clock=LoopClock(), sleep=asyncio.sleep) as box:

        async def later() -> Metrics:
            await asyncio.sleep(30)
            return await flood(box, 120)

        live, again = await asyncio.gather(later(), flood(box, 150, spare=True))
        assert (throttled(live), throttled(again)) == (0, 0)
        assert answers(live, "201") >= 0.75 * 2 * STEADY
