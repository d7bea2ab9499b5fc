"""Others use the account too: what the server says is left bounds us until its reset."""

import asyncio

import pytest

from pipeline.klaviyo.family import Family, Permit
from pipeline.klaviyo.occupancy import Occupancy
from tests.unit.klaviyo.fixed_windows import family
from tests.virtual_time import virtual


def now() -> float:
    return asyncio.get_running_loop().time()


def left(calls: int, reset: int) -> dict[str, str]:
    return {"RateLimit-Remaining": str(calls), "RateLimit-Reset": str(reset)}


async def opened(in_flight: int, *, share: float = 1.0) -> tuple[Family, list[Permit]]:
    """A family nothing but the remainder bounds, with calls in flight at 0 s."""
    limits = family(1000, 60_000, share=share)
    (await limits.acquire()).answered(202, {})
    return limits, [await limits.acquire() for _ in range(in_flight)]


async def at_once(limits: Family) -> int:
    """How many calls may go before time passes."""
    started, went = now(), 0
    while True:
        waiting = asyncio.ensure_future(limits.acquire())
        for _ in range(5):
            await asyncio.sleep(0)
        if not waiting.done():
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert now() == started
            return went
        went += 1


@virtual
async def test_no_more_are_sent_than_are_left() -> None:
    limits, [permit] = await opened(1)
    permit.answered(202, left(3, 40))
    assert await at_once(limits) == 3


@virtual
async def test_the_rest_waits_for_the_reset_and_its_rounding() -> None:
    limits, [permit] = await opened(1)
    permit.answered(202, left(0, 40))
    await limits.acquire()
    assert now() == pytest.approx(41, abs=0.01)


@virtual
async def test_calls_in_flight_may_not_be_counted_yet() -> None:
    limits, permits = await opened(3)
    permits[0].answered(202, left(5, 40))
    assert await at_once(limits) == 3


@virtual
async def test_an_answer_with_more_left_was_counted_before() -> None:
    limits, permits = await opened(3)
    permits[2].answered(202, left(5, 40))  # overtook the other two
    permits[0].answered(202, left(7, 40))
    permits[1].answered(202, left(6, 40))
    assert await at_once(limits) == 5


@virtual
async def test_a_call_without_an_answer_may_have_been_counted() -> None:
    limits, permits = await opened(2)
    permits[0].answered(202, left(5, 40))
    permits[1].failed()
    assert await at_once(limits) == 4


@virtual
async def test_a_call_that_was_not_sent_is_not_counted() -> None:
    limits, permits = await opened(2)
    permits[0].answered(202, left(5, 40))
    permits[1].unused()
    assert await at_once(limits) == 5


@virtual
async def test_the_next_window_starts_anew() -> None:
    limits, permits = await opened(2)
    permits[0].answered(202, left(0, 40))
    await asyncio.sleep(50)
    (await limits.acquire()).answered(202, left(8, 50))
    assert await at_once(limits) == 7  # one of the old calls is still out


@virtual
async def test_a_late_answer_out_of_the_old_window_says_nothing_about_the_new() -> None:
    limits, permits = await opened(2)
    permits[0].answered(202, left(100, 1))
    await asyncio.sleep(3)
    permits[1].answered(202, left(50, 58))
    late = await limits.acquire()
    late.sent = 0.0
    late.answered(202, left(2, 0))  # was written at 0 s, came at 3 s
    assert await at_once(limits) == 49


@virtual
async def test_many_answers_narrow_the_reset_down() -> None:
    """Rounded up: the first of a second says it most exactly; rounded down: the last."""
    for reset in (lambda s: -int(-s // 1), int):
        limits, _ = await opened(0)
        end = now() + 20.5
        for _ in range(95):
            (await limits.acquire()).answered(202, left(0, reset(end - now())))
            limits._remainder._left = 1000  # as if there were some left
            await asyncio.sleep(0.1)
        assert end <= limits._remainder._latest <= end + 1.1
        await asyncio.sleep(60)


@virtual
async def test_a_share_takes_its_part_of_what_is_left() -> None:
    limits, [permit] = await opened(1, share=0.5)
    permit.answered(202, left(8, 40))
    assert await at_once(limits) == 4


@pytest.mark.parametrize(
    "headers",
    [
        left(0, 3600),
        left(0, 1_795_392_000),
        {"RateLimit-Remaining": "0"},
        {"RateLimit-Reset": "30"},
        {"RateLimit-Remaining": "none", "RateLimit-Reset": "30"},
        {"RateLimit-Remaining": "-1", "RateLimit-Reset": "30"},
    ],
)
@virtual
async def test_what_does_not_speak_of_the_minute_is_ignored(
    headers: dict[str, str],
) -> None:
    limits, [permit] = await opened(1)
    permit.answered(202, headers)
    await limits.acquire()
    assert now() == 0


def test_the_memory_of_ends_is_bounded() -> None:
    """A server with huge limits must not make us remember every call of a minute."""
    window = Occupancy(10**9, 60)
    for call in range(200_000):
        window.take()
        window.end(call * 60 / 200_000)
    assert len(window._ends) <= 1001
    assert window.used == 200_000
    window.free_at(60 + 30.1)
    assert window.used == pytest.approx(100_000, rel=0.01)
    window.free_at(121)
    assert window.used == 0
