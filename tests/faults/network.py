"""Faults on the way to Klaviyo."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.faults.proxy import Proxy
from tests.faults.scenario import fault
from tests.faults.world import Shift, World, calm, hold, running
from tests.flow.rig import until
from tests.flow.service import Service

BUFFER = 4_000_000  # bytes
ONE_POLL = 2_000_000  # bytes of the shop's 1,000 records, which may go over the budget


def url(way: Proxy) -> str:
    return f"http://{way.address}"


@asynccontextmanager
async def by_proxy(
    world: World, seed: int, **more: str
) -> AsyncIterator[tuple[Shift, Proxy, Service]]:
    """A shift whose service runs and has a proxy between it and Klaviyo."""
    async with (
        world.shift(seed=seed) as shift,
        Proxy(shift.klaviyo) as way,
        shift.service(klaviyo__api_url=url(way), **more) as service,
    ):
        await running(service)
        yield shift, way, service


@fault(7, "Kafka can be reached and Klaviyo cannot: swallowed 45 s, cut 5 s", "I1 I7 I9")
async def klaviyo_cut_off(world: World) -> str:
    buffer = {"deliver__buffer_bytes": str(BUFFER)}
    async with by_proxy(world, 107, **buffer) as (shift, way, service):
        async with shift.selling(2000, 4000, a_second=700):
            await until(lambda: shift.accepted > 5, what="load")
            before = await service.metric("rebalances_total")
            way.swallow()
            held = 0.0
            for _ in range(9):
                await hold(5, service)
                held = max(held, await service.metric("buffer_bytes"))
            await calm(service, shift)
            assert '"klaviyo"' in (await service.get("/readyz"))[1], "it does not say so"
            await way.cut()
            await hold(5, service)
            assert await service.metric("rebalances_total") == before, "heartbeats failed"
            way.flow()
            await way.mend()
        await shift.done(service)
        assert held <= BUFFER + ONE_POLL, f"{held:.0f} bytes held"
        return f"{await shift.balance(overlaps=True)}; {held:.0f} bytes held at most"


@fault(14, "reset before, in and right after the answer", "I1 I4 I9", quick=True)
async def resets(world: World) -> str:
    async with by_proxy(world, 114) as (shift, way, service):
        async with shift.selling(60, 100, a_second=60):
            await until(lambda: shift.accepted > 5, what="load")
            for length in (0, 40, 300, 10**6, 40, 0):
                way.break_after = length
                await until(lambda: way.break_after is None, what="an answer broken off")
        await shift.done(service)
        return f"{await shift.balance()}; {way.broken} answers broken off"


@fault(15, "answers come at 4 bytes a second", "I1 I4 I9")
async def slow_loris(world: World) -> str:
    async with by_proxy(world, 115) as (shift, way, service):
        async with shift.selling(200, 400, a_second=40):
            await until(lambda: shift.accepted > 20, what="load")
            way.slow = 3
            await until(lambda: way.slow == 0, what="slow answers")
            before = shift.accepted
            await hold(5, service)
            others = shift.accepted - before
        await shift.done(service)
        assert others > 0, "three slow answers held up all others"
        return f"{await shift.balance()}; {others} other calls went on"


@fault(16, "kept-alive connections are dropped when idle", "I4 I9")
async def stale_connections(world: World) -> str:
    async with by_proxy(world, 116) as (shift, way, service):
        way.stale_after = 1.0
        day = shift.shop.day(6, 6)
        for made in day:
            await shift.send([made])
            # Longer than `stale_after`, until enough were dropped.
            await asyncio.sleep(0.1 if way.broken > 6 else 1.5)
        await shift.done(service)
        assert way.broken > 0
        return f"{await shift.balance()}; {way.broken} stale connections"


@fault(17, "names are not found, or not answered; then Klaviyo has moved", "I1 I9")
async def names_fail(world: World) -> str:
    async with world.shift(seed=117) as shift, Proxy(shift.klaviyo) as way:
        port = urlsplit(url(way)).port
        service = shift.planted(klaviyo__api_url=f"http://klaviyo.test:{port}")
        service.plant(dns="127.0.0.1")
        async with service, Proxy(shift.klaviyo, f"127.0.0.2:{port}") as moved:
            async with shift.selling(200, 500, a_second=40):
                await until(lambda: shift.accepted > 20, what="load")
                await way.cut()
                for answer in ("refused", "silent"):
                    service.plant(dns=answer)
                    await hold(8, service)
                    await calm(service, shift)
                service.plant(dns="127.0.0.2")
                await until(lambda: moved.connections > 0, what="the new address")
            await shift.done(service)
        return f"{await shift.balance()}; {moved.connections} connections to the new one"
