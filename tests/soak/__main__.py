"""Both directions, two replicas, random faults, and the ledger at the end.

    python -m tests.soak [--minutes 20] [--seed N] [--a-second 20]

Exit code 1 when something was lost, stored twice or said twice, or when memory, open
files or tasks have grown.
"""

import argparse
import asyncio
import random
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.brokers.apache import Apache
from tests.faults.proxy import Proxy
from tests.faults.world import Planted, Shift, World
from tests.reverse.rig import Reverse
from tests.soak.harm import Harm
from tests.soak.marketer import Marketer

CUSTOMERS = 300
SAMPLE = 5.0  # s
GROWTH = 1.25  # of memory, from the first third to the last, at most
SPARE = 15  # files and tasks by which a busy moment may differ from a quiet one
ECHOES = 5  # a kill -9 may leave: what Klaviyo took in the last milliseconds before it
TIMES = 12  # that are shown
SETTLED = 180.0  # s for all to arrive after the last fault


@dataclass
class Held:
    """What one process holds, sampled."""

    memory: list[int] = field(default_factory=list)  # MiB
    files: list[int] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    young: list[int] = field(default_factory=list)  # thousands of objects

    def sample(self, service: Planted) -> None:
        folder = Path(f"/proc/{service.pid}")
        try:
            status = (folder / "status").read_text()
            self.files.append(len([*(folder / "fd").iterdir()]))
        except OSError:
            return
        line = next(each for each in status.splitlines() if each.startswith("VmRSS"))
        self.memory.append(int(line.split()[1]) // 1024)
        tasks, young = service.counted()
        self.tasks.append(tasks)
        self.young.append(young // 1000)

    def grown(self) -> list[str]:
        """What is higher in the last third of the time than in the one before."""
        wrong = []
        for name, values, times, spare in (
            ("memory", self.memory, GROWTH, 10),
            ("files", self.files, 1.0, SPARE),
            ("tasks", self.tasks, 1.0, SPARE),
        ):
            third = len(values) // 3
            earlier, later = values[third : 2 * third], values[2 * third :]
            if earlier and _middle(later) > _middle(earlier) * times + spare:
                wrong.append(f"{name} grew from {_middle(earlier)} to {_middle(later)}")
        return wrong

    def __str__(self) -> str:
        return "; ".join(
            f"{name} {', '.join(map(str, values[:: max(1, len(values) // TIMES)]))}"
            for name, values in (
                ("MiB", self.memory),
                ("files", self.files),
                ("tasks", self.tasks),
                ("thousands of young objects", self.young),
            )
        )


def _middle(values: list[int]) -> int:
    return sorted(values)[len(values) // 2]


def settings(back: Reverse, kafka: Apache, way: Proxy) -> dict[str, str]:
    """Both directions, at a pace at which much can go wrong."""
    return {
        "kafka__bootstrap_servers": kafka.bootstrap,
        "klaviyo__api_url": f"http://{way.address}",
        "topics__profiles": back.profiles,
        "topics__state": back.state,
        "reverse__enabled": "true",
        "reverse__interval": "1",
        "reverse__overlap": "60",
        "reverse__start": "all",
    }


async def soak(seconds: float, seed: int, a_second: float) -> list[str]:
    """What went wrong; prints the figures."""
    world = World()
    try:
        async with AsyncExitStack() as stack:
            kafka = await stack.enter_async_context(world.hurt())
            shift = await stack.enter_async_context(world.shift(kafka, seed=seed))
            shift.set(keep_bodies=False)
            return await _soak(stack, kafka, shift, seconds, seed, a_second)
    finally:
        world.close()


async def _soak(
    stack: AsyncExitStack,
    kafka: Apache,
    shift: Shift,
    seconds: float,
    seed: int,
    a_second: float,
) -> list[str]:
    way = await stack.enter_async_context(Proxy(shift.klaviyo))
    back = Reverse(kafka.bootstrap, shift.sandbox, shift.number)
    marketer = Marketer(back, seed)
    own = settings(back, kafka, way)
    steady, victim = shift.planted(**own), shift.planted(**own)
    for service in (steady, victim):
        await stack.enter_async_context(service)
    harm, held = Harm(seed, shift, kafka, way, steady, victim), Held()
    started = time.monotonic()

    def say(text: str) -> None:
        at = time.monotonic() - started
        lag = f"{shift.sent} made, {shift.accepted} calls accepted"
        print(f"{at:6.0f} s  {text:24} {lag}", flush=True)

    async with shift.selling(CUSTOMERS, 10**9, a_second) as enough:
        tasks = [
            asyncio.create_task(harm.run(say, enough)),
            asyncio.create_task(marketer.work(enough)),
        ]
        while time.monotonic() - started < seconds and steady.running:
            done, _ = await asyncio.wait(
                tasks, timeout=SAMPLE, return_when=asyncio.FIRST_EXCEPTION
            )
            for task in done:
                task.result()  # it ends early only when something broke
            held.sample(steady)
        enough.set()
        await asyncio.gather(*tasks)
    say("the last fault has ended")
    wrong = await _settled(shift, back, marketer, steady, victim)
    held.sample(steady)
    for service in (steady, victim):
        if service.running and (code := await service.terminate()) != 0:
            wrong.append(f"exit {code}: {service.output[-1500:]}")
    say("stopped")
    try:
        print(await shift.balance(throttled=True, overlaps=True))
    except AssertionError as error:
        wrong.append(str(error))
    found = await back.read()
    wrong += marketer.chain(found)
    echoes = marketer.echoes(found)
    print(f"{marketer.edits} edits in Klaviyo, {len(found)} messages, {echoes} echoes")
    if echoes > ECHOES * harm.done["kill -9"]:
        wrong.append(f"{echoes} echoes of our own writes")
    print(", ".join(f"{name} {count}" for name, count in sorted(harm.done.items())))
    print(f"the replica that never ended: {held}")
    return wrong + held.grown()


async def _settled(
    shift: Shift, back: Reverse, marketer: Marketer, *services: Planted
) -> list[str]:
    """All has arrived on both sides; what has not."""
    wrong: list[str] = []
    try:
        await shift.drained(SETTLED)
    except TimeoutError:
        wrong.append(f"{await shift.lag()} records open {SETTLED:.0f} s after the faults")
    try:
        async with asyncio.timeout(SETTLED):
            while marketer.missing(await back.read()):
                await asyncio.sleep(1)
    except TimeoutError:
        wrong.append(f"{marketer.missing(await back.read())} last edits were not said")
    return wrong + [
        f"a service ended by itself: {service.output[-3000:]}"
        for service in services
        if not service.running
    ]


def main() -> bool:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--a-second", type=float, default=20, metavar="RECORDS")
    given = parser.parse_args()
    again = (
        f"--minutes {given.minutes:g} --seed {given.seed} --a-second {given.a_second:g}"
    )
    print(f"python -m tests.soak {again}", flush=True)
    wrong = asyncio.run(soak(given.minutes * 60, given.seed, given.a_second))
    for each in wrong[:20]:
        print(f"WRONG: {each}", file=sys.stderr)
    print("the ledger is clean" if not wrong else f"{len(wrong)} things are wrong")
    return not wrong


if __name__ == "__main__":
    raise SystemExit(not main())
