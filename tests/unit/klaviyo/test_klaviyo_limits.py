"""Who may send when: windows, queue, resizing, ceiling, share."""

import asyncio

import pytest

from pipeline.klaviyo.family import BURST, STEADY, Ceiling
from pipeline.klaviyo.limits import Limits
from pipeline.klaviyo.portion import Portion
from pipeline.klaviyo.quotas import QUOTAS
from tests.unit.klaviyo.fixed_windows import OK, family, gaps, now, soon
from tests.virtual_time import LoopClock, Stuck, run, virtual


@virtual
async def test_the_first_call_of_all_goes_alone() -> None:
    """What a former process left of the quota is known only from an answer."""
    limits = family(10, 100)
    first = await limits.acquire()
    second = asyncio.create_task(limits.acquire())
    await soon()
    assert not second.done()
    first.answered(OK, {})
    await soon()
    assert second.done()


@virtual
async def test_a_cancelled_first_call_hands_its_place_on() -> None:
    limits = family(10, 100)
    first = await limits.acquire()
    second = asyncio.create_task(limits.acquire())
    await soon()
    first.released()
    await soon()
    assert second.done()


@virtual
async def test_an_idle_account_may_burst() -> None:
    limits = family(10, 150)
    (await limits.acquire()).answered(OK, {})
    for _ in range(8):
        await limits.acquire()
    assert now() == 0


@virtual
async def test_a_slot_is_freed_a_window_after_the_answer_not_after_the_send() -> None:
    limits = family(1, 60)
    permit = await limits.acquire()
    await asyncio.sleep(5)
    permit.answered(OK, {})
    await limits.acquire()
    assert now() == pytest.approx(6, abs=0.01)


@virtual
async def test_a_hung_call_holds_its_slot() -> None:
    limits = family(2, 2)
    (await limits.acquire()).answered(OK, {})
    await limits.acquire()  # never answered
    third = asyncio.create_task(limits.acquire())
    await asyncio.sleep(59)
    assert not third.done()
    await asyncio.sleep(2)
    assert third.done()  # the first one's slot
    fourth = asyncio.create_task(limits.acquire())
    await asyncio.sleep(600)
    assert not fourth.done()
    fourth.cancel()


@virtual
async def test_a_call_without_an_answer_frees_its_slot_a_window_later() -> None:
    limits = family(1, 60)
    permit = await limits.acquire()
    await asyncio.sleep(30)
    permit.failed()
    await limits.acquire()
    assert now() == pytest.approx(31, abs=0.01)


@virtual
async def test_an_unused_permit_frees_its_slot_at_once() -> None:
    limits = family(1, 60)
    (await limits.acquire()).unused()
    await limits.acquire()
    assert now() == 0


@virtual
async def test_an_unused_permit_costs_no_pace() -> None:
    """A batcher waits for one, and the request it makes takes another."""
    limits = family(10, 60)
    sent = 0

    async def worker() -> None:
        nonlocal sent
        while True:
            (await limits.acquire()).unused()
            permit = await limits.acquire()
            await asyncio.sleep(0.05)
            sent += 1
            permit.answered(OK, {})

    workers = [asyncio.create_task(worker()) for _ in range(3)]
    await asyncio.sleep(60)
    sent = 0
    await asyncio.sleep(300)
    assert 0.98 * 300 <= sent <= 300
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


@virtual
async def test_unused_permits_add_nothing_to_the_burst_of_an_idle_account() -> None:
    limits = family(75, 60)  # four seconds of its rate go at once
    (await limits.acquire()).answered(OK, {})
    for _ in range(3):
        (await limits.acquire()).unused()
    await asyncio.sleep(100)
    for _ in range(5):
        await limits.acquire()
    assert now() > 100.5


@virtual
async def test_ending_a_permit_again_does_nothing() -> None:
    limits = family(1, 60)
    permit = await limits.acquire()
    permit.answered(OK, {})
    for end in (permit.failed, permit.released, permit.unused):
        end()
    assert limits.used(BURST) == 1
    assert limits.used(STEADY) == 1 / 60


@virtual
async def test_waiters_are_served_in_order() -> None:
    limits = family(1, 60)
    served: list[int] = []

    async def one(number: int) -> None:
        permit = await limits.acquire()
        served.append(number)
        permit.answered(OK, {})

    tasks = []
    for number in range(20):
        tasks.append(asyncio.create_task(one(number)))
        await asyncio.sleep(0.01)
    tasks[7].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert served == [each for each in range(20) if each != 7]


@virtual
async def test_a_backlog_flows_evenly_after_the_burst() -> None:
    limits = family(75, 750)
    times: list[float] = []
    for _ in range(400):
        permit = await limits.acquire()
        times.append(now())
        permit.answered(OK, {})
    assert max(gaps(times)) <= 0.1


@virtual
async def test_free_takes_nothing_and_acquire_then_succeeds_at_once() -> None:
    limits = family(1, 60)
    (await limits.acquire()).answered(OK, {})
    await limits.free()
    at = now()
    assert at == pytest.approx(1, abs=0.01)
    await limits.free()
    await limits.acquire()
    assert now() == at


@virtual
async def test_free_lets_those_go_first_who_wait_for_a_permit() -> None:
    """A call that is tried again is older than one that is still to be composed."""
    limits = family(1, 60)
    (await limits.acquire()).answered(OK, {})
    free = asyncio.create_task(limits.free())
    await soon()
    retried = asyncio.create_task(limits.acquire())
    await asyncio.sleep(1.01)
    assert retried.done()
    assert not free.done()
    (await retried).answered(OK, {})
    await free
    assert now() == pytest.approx(2.01, abs=0.02)


@virtual
async def test_a_lower_announced_limit_is_kept_at_once() -> None:
    limits = family(10, 600)
    (await limits.acquire()).answered(OK, {"RateLimit-Limit": "2, 2;w=1, 4;w=60"})
    for _ in range(3):
        (await limits.acquire()).answered(OK, {})
    assert now() >= 1
    await limits.acquire()
    assert now() >= 60


@virtual
async def test_a_higher_announced_limit_wakes_who_waits() -> None:
    limits = family(1, 15)
    (await limits.acquire()).answered(OK, {})
    second = await limits.acquire()
    waiting = [asyncio.create_task(limits.acquire()) for _ in range(50)]
    await soon()
    at = now()
    second.answered(OK, {"RateLimit-Limit": "100, 100;w=1, 1000;w=60"})
    await asyncio.gather(*waiting)
    assert now() == at


@virtual
async def test_huge_limits_cost_no_waiting_at_all() -> None:
    """A server that only counts must be fed as fast as the machine can."""
    limits = family(350, 3500)
    header = {"RateLimit-Limit": "6000000"}  # a plain number speaks of the minute
    (await limits.acquire()).answered(OK, header)
    for _ in range(20_000):
        (await limits.acquire()).answered(OK, header)
    assert now() == 0


@virtual
async def test_a_daily_limit_is_kept_when_announced() -> None:
    limits = family(10, 150)
    header = {"RateLimit-Limit": "10, 10;w=1, 150;w=60, 3;w=86400"}
    for _ in range(3):
        (await limits.acquire()).answered(OK, header)
    await limits.acquire()
    assert now() >= 86_400


@virtual
async def test_a_daily_limit_that_is_raised_out_of_reach_binds_no_more() -> None:
    limits = family(10, 100)
    for calls in (5, 1_000_000):
        told = {"RateLimit-Limit": f"100, 10;w=1, 100;w=60, {calls};w=86400"}
        for _ in range(4):
            (await limits.acquire()).answered(OK, told)
    assert limits.limits == {BURST: 10, STEADY: 100}
    assert now() < 60


@pytest.mark.parametrize("text", ["", "many", "-5", "0", "1;w=x", "5, 6, 7", "9" * 40])
@virtual
async def test_garbage_in_the_limit_header_changes_nothing(text: str) -> None:
    limits = family(10, 150)
    (await limits.acquire()).answered(OK, {"RateLimit-Limit": text})
    assert limits.limits == {BURST: 10, STEADY: 150}


@virtual
async def test_a_share_divides_every_limit_but_leaves_at_least_one() -> None:
    limits = family(3, 60, share=1 / 3)
    (await limits.acquire()).answered(OK, {})
    assert limits.used(BURST) == 1
    assert limits.used(STEADY) == 1 / 20
    limits.set_share(Portion(0.001))
    assert limits.used(STEADY) == 1


@virtual
async def test_a_larger_share_wakes_who_waits() -> None:
    limits = family(10, 600, share=0.1)
    (await limits.acquire()).answered(OK, {})
    waiting = asyncio.create_task(limits.acquire())
    await soon()
    assert not waiting.done()
    limits.set_share(Portion(1.0))
    await soon()
    assert waiting.done()


# -- several operations --------------------------------------------------------------


@virtual
async def test_the_ceiling_bounds_all_operations_together() -> None:
    limits = Limits(LoopClock(), lambda: 0.5, ceiling=Ceiling(3, 10))
    for _ in range(2):
        for operation in ("create_event", "create_or_update_profile"):
            (await limits.family(operation).acquire()).answered(OK, {})
    assert now() == pytest.approx(10, abs=0.05)


@virtual
async def test_replicas_together_keep_the_ceiling() -> None:
    """It is not the account's quota, so that quota_share takes nothing off it."""
    went = 0

    async def sender(limits: Limits, operation: str) -> None:
        nonlocal went
        while True:
            (await limits.family(operation).acquire()).answered(OK, {})
            went += 1

    senders = []
    for piece in range(3):
        limits = Limits(LoopClock(), lambda: 0.5, share=0.5, ceiling=Ceiling(10, 5))
        limits.set_share(Portion(0.5, (piece,), 3))
        senders += [
            asyncio.create_task(sender(limits, operation))
            for operation in ("create_event", "get_lists")
        ]
    await asyncio.sleep(4.9)
    assert went == 10
    for task in senders:
        task.cancel()
    await asyncio.gather(*senders, return_exceptions=True)


def test_a_small_part_of_a_small_ceiling_is_one_call() -> None:
    ceiling = Ceiling(2, 5)
    ceiling.set_share(Portion(1.0, (0,), 3))
    assert ceiling.window.limit == 1
    ceiling.set_share(Portion(1.0, (0, 1, 2), 3))
    assert ceiling.window.limit == 2


@virtual
async def test_an_answer_to_one_operation_wakes_another_that_waits_for_the_ceiling() -> (
    None
):
    limits = Limits(LoopClock(), lambda: 0.5, ceiling=Ceiling(1, 10))
    event = await limits.family("create_event").acquire()
    profile = asyncio.create_task(limits.family("create_or_update_profile").acquire())
    await asyncio.sleep(100)
    assert not profile.done()
    event.answered(OK, {})
    await profile
    assert now() == pytest.approx(110, abs=0.05)


@virtual
async def test_events_come_first_when_all_wait_for_the_ceiling() -> None:
    limits = Limits(LoopClock(), lambda: 0.5, ceiling=Ceiling(1, 10))
    went: list[str] = []

    async def one(operation: str) -> None:
        permit = await limits.family(operation).acquire()
        went.append(operation)
        permit.answered(OK, {})

    await one("get_accounts")
    operations = ["create_or_update_profile", "bulk_import_profiles"]
    waiting = [asyncio.create_task(one(each)) for each in operations]
    await asyncio.sleep(1)  # they were there before
    operations = ["create_event", "bulk_create_events"]
    waiting += [asyncio.create_task(one(each)) for each in operations]
    await asyncio.gather(*waiting)
    assert went[0] == "get_accounts"
    assert set(went[1:3]) == {"create_event", "bulk_create_events"}
    assert now() == pytest.approx(40, abs=0.2)


@virtual
async def test_without_a_ceiling_operations_do_not_wait_for_each_other() -> None:
    limits = Limits(LoopClock(), lambda: 0.5)
    (await limits.family("get_accounts").acquire()).answered(429, {"Retry-After": "60"})
    await limits.family("create_event").acquire()
    assert now() == 0


@virtual
async def test_quotas_are_the_announced_ones() -> None:
    limits = Limits(LoopClock(), lambda: 0.5, share=0.5)
    (await limits.family("create_event").acquire()).answered(
        OK, {"RateLimit-Limit": "700"}
    )
    limits.family("get_accounts")
    assert limits.quotas() == {"create_event": (350, 700), "get_accounts": (1, 15)}


def test_an_operation_without_a_quota_is_a_mistake_of_ours() -> None:
    async def main() -> None:
        Limits(LoopClock(), lambda: 0.5).family("create_evnt")

    with pytest.raises(KeyError):
        run(main())


def test_every_quota_has_a_burst_and_a_steady_limit() -> None:
    for quota in QUOTAS.values():
        assert 0 < quota.burst <= quota.steady <= quota.burst * 60


def test_a_permit_nobody_ends_blocks_for_ever_and_the_loop_says_so() -> None:
    """The property tests rely on it: a lost wake-up is found, not waited for."""

    async def main() -> None:
        limits = family(1, 60)
        await limits.acquire()
        await limits.acquire()

    with pytest.raises(Stuck):
        run(main())
