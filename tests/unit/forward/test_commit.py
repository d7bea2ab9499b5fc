"""What is committed belongs to the present assignment, whoever is cancelled meanwhile."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from pipeline.forward.flow import DRAIN_BUDGET, Flow
from pipeline.forward.source import Source
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import Mark, Partition, Record
from tests.parts import forward
from tests.virtual_time import LoopClock, virtual

P: Partition = ("shop", 0)


class Broker:
    """One partition; a commit takes `slow` seconds, and the next ones are `refused`."""

    def __init__(self) -> None:
        self.log: list[Record] = []
        self.commits: list[int] = []
        self.slow = 0.0
        self.refused = 0

    def produce(self, offsets: Collection[int]) -> None:
        value = b'{"type":"nobody.knows"}'
        self.log += [Record(*P, offset, 0, None, value) for offset in offsets]

    async def poll(self, _: Collection[Partition], __: int, wait: float) -> list[Record]:
        records, self.log = self.log, []
        if not records:
            await asyncio.sleep(wait)
        return records

    async def commit(self, marks: Mapping[Partition, Mark]) -> bool:
        await asyncio.sleep(self.slow)
        if self.refused:
            self.refused -= 1
            return False
        self.commits.append(marks[P].offset)
        return True

    def highwater(self, _: Partition) -> None:
        return None

    def began(self, _: Partition) -> None:
        return None


class Telling:
    """The state topic: it takes `slow` seconds and then says so, or not."""

    full = False
    slow = 0.0
    says = True

    async def told(self) -> bool:
        await asyncio.sleep(self.slow)
        return self.says


class World:
    def __init__(self) -> None:
        metrics = Metrics(CollectorRegistry())
        health = Health(metrics, LoopClock())
        self.broker, self.telling = Broker(), Telling()
        klaviyo: Any = Idle()
        self.flow: Flow = forward(klaviyo, None, metrics, health, sent=self.telling)
        source = Source(
            self.broker,
            self.flow.checkpoint,
            health,
            buffer_records=1000,
            buffer_bytes=10**7,
        )
        self.stop = asyncio.Event()
        self.flow.assigned({P: ()})
        self.running = asyncio.create_task(self.flow.run(self.broker, source, self.stop))

    async def end(self) -> None:
        self.stop.set()
        await self.running


class Idle:
    served = "2026-07-15"
    existing = None

    def free_now(self, _: object) -> bool:
        return True

    async def ready(self, _: object) -> None:
        return

    async def acquire(self, _: object) -> None:
        await asyncio.Event().wait()


async def moved_while_telling(world: World) -> None:
    """The partitions go and come back, at 5000, while a commit waits to be told."""
    world.broker.produce(range(10))
    await asyncio.sleep(1.5)
    assert world.broker.commits == [10]
    world.broker.produce(range(10, 20))
    world.telling.slow = 3.0
    await asyncio.sleep(1.2)
    revoking = asyncio.create_task(world.flow.revoked())
    await asyncio.sleep(0)
    revoking.cancel()  # as for a member that was silent for too long
    await asyncio.gather(revoking, return_exceptions=True)
    world.flow.assigned({P: ()})
    await asyncio.sleep(5)


@virtual
async def test_what_ended_before_a_rebalance_is_not_committed_after_it() -> None:
    world = World()
    await moved_while_telling(world)
    assert world.broker.commits == [10], "the offset went back"
    world.broker.produce([5000])
    await asyncio.sleep(5)
    await world.end()
    assert world.broker.commits == [10, 5001]


@virtual
async def test_what_could_not_be_told_before_a_rebalance_does_no_harm_after_it() -> None:
    world = World()
    telling = asyncio.create_task(moved_while_telling(world))
    await asyncio.sleep(2)
    world.telling.says = False
    await telling
    assert not world.running.done()
    world.telling.says = True
    world.broker.produce([5000])
    await asyncio.sleep(5)
    await world.end()
    assert world.broker.commits == [10, 5001]


@virtual
async def test_who_is_cancelled_in_a_commit_does_not_take_the_marks_along() -> None:
    world = World()
    world.broker.slow = 0.5
    world.broker.produce(range(10))
    await asyncio.sleep(0.7)
    committing = asyncio.create_task(world.flow._commits.now())
    await asyncio.sleep(0.1)
    committing.cancel()
    await asyncio.gather(committing, return_exceptions=True)
    assert world.broker.commits == []
    await world.end()
    assert world.broker.commits == [10]


@virtual
async def test_the_last_commit_is_tried_again_within_its_budget() -> None:
    world = World()
    world.broker.produce(range(10))
    await asyncio.sleep(0.7)
    world.broker.refused = 2
    await world.flow.revoked()
    assert world.broker.commits == [10]
    await world.end()


@virtual
async def test_a_last_commit_that_nobody_takes_does_not_hold_the_group_for_long() -> None:
    world = World()
    world.broker.produce(range(10))
    await asyncio.sleep(0.7)
    world.broker.refused = 1000
    world.broker.slow = DRAIN_BUDGET
    await world.flow.revoked()
    assert world.broker.refused == 999, "no try begins after the budget"
    assert world.broker.commits == []
    await world.end()
