"""Random faults, each of which ends by itself; the seed decides which comes when."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tests.brokers.apache import Apache
from tests.faults.proxy import Proxy
from tests.faults.world import Planted, Shift

__all__ = ["Harm"]

PAUSE: Final = (3.0, 8.0)  # s between two faults
STOPS: Final = 25.0  # s for a SIGTERM
ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "answers 503": {"kind": "status", "status": 503},
    "answers 429": {"kind": "status", "status": 429, "retry_after": 2},
    "processed, then 502": {"kind": "status", "status": 502, "processed": True},
    "reset before": {"kind": "reset_before"},
    "reset after": {"kind": "reset_after"},
    "half answers": {"kind": "truncate"},
    "HTML": {"kind": "garbage"},
    "late answers": {"kind": "delay", "seconds": 2},
    "no answers": {"kind": "hang_after", "seconds": 40},
}


class Harm:
    """Does harm to the second service, the broker, Klaviyo, and the way to it.

    The first service is never ended: what it holds at the end is what leaks.
    """

    def __init__(
        self,
        seed: int,
        shift: Shift,
        kafka: Apache,
        way: Proxy,
        steady: Planted,
        victim: Planted,
    ) -> None:
        self.done: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._shift, self._kafka, self._way = shift, kafka, way
        self._steady, self._victim = steady, victim
        self._faults: dict[str, Callable[[], Awaitable[None]]] = {
            "kill -9": self._kill,
            "SIGTERM": self._terminate,
            "a replica sleeps": self._sleep,
            "the loop is blocked": self._block,
            "Kafka hangs": self._freeze,
            "Kafka dies": self._crash,
            "Klaviyo is cut off": self._cut,
            "Klaviyo is swallowed": self._swallow,
        }

    async def run(self, say: Callable[[str], None], enough: asyncio.Event) -> None:
        """Until `enough`; what it has begun is healed when it returns."""
        names = [*self._faults, *ANSWERS]
        while not enough.is_set():
            await self._long(*PAUSE)
            name = self._chance.choice(names)
            self.done[name] += 1
            say(name)
            fault = self._faults.get(name)
            if fault is not None:
                await fault()
            else:
                self._answer(ANSWERS[name])
        self._shift.fault()

    def _answer(self, action: dict[str, Any]) -> None:
        part = self._chance.choice((0.1, 0.5, 1.0))
        seconds = self._chance.uniform(2, 12)
        self._shift.fault(
            {"match": {"seconds": seconds, "probability": part}, "action": action}
        )

    def _long(self, least: float, most: float) -> Awaitable[None]:
        return asyncio.sleep(self._chance.uniform(least, most))

    async def _kill(self) -> None:
        await self._victim.kill()
        await self._long(0, 10)
        await self._victim.start()

    async def _terminate(self) -> None:
        self._victim.signal(signal.SIGTERM)
        async with asyncio.timeout(STOPS):
            code = await self._victim.wait()
        # Python itself ends so when it is asked before the program has begun.
        assert code in {0, -signal.SIGTERM}, self._victim.output[-3000:]
        await self._long(0, 5)
        await self._victim.start()

    async def _sleep(self) -> None:
        who = self._chance.choice((self._steady, self._victim))
        who.signal(signal.SIGSTOP)
        await self._long(2, 20)
        who.signal(signal.SIGCONT)

    async def _block(self) -> None:
        number = self.done["the loop is blocked"]
        self._steady.plant(block=[number, self._chance.uniform(1, 12)])
        await asyncio.sleep(1)  # until the plant is seen

    async def _freeze(self) -> None:
        self._kafka.freeze()
        await self._long(2, 20)
        await asyncio.to_thread(self._kafka.thaw)

    async def _crash(self) -> None:
        await asyncio.to_thread(self._kafka.kill)
        await self._long(0, 10)
        await asyncio.to_thread(self._kafka.start)

    async def _cut(self) -> None:
        await self._way.cut()
        await self._long(1, 8)
        await self._way.mend()

    async def _swallow(self) -> None:
        self._way.swallow()
        await self._long(1, 20)
        self._way.flow()
