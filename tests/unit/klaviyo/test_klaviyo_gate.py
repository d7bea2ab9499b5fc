"""A 429 or an outage closes the gate of a family, and one probe opens it."""

import asyncio

import pytest

from pipeline.klaviyo.family import Permit
from tests.unit.klaviyo.fixed_windows import OK, family, gaps, now, soon
from tests.virtual_time import virtual


async def opened(burst: int = 100, steady: int = 6000) -> list[Permit]:
    """Ten permits of one open family, in flight."""
    limits = family(burst, steady)
    (await limits.acquire()).answered(OK, {})
    return [await limits.acquire() for _ in range(10)]


@virtual
async def test_a_429_pauses_the_family_then_one_probe_opens_it() -> None:
    limits = family(100, 6000)
    permits = [await limits.acquire()]
    permits[0].answered(OK, {})
    permits = [await limits.acquire() for _ in range(10)]
    waiting = [asyncio.create_task(limits.acquire()) for _ in range(5)]
    for permit in permits:
        permit.answered(429, {"Retry-After": "7"})
    assert limits.closed_for() == 7
    await asyncio.sleep(6.9)
    assert not any(task.done() for task in waiting)
    await asyncio.sleep(10)
    assert [task.done() for task in waiting] == [True, False, False, False, False]
    (await waiting[0]).answered(OK, {})
    await soon()
    assert all(task.done() for task in waiting)


@virtual
async def test_429s_of_one_incident_do_not_make_the_back_off_grow() -> None:
    permits = await opened()
    for permit in permits:
        permit.answered(429, {})
    assert permits[0]._family.closed_for() == 0.25


@virtual
async def test_the_longest_retry_after_of_an_incident_counts() -> None:
    permits = await opened()
    for permit, pause in zip(permits, (2, 9, 4), strict=False):
        permit.answered(429, {"Retry-After": str(pause)})
    assert permits[0]._family.closed_for() == 9


@virtual
async def test_a_late_429_counts_in_full_though_the_probe_succeeds() -> None:
    permits = await opened()
    limits = permits[0]._family
    permits[0].answered(429, {"Retry-After": "3"})
    probe = await limits.acquire()
    permits[1].answered(429, {"Retry-After": "7"})  # was in flight all the time
    probe.answered(OK, {})
    (await limits.acquire()).answered(OK, {})
    assert now() == pytest.approx(10, abs=0.01)
    await limits.acquire()
    assert now() == pytest.approx(10, abs=0.01)


@virtual
async def test_a_429_to_the_probe_pauses_again() -> None:
    limits = family(100, 6000)
    (await limits.acquire()).answered(429, {"Retry-After": "3"})
    (await limits.acquire()).answered(429, {"Retry-After": "5"})
    await limits.acquire()
    assert now() == pytest.approx(8, abs=0.01)


@pytest.mark.parametrize("header", [{}, {"Retry-After": "soon"}, {"Retry-After": "0"}])
@virtual
async def test_429s_without_a_useful_time_back_off_more_and_more(
    header: dict[str, str],
) -> None:
    limits = family(1000, 60_000)
    times: list[float] = []
    for _ in range(20):
        permit = await limits.acquire()
        times.append(now())
        permit.answered(429, header)
    pauses = gaps(times)
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(0.25, abs=0.01)  # half of 0.5: chance is 0.5 here
    assert pauses[-1] == pytest.approx(30, abs=1)  # half of the cap


@virtual
async def test_a_single_failure_delays_nobody_else() -> None:
    permits = await opened()
    limits = permits[0]._family
    permits[0].answered(500, {})
    permits[1].failed()
    await limits.acquire()
    assert now() == 0


@virtual
async def test_five_failures_in_a_row_close_the_gate_with_growing_back_off() -> None:
    permits = await opened()
    limits = permits[0]._family
    for permit in permits:  # all in flight fail: still one incident
        permit.failed()
    times = [now()]
    for _ in range(4):
        permit = await limits.acquire()
        times.append(now())
        permit.answered(503, {})
    assert gaps(times) == pytest.approx([0.5, 0.75, 1.125, 1.6875], abs=0.02)
    waiting = [asyncio.create_task(limits.acquire()) for _ in range(2)]
    await asyncio.sleep(60)
    assert [task.done() for task in waiting] == [True, False]
    (await waiting[0]).answered(OK, {})
    await waiting[1]


@virtual
async def test_a_success_between_failures_keeps_the_gate_open() -> None:
    permits = await opened()
    for permit in permits[:4]:
        permit.failed()
    permits[4].answered(OK, {})
    for permit in permits[5:9]:
        permit.failed()
    assert permits[0]._family.closed_for() == 0


@virtual
async def test_the_caller_may_say_that_a_good_status_was_a_failure() -> None:
    """A captive portal answers 200; the session knows, the limits do not."""
    permits = await opened()
    for permit in permits[:5]:
        permit.answered(200, {}, failure=True)
    assert permits[0]._family.closed_for() > 0


@pytest.mark.parametrize("end", ["released", "unused"])
@virtual
async def test_a_probe_that_is_given_up_hands_its_role_on(end: str) -> None:
    limits = family(100, 6000)
    (await limits.acquire()).answered(429, {"Retry-After": "3"})
    probe = await limits.acquire()
    other = asyncio.create_task(limits.acquire())
    await soon()
    assert not other.done()
    getattr(probe, end)()
    await soon()
    assert other.done()


@virtual
async def test_cancelling_the_waiting_probe_lets_another_one_go() -> None:
    limits = family(100, 6000)
    (await limits.acquire()).answered(429, {"Retry-After": "3"})
    first, second = (asyncio.create_task(limits.acquire()) for _ in range(2))
    await asyncio.sleep(1)
    first.cancel()
    await second
    assert now() == pytest.approx(3, abs=0.01)


@virtual
async def test_a_permit_releases_itself_when_its_holder_is_cancelled() -> None:
    limits = family(1, 60)

    async def holder() -> None:
        with await limits.acquire():
            await asyncio.Event().wait()

    task = asyncio.create_task(holder())
    await asyncio.sleep(5)
    task.cancel()
    await limits.acquire()
    assert now() == pytest.approx(6, abs=0.01)


@virtual
async def test_a_permit_from_before_the_pause_is_overtaken() -> None:
    permits = await opened()
    permits[0].answered(429, {"Retry-After": "3"})
    assert all(permit.overtaken for permit in permits)
    probe = await permits[0]._family.acquire()
    assert not probe.overtaken
