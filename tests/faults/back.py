"""Faults of the way back: two pollers, deaths in transactions, pages that move."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.sandbox import Sandbox
from tests.faults.scenario import fault
from tests.faults.world import World
from tests.reverse import test_echo, test_exactly_once
from tests.reverse.rig import Reverse


@asynccontextmanager
async def reverse(world: World) -> AsyncIterator[Reverse]:
    kafka = await world.kafka()
    async with Sandbox(limits=False) as sandbox:
        yield Reverse(kafka.bootstrap, sandbox)


@fault(38, "two pollers at once; a zombie wakes in its transaction", "I8")
async def two_pollers(world: World) -> str:
    said: list[str] = []
    async with reverse(world) as back:
        await test_exactly_once.test_two_at_once(back, said.append)
    async with reverse(world) as back:
        await test_exactly_once.test_a_zombie_that_wakes_in_its_transaction(
            back, said.append
        )
    return "; ".join(said)


@fault(39, "the poller dies in each phase of a transaction, twice", "I8")
async def poller_killed(world: World) -> str:
    said: list[str] = []
    async with reverse(world) as back:
        await test_exactly_once.test_a_death_in_every_phase(back, said.append)
    return said[0]


@fault(40, "250 changes in one second over pages; one seen 45 s late; one moves", "I8")
async def same_second(world: World) -> str:
    async with reverse(world) as back:
        state = back.sandbox.state
        past = float(int(state.clock.now())) - 100
        people = [
            state.profiles.create({"email": f"p{number}@shop.dev"}, past)
            for number in range(250)
        ]
        async with back.service(reverse__overlap="60") as service:
            await back.wait(1)
            back.edit(people[200], title="moved to the end of the listing")
            await back.wait(250)
            late = state.profiles.create(
                {"email": "late@shop.dev"}, state.clock.now() - 45
            )
            await back.wait(252)
            assert await service.terminate() == 0
        by = back.once(await back.read())
        assert len(by) == 251
        assert [each.kind for each in by[late.id]] == ["created"]
        moved = by[people[200].id][-1].value["profile"]["title"]
        assert moved == "moved to the end of the listing"
        return f"{len(by)} profiles published, none twice, the late and the moved one too"


@fault(41, "our own writes are seen by the poller, with an edit 1 s later", "I8")
async def echo(world: World) -> str:
    async with reverse(world) as back:
        await test_echo.test_our_writes_stay_and_a_marketers_edit_comes_back(back)
    return f"{test_echo.CUSTOMERS} own writes stay, each edit comes back once"
