"""Bring the faults about, one after the other or some at a time, and show the table.

    python -m tests.faults [number or name ...] [--at-a-time N]

Exit code 1 when an invariant broke.
"""

import argparse
import asyncio
import time
import traceback
from collections.abc import Sequence

from tests.brokers.apache import Unavailable
from tests.faults import (
    answers,
    back,
    broker,
    coordinator,
    credentials,
    group,
    network,
    process,
    records,
)
from tests.faults.report import End, Report, Result
from tests.faults.scenario import SCENARIOS, NotRun, Scenario
from tests.faults.world import World

LIMIT = 300.0  # s for one scenario
_FILES = (
    answers,
    back,
    broker,
    coordinator,
    credentials,
    group,
    network,
    process,
    records,
)  # each enters its scenarios


async def play(scenario: Scenario, world: World) -> Result:
    """Never raises: what goes wrong is a result."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(LIMIT):
            seen = await scenario.play(world)
        end: End = "holds"
    except (NotRun, Unavailable) as reason:
        seen, end = f"not run: {reason}", "not run"
    except Exception as error:  # noqa: BLE001  of whatever kind, it broke
        seen, end = f"{error!r}\n{traceback.format_exc()}", "BROKEN"
    return Result(scenario, end, seen, time.monotonic() - started)


async def main(chosen: Sequence[Scenario], at_a_time: int) -> bool:
    report, world = Report(len(chosen)), World()
    turns = asyncio.Semaphore(at_a_time)

    async def one(scenario: Scenario) -> None:
        async with turns:
            report.begun(scenario)
            report.ended(await play(scenario, world))

    try:
        await asyncio.gather(*map(one, chosen))
    finally:
        world.close()
    return report.show()


def choose(names: Sequence[str]) -> list[Scenario]:
    """Those of these numbers and names, in the order of their numbers; all without."""
    if unknown := [
        name
        for name in names
        if not any(name in {str(s.number), s.name} for s in SCENARIOS.values())
    ]:
        known = ", ".join(f"{n} {SCENARIOS[n].name}" for n in sorted(SCENARIOS))
        raise SystemExit(f"no fault {', '.join(unknown)}; there are {known}")
    return [
        SCENARIOS[number]
        for number in sorted(SCENARIOS)
        if not names or {str(number), SCENARIOS[number].name} & set(names)
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("names", nargs="*", help="numbers or names; all without")
    parser.add_argument("--at-a-time", type=int, default=3, metavar="N")
    given = parser.parse_args()
    raise SystemExit(not asyncio.run(main(choose(given.names), given.at_a_time)))
