"""Whatever happens, no window of any phase is exceeded and nobody waits for ever."""

import asyncio
import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.klaviyo.family import BURST, STEADY, Family
from tests.unit.klaviyo.fixed_windows import FixedWindow, assert_never_more_than, family
from tests.virtual_time import run


class Weather(msgspec.Struct, frozen=True):
    """What may happen to a call; chances from 0 to 1."""

    burst: int
    steady: int
    latency: float  # s, mean
    lost: float  # no answer comes
    broken: float  # 503
    throttled: float  # 429 out of the blue
    cancelled: float
    unused: float
    seed: int


class Server:
    """Counts each call at some moment between send and answer; breaks at will."""

    def __init__(self, weather: Weather, limits: Family) -> None:
        self.counted: list[float] = []
        self.closed_until = 0.0
        self._weather = weather
        self._limits = limits
        self._chance = random.Random(weather.seed)

    async def one(self) -> None:
        """One call, from its permit to its end."""
        weather, chance = self._weather, self._chance
        loop = asyncio.get_running_loop()
        with await self._limits.acquire() as permit:
            assert loop.time() >= self.closed_until, "sent although the family is paused"
            if chance.random() < weather.unused:
                permit.unused()
                return
            latency = chance.expovariate(1 / weather.latency) if weather.latency else 0.0
            before = latency * chance.random()
            await asyncio.sleep(before)
            self.counted.append(loop.time())
            await asyncio.sleep(latency - before)
            luck = chance.random()
            if luck < weather.lost:
                permit.failed()
            elif luck < weather.lost + weather.broken:
                permit.answered(503, {})
            elif luck < weather.lost + weather.broken + weather.throttled:
                pause = chance.choice([0, 1, 7, 60])
                self.closed_until = max(self.closed_until, loop.time() + pause)
                permit.answered(429, {"Retry-After": str(pause)})
            else:
                permit.answered(202, {})


weathers = st.builds(
    Weather,
    burst=st.integers(1, 12),
    steady=st.integers(1, 40),
    latency=st.sampled_from([0.0, 0.01, 0.2, 1.5, 20.0]),
    lost=st.sampled_from([0.0, 0.1, 0.5]),
    broken=st.sampled_from([0.0, 0.1, 0.4]),
    throttled=st.sampled_from([0.0, 0.02]),
    cancelled=st.sampled_from([0.0, 0.2]),
    unused=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 2**32),
)


@given(weathers)
@settings(max_examples=100)
def test_no_window_of_any_phase_is_exceeded_and_all_calls_end(weather: Weather) -> None:
    async def main() -> None:
        limits = family(weather.burst, weather.steady)
        server = Server(weather, limits)
        chance = random.Random(weather.seed + 1)
        calls = []
        for _ in range(weather.steady * 2 + 10):
            call = asyncio.create_task(server.one())
            calls.append(call)
            if chance.random() < weather.cancelled:
                asyncio.get_running_loop().call_later(chance.random() * 30, call.cancel)
            await asyncio.sleep(chance.choice([0, 0, 0, 0.1, 2]))
        # A wait that nothing ends would raise Stuck.
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in ended} <= {type(None), asyncio.CancelledError}
        assert_never_more_than(weather.burst, BURST, server.counted)
        assert_never_more_than(weather.steady, STEADY, server.counted)
        assert limits.used(STEADY) <= 1

    run(main())


@given(
    steady=st.integers(20, 60),
    others=st.floats(0.05, 1.0),
    phase=st.floats(0, 60),
    latency=st.sampled_from([0.0, 0.05, 0.4]),
    floor=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=30)
def test_others_on_the_account_are_seen_in_the_remainder(
    steady: int,
    others: float,
    phase: float,
    latency: float,
    floor: bool,
    seed: int,
) -> None:
    """Somebody else spends at up to the full rate; 429s stay rare, work goes on."""

    async def main() -> None:
        window = FixedWindow(steady, phase, int if floor else lambda s: -int(-s // 1))
        limits = family(steady, steady)
        chance = random.Random(seed)
        accepted = 0

        async def stranger() -> None:
            while True:
                await asyncio.sleep(chance.expovariate(others * steady / 60))
                window.spend()

        async def worker() -> None:
            nonlocal accepted
            while True:
                with await limits.acquire() as permit:
                    await asyncio.sleep(latency * chance.random())
                    headers = window.spend()
                    await asyncio.sleep(latency * chance.random())
                    if headers is None:
                        permit.answered(429, window.retry_after())
                    else:
                        accepted += 1
                        permit.answered(202, headers)

        tasks = [asyncio.create_task(each()) for each in [stranger] + [worker] * 4]
        await asyncio.sleep(10 * 60)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Per window at most the calls in flight when the stranger took the last one, and
        # the probe after it.
        assert window.refused <= 10 * 2
        # All of the account's quota is spent by somebody, up to what the end of a window
        # is uncertain by.
        spent = sum(window.windows.get(number, 0) for number in range(1, 9))
        assert spent >= 0.9 * 8 * steady
        assert accepted > 0

    run(main())


@given(
    announced=st.lists(
        st.tuples(st.integers(1, 8), st.integers(8, 30)), min_size=1, max_size=6
    ),
    latency=st.sampled_from([0.0, 0.3, 4.0]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60)
def test_changing_limits_are_followed_down_and_up(
    announced: list[tuple[int, int]], latency: float, seed: int
) -> None:
    """The limits known when a call is sent bound every window that it is the last of."""

    async def main() -> None:
        limits, chance = family(4, 20), random.Random(seed)
        loop = asyncio.get_running_loop()
        calls: list[tuple[float, float, dict[int, int]]] = []  # sent, counted, known

        async def one() -> None:
            with await limits.acquire() as permit:
                sent, known = loop.time(), dict(limits.limits)
                await asyncio.sleep(latency * chance.random())
                calls.append((sent, loop.time(), known))
                await asyncio.sleep(latency * chance.random())
                burst, steady = announced[int(loop.time() / 25) % len(announced)]
                header = f"{burst}, {burst};w=1, {steady};w=60"
                permit.answered(202, {"RateLimit-Limit": header})

        await asyncio.gather(*(one() for _ in range(80)))
        for _, start, _ in calls:
            for seconds in (BURST, STEADY):
                window = [call for call in calls if start <= call[1] < start + seconds]
                last = max(window, key=lambda call: call[0])
                # Of calls sent at the same moment the answer between may have changed it.
                known = max(call[2][seconds] for call in window if call[0] == last[0])
                assert len(window) <= known

    run(main())
