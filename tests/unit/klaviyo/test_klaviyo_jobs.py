"""Import jobs followed to their end, whatever Klaviyo makes of them."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from pipeline.klaviyo.call import Refused
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.jobs import PATIENCE, SHOWS, Ended, Jobs
from pipeline.klaviyo.limits import Limits
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.sandbox import Sandbox
from pipeline.sandbox.settings import Settings
from tests.parts import session
from tests.virtual_time import LoopClock, virtual

LOST = Ended(lost=True)


class World:
    def __init__(self, sandbox: Sandbox, client: Client) -> None:
        self.sandbox = sandbox
        self.client = client
        self.jobs = Jobs(client, LoopClock())

    async def start(self, *people: str) -> str:
        """Start a job with a row for each; its id."""
        rows = [
            {"type": "profile", "attributes": {"external_id": each}} for each in people
        ]
        attributes = {"profiles": {"data": rows}}
        data = {"type": "profile-bulk-import-job", "attributes": attributes}
        started = await self.client.import_profiles(orjson.dumps({"data": data}))
        assert not isinstance(started, Refused)
        return started[0]


@asynccontextmanager
async def world(**settings: Any) -> AsyncIterator[World]:
    made = Settings(limits=False, **settings)
    metrics, clock, chance = Metrics(), LoopClock(), random.Random(1).random
    async with Sandbox(settings=made, clock=clock, sleep=asyncio.sleep) as sandbox:
        limits = Limits(clock, chance)
        health = Health(metrics, clock)
        async with session(sandbox.url, limits, metrics, health) as opened:
            yield World(sandbox, Client(opened, limits))


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_a_job_is_waited_for_until_it_is_complete() -> None:
    async with world(import_queued=20.0, import_processing=100.0) as it:
        assert await it.jobs.end(await it.start("C-1")) == Ended()
        assert 120 <= now() <= 130


@virtual
async def test_failed_rows_are_told_apart_over_all_pages_of_errors() -> None:
    people = [f"C-{n}" for n in range(600)]
    async with world(import_processing=1.0, failing_rows=people[::2]) as it:
        ended = await it.jobs.end(await it.start(*people))
        assert ended == Ended(frozenset(range(0, 600, 2)))


@virtual
async def test_all_rows_may_fail() -> None:
    async with world(failing_rows=["C-1", "C-2"]) as it:
        assert await it.jobs.end(await it.start("C-1", "C-2")) == Ended(frozenset({0, 1}))


@virtual
async def test_a_job_that_never_ends_is_lost_in_the_end() -> None:
    async with world(import_processing=1e6) as it:
        assert await it.jobs.end(await it.start("C-1")) == LOST
        assert PATIENCE <= now() <= PATIENCE + 10


@virtual
async def test_a_cancelled_job_is_lost() -> None:
    async with world(import_processing=1e6) as it:
        job = await it.start("C-1")
        ending = asyncio.create_task(it.jobs.end(job))
        await asyncio.sleep(10)
        it.sandbox.state.imports[job].status = "cancelled"
        assert await ending == LOST


@virtual
async def test_failed_rows_that_nobody_names_lose_the_job() -> None:
    async with world(import_processing=5.0, failing_rows=["C-1"]) as it:
        job = await it.start("C-1", "C-2")
        ending = asyncio.create_task(it.jobs.end(job))
        it.sandbox.state.imports[job].failed = 1  # one more than import-errors tell
        assert await ending == LOST


@virtual
async def test_a_job_that_is_not_shown_at_once_is_not_lost() -> None:
    """Its rows would go by single calls while it still works on them."""
    async with world(import_processing=1.0) as it:
        job = await it.start("C-1")
        hidden = it.sandbox.state.imports.pop(job)
        ending = asyncio.create_task(it.jobs.end(job))
        await asyncio.sleep(10)
        assert not ending.done()
        it.sandbox.state.imports[job] = hidden
        assert await ending == Ended()


@virtual
async def test_a_job_that_stays_away_is_lost() -> None:
    async with world() as it:
        assert await it.jobs.end("01GONE") == LOST
        assert SHOWS <= now() <= SHOWS + 10


@virtual
async def test_quiet_finds_jobs_behind_the_hundred_youngest() -> None:
    async with world(import_queued=500.0, import_processing=50.0) as it:
        oldest = await it.start("C-0")
        it.sandbox.settings = it.sandbox.settings.changed({"import_queued": 0.0})
        for number in range(150):
            await it.start(f"C-{number}")
        await it.jobs.quiet()
        assert it.sandbox.state.imports[oldest].status == "complete"
        assert {job.status for job in it.sandbox.state.imports.values()} == {"complete"}


@virtual
async def test_one_who_gives_up_does_not_take_the_others_along() -> None:
    async with world(import_processing=30.0) as it:
        job = await it.start("C-1")
        one, other = (asyncio.create_task(it.jobs.end(job)) for _ in range(2))
        await asyncio.sleep(1)
        one.cancel()
        async with asyncio.timeout(120):
            assert await other == Ended()


@virtual
async def test_a_job_that_starts_just_as_the_looker_ends_is_looked_at() -> None:
    """It has nothing to do any more, but its end has not been noticed yet."""
    async with world(import_processing=1.0) as it:
        await it.jobs.end(await it.start("C-1"))
        await asyncio.sleep(5)
        it.jobs._looking = over = asyncio.create_task(asyncio.sleep(0))
        await over
        assert await it.jobs.end(await it.start("C-2")) == Ended()


@pytest.mark.parametrize("waiters", [1, 3])
@virtual
async def test_nobody_looks_when_nobody_waits(waiters: int) -> None:
    async with world(import_processing=1.0) as it:
        job = await it.start("C-1")
        await asyncio.gather(*(it.jobs.end(job) for _ in range(waiters)))
        await asyncio.sleep(5)
        before = len(it.sandbox.ledger.entries)
        await asyncio.sleep(100)
        assert len(it.sandbox.ledger.entries) == before
