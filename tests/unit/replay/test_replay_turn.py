"""One replay of letters at a time, whatever becomes of the one before."""

import asyncio

import pytest

from pipeline.errors import KafkaUnreachable
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.replay.turn import LIFE, Turn
from tests.oauth_user import MemoryStore
from tests.virtual_time import LoopClock, virtual


def turn(store: MemoryStore, chance: float = 0.5) -> tuple[Turn, Health]:
    clock = LoopClock()
    health = Health(Metrics(), clock)
    return Turn(store, health, clock, lambda: chance), health


@virtual
async def test_nobody_is_inside_with_another_and_all_get_their_turn() -> None:
    store, inside, turns, most = MemoryStore(), 0, 0, 0

    async def call(number: int) -> None:
        nonlocal inside, turns, most
        await asyncio.sleep(number % 3 / 100)
        ours, _ = turn(store, number / 8)
        await ours.wait()
        async with ours.kept(asyncio.Event()):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(4 * LIFE)  # it lives, so nobody takes it for dead
            inside -= 1
            turns += 1

    await asyncio.gather(*(call(number) for number in range(8)))
    assert (turns, most) == (8, 1)
    assert store.values == {}


@virtual
async def test_who_waits_says_for_whom() -> None:
    store = MemoryStore()
    (first, _), (second, health) = turn(store), turn(store)
    await first.wait()
    async with first.kept(asyncio.Event()):
        waiting = asyncio.create_task(second.wait())
        await asyncio.sleep(5)
        assert "another dead-letters replay runs" in health.waits()["dead letters"]
    await waiting
    assert health.waits() == {}


@virtual
async def test_a_call_that_was_killed_keeps_the_next_one_for_a_few_seconds() -> None:
    store, loop = MemoryStore(), asyncio.get_running_loop()
    await store.put("dead", b"7")
    started = loop.time()
    ours, _ = turn(store)
    await ours.wait()
    assert LIFE <= loop.time() - started < LIFE + 5
    assert "dead" not in store.values


@virtual
async def test_cancelled_anywhere_it_leaves_nobody_out() -> None:
    for step in range(30):
        store = MemoryStore()
        task = asyncio.create_task(turn(store)[0].wait())
        await asyncio.sleep(step / 200)
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            assert store.values == {}, step


@virtual
async def test_an_outage_meanwhile_ends_nothing_and_one_before_is_said() -> None:
    store = MemoryStore()
    ours, _ = turn(store)
    await ours.wait()
    async with ours.kept(asyncio.Event()):
        store.fails = KafkaUnreachable("away")
        await asyncio.sleep(10)
        store.fails = None
        await asyncio.sleep(10)
    assert store.values == {}
    store.fails = KafkaUnreachable("away")
    with pytest.raises(KafkaUnreachable):
        await turn(store)[0].wait()


@virtual
async def test_a_read_that_hung_makes_nobody_dead() -> None:
    """While Kafka answers nobody, no sign of life can be written."""
    store = MemoryStore()
    (first, _), (second, _) = turn(store), turn(store)
    await first.wait()
    assert not await second._claimed()
    await asyncio.sleep(1)
    load = store.load

    async def slow() -> dict[str, bytes]:
        found = await load()
        await asyncio.sleep(LIFE + 1)
        return found

    store.load = slow  # type: ignore[method-assign]
    assert not await second._claimed()
    store.load = load  # type: ignore[method-assign]
    await asyncio.sleep(1)
    assert not await second._claimed()


@virtual
async def test_a_call_that_was_suspended_ends() -> None:
    store, stop, loop = MemoryStore(), asyncio.Event(), asyncio.get_running_loop()
    ours, _ = turn(store)
    await ours.wait()
    async with ours.kept(stop):
        await asyncio.sleep(5)
        assert not stop.is_set()
        loop.now += LIFE  # type: ignore[attr-defined]
        await asyncio.sleep(5)
        assert stop.is_set()
