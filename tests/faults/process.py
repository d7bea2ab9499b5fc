"""Faults of the process itself and of the machine under it."""

import asyncio
import itertools
import os
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from tests.faults.planted import MOMENTS
from tests.faults.records import customer
from tests.faults.scenario import NotRun, fault
from tests.faults.world import World, eventually, hold, running
from tests.flow.rig import until
from tests.flow.service import Service

STOPS = 25.0  # s; under Kubernetes' grace period
SMALL = 256  # MiB of a small container
FULL = Path("/dev/full")


async def stopped(service: Service) -> None:
    """SIGTERM ends it in time, in order."""
    async with asyncio.timeout(STOPS):
        code = await service.terminate()
    assert code == 0, (code, service.output[-1500:])


@fault(
    27, "the wall clock jumps an hour on and back; the process sleeps 20 s", "I1 I3 I9"
)
async def clocks_jump(world: World) -> str:
    async with world.shift(seed=127, limits=True) as shift:
        async with shift.planted() as service:
            await running(service)
            async with shift.selling(300, 900, a_second=50):
                for jump in (3600, -3600, 0):
                    service.plant(clock=jump)
                    before = shift.accepted
                    await hold(6, service)
                    assert shift.accepted > before, f"it stands still after {jump} s"
                service.signal(signal.SIGSTOP)
                await asyncio.sleep(20)  # longer than the session: others take over
                service.signal(signal.SIGCONT)
            await shift.done(service)
        return f"{await shift.balance()}; no 429 after it woke up"


async def _again(service: Service) -> None:
    """It has started once more: before, SIGTERM meets Python and not the program."""
    service.output = ""
    await running(service)


@fault(28, "SIGTERM: under load, idle, in back-off, in a rebalance, twice", "I1 I6")
async def terminated(world: World) -> str:
    async with world.shift(seed=128, latency=0.3) as shift:
        await shift.sell(300, 900)
        service = shift.service()
        await service.start()
        await until(lambda: shift.accepted > 5, what="load")
        await stopped(service)
        await service.start()  # in back-off
        await _again(service)
        shift.fault({"action": {"kind": "status", "status": 503}})
        await until(lambda: shift.sandbox.faults.rules[0].fired > 4, what="an outage")
        await stopped(service)
        shift.fault()

        async with shift.service() as other:  # in a rebalance
            await running(other)
            await service.start()
            await _again(service)
            await stopped(service)
            seen = shift.accepted
            await until(lambda: shift.accepted > seen + 3, what="load")
            other.signal(signal.SIGTERM)  # twice: at once
            await asyncio.sleep(0.05)  # two signals at one moment are one
            other.signal(signal.SIGTERM)
            async with asyncio.timeout(STOPS):
                code = await other.wait()
            assert code in {0, 1}, code
        shift.set(latency=0.0)
        async with service:
            await _again(service)
            await shift.drained()
            await asyncio.sleep(2)  # idle, its commits done
            await stopped(service)
        return await shift.balance()


@fault(29, "SIGTERM while Kafka is dead and Klaviyo hangs", "I1 I6")
async def terminated_without_kafka(world: World) -> str:
    async with world.hurt() as kafka, world.shift(kafka, seed=129) as shift:
        await shift.sell(200, 400)
        hang = {"kind": "hang_after", "seconds": 600}
        service = shift.service()
        for harm, heal in ((kafka.kill, kafka.start), (kafka.freeze, kafka.thaw)):
            shift.fault({"match": {"method": "POST", "after": 3}, "action": hang})
            await service.start()
            await until(lambda: shift.sandbox.ledger.in_flight >= 2, what="hanging calls")
            await asyncio.to_thread(harm)
            try:
                await asyncio.sleep(3)  # calls hang, fetches fail, nothing has given up
                await stopped(service)
            finally:
                await asyncio.to_thread(heal)
        shift.fault()
        async with service:
            await shift.done(service)
        return await shift.balance()


@fault(30, "SIGKILL around each send, dead letter and commit", "I1 I4 I5")
async def killed_at_each_step(world: World) -> str:
    async with world.shift(seed=130, bad=True, latency=0.02) as shift:
        deaths, day = 0, shift.shop.day(120, 250)
        for turn, moment in enumerate(MOMENTS):
            first = 1 + turn % 2
            async with shift.planted().dying(moment, first) as service:
                await shift.send(itertools.islice(day, 100))
                async with asyncio.timeout(60):
                    code = await service.wait()
                assert code == -signal.SIGKILL, (moment, code, service.output[-1500:])
                deaths += 1
        await shift.send(day)
        async with shift.service() as service:
            await shift.done(service)
        # A dead letter whose acknowledgement died with the process is written again.
        return f"{deaths} deaths; {await shift.balance(letters_again=True)}"


@fault(31, "256 MiB: 900 KB records, 64 connections, Klaviyo takes 1 s", "I7")
async def little_memory(world: World) -> str:
    async with world.shift(seed=131, latency=1.0) as shift:
        filler = {f"n{n}": "x" * 90 for n in range(20)}
        ignored = "y" * 880_000  # a field of theirs that we do not know
        await shift.send(
            customer(f"C-{n}", custom_fields=filler, attachment=ignored)
            for n in range(250)
        )
        own = {
            "throttle__concurrent_connections": "64",
            "deliver__buffer_bytes": "32000000",
        }
        async with shift.service(**own) as service:
            await shift.drained(within=180)
            peak = memory(service, "VmHWM")
            await stopped(service)
        assert len(shift.sandbox.state.profiles.by_id) == 250
        assert peak <= SMALL, f"{peak} MiB at most"
        return f"250 records of 900 KB delivered, {peak} MiB RSS at most"


def memory(service: Service, name: str) -> int:
    """A figure of the kernel about a running service, MiB."""
    text = Path(f"/proc/{service.pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith(name))
    return int(line.split()[1]) // 1024


class Unheard(Service):
    """Its output goes to a full disk, and it has no folder to write to."""

    folder = ""

    @classmethod
    def like(cls, service: Service, folder: str) -> Self:
        made = cls.__new__(cls)
        made.__dict__.update(service.__dict__)
        made.folder = folder
        return made

    async def start(self) -> None:
        nowhere = {"HOME": "/nowhere", "TMPDIR": "/nowhere"}
        root = str(Path(__file__).parents[2])
        with FULL.open("wb") as full:  # noqa: ASYNC230  it is no disk
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", self.module, *self.command),
                env={**os.environ, **self._environ, **nowhere, "PYTHONPATH": root},
                cwd=self.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=full,
                stderr=full,
            )

    async def wait(self) -> int:
        assert self._process is not None
        return await self._process.wait()


@fault(32, "no disk: logs go to a full one, the folder cannot be written", "I1 I9")
async def disk_full(world: World) -> str:
    if not FULL.exists():  # noqa: ASYNC240  a look at the system
        raise NotRun("this system has no /dev/full")
    async with world.shift(seed=132) as shift:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o500)  # noqa: ASYNC240
            service = Unheard.like(shift.service(log__level="debug"), folder)
            async with service:
                async with shift.selling(100, 200, a_second=60):
                    await asyncio.sleep(3)  # of load, each line of it logged
                await shift.drained()
                assert service.running
                code = await service.terminate()
        return f"{await shift.balance()}; exit {code} in the end"


@fault(33, "the event loop is blocked for 5 s, then for 40 s", "I1 I4 I9")
async def loop_blocked(world: World) -> str:
    async with world.shift(seed=133, latency=0.02) as shift, AsyncExitStack() as stack:
        service = await stack.enter_async_context(shift.planted())
        other = await stack.enter_async_context(shift.service())
        await running(service)
        async with shift.selling(300, 1200, a_second=45):
            await until(lambda: shift.accepted > 20, what="load")
            service.plant(block=[1, 5])
            await hold(8, service, other)
            before = await service.metric("rebalances_total")
            service.plant(block=[2, 40])
            await asyncio.sleep(1)  # `planted` looks each 0.05 s; then it is blocked
            silent = False
            try:
                async with asyncio.timeout(3):
                    await service.get("/livez")
            except TimeoutError:
                silent = True
            await hold(42, other)
            assert silent, "/livez answers though the loop is blocked"

            async def joined() -> bool:
                return await service.metric("rebalances_total") > before

            await eventually(joined, "it is a member again")
        await shift.done(service, other)
        return await shift.balance(overlaps=True)
