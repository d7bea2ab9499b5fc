"""Faults of Kafka: killed, hung, cut off."""

import asyncio
import time

from tests.faults.scenario import fault
from tests.faults.world import World, hold, running
from tests.flow.rig import until

RESUMED = 20.0  # s after the fault within which work must go on


@fault(1, "the broker is killed for 30 s under load", "I1 I4 I9")
async def broker_killed(world: World) -> str:
    async with (
        world.hurt() as kafka,
        world.shift(kafka, seed=101) as shift,
        shift.service() as service,
    ):
        async with shift.selling(300, 600, a_second=50):
            await until(lambda: shift.accepted > 50, what="load")
            await asyncio.to_thread(kafka.kill)
            try:
                await hold(30, service)
            finally:
                await asyncio.to_thread(kafka.start)
        await shift.done(service)
        assert "Traceback" not in service.output, service.output[-3000:]
        return await shift.balance()


@fault(2, "the broker hangs for 15 s, then for 60 s", "I1 I9")
async def broker_frozen(world: World) -> str:
    async with (
        world.hurt() as kafka,
        world.shift(kafka, seed=102) as shift,
        shift.service() as service,
    ):
        resumed = []
        async with shift.selling(300, 1500, a_second=45):
            await until(lambda: shift.accepted > 50, what="load")
            for seconds in (15, 60):
                kafka.freeze()
                try:
                    await hold(seconds, service)
                finally:
                    await asyncio.to_thread(kafka.thaw)
                thawed, before = time.monotonic(), shift.accepted
                await until(
                    lambda: shift.accepted > before + 20,  # noqa: B023
                    within=RESUMED,
                    what="deliveries after the thaw",
                )
                resumed.append(f"{time.monotonic() - thawed:.0f} s")
        await shift.done(service)
        ledger = await shift.balance()
        return f"{ledger}; deliveries {' and '.join(resumed)} after the thaw"


@fault(8, "Klaviyo can be reached and Kafka cannot: cut, then swallowed", "I1 I4 I7 I9")
async def kafka_cut_off(world: World) -> str:
    async with (
        world.hurt() as kafka,
        world.proxied(kafka) as way,
        world.shift(kafka, seed=108, latency=0.05) as shift,
        shift.service(
            kafka__bootstrap_servers=kafka.proxied,
            reverse__enabled="true",
            topics__profiles=f"profiles-{shift.number}",
            topics__state=f"state-{shift.number}",
        ) as service,
    ):
        await running(service)
        async with shift.selling(300, 600, a_second=60):
            await until(lambda: shift.accepted > 50, what="load")
            await way.cut()
            await hold(5, service)  # what was in flight ends
            before = shift.accepted
            await hold(10, service)
            sent = shift.accepted - before
            await way.mend()
            await until(lambda: shift.accepted > before + sent + 20, what="work again")
            way.swallow()
            await hold(15, service)
            status, text = await service.get("/readyz")
            assert status == 200, text
            way.flow()
        await shift.done(service)
        assert sent == 0, f"{sent} calls went out long after Kafka was cut off"
        return await shift.balance()
