"""Cancelled at any moment, the flow has committed nothing that had not ended.

The flow runs in virtual time on a broker and a Klaviyo made of lists; it is cancelled
after 1, 2, 3, ... turns of the loop, so at each of its awaits, and what was committed is
held against what Klaviyo accepted and the dead-letter topic acknowledged.
"""

import asyncio
import json
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pipeline.forward.flow import Flow
from pipeline.forward.source import Source
from pipeline.klaviyo.call import Accepted, Refused
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import Mark, Partition, Record
from tests.parts import forward
from tests.virtual_time import LoopClock, run

TOPIC: Partition = ("shop", 0)


def records() -> list[Record]:
    """Updates and orders of three customers, a skipped one, two bad ones."""
    messages: list[Any] = []
    for number in range(12):
        who = {"id": f"C-{number % 3}"}
        if number % 4 == 3:
            order = {
                "id": f"O-{number}",
                "customer": who,
                "lines": [{"id": n} for n in "1234"],
            }
            messages.append({"type": "order.placed", "order": order})
        else:
            messages.append({"type": "customer.updated", "customer": who})
    messages[4] = {"type": "nobody.knows"}
    messages[6] = ["bad"]
    messages[9] = {"type": "customer.updated", "customer": {"id": "refused"}}
    return [
        Record(*TOPIC, offset, 1_780_000_000_000, None, json.dumps(message).encode())
        for offset, message in enumerate(messages)
    ]


class World:
    """Broker and Klaviyo as lists, and the ledger of what ended there."""

    existing = None

    def __init__(self) -> None:
        self.log = records()
        self.position = 0
        self.assigned: frozenset[Partition] = frozenset({TOPIC})
        self.committed = 0
        self.accepted: list[Any] = []
        self.letters: list[int] = []
        self.served = "2026-07-15"
        self.back = asyncio.Event()  # not set: Klaviyo and the dead-letter topic hang
        self.back.set()

    # -- Consumer --
    async def poll(
        self, partitions: Collection[Partition], max_records: int, timeout: float
    ) -> list[Record]:
        await asyncio.sleep(0)
        found = self.log[self.position : self.position + 3] if partitions else []
        if not found:
            await asyncio.sleep(timeout)
        self.position += len(found)
        return found

    async def commit(self, marks: Mapping[Partition, Mark]) -> bool:
        await asyncio.sleep(0.005)
        self.check(marks[TOPIC])
        self.committed = marks[TOPIC].offset
        await asyncio.sleep(0.005)
        return True

    def highwater(self, partition: Partition) -> int | None:
        return len(self.log)

    def began(self, partition: Partition) -> int | None:
        return None

    # -- Producer --
    async def send(
        self,
        topic: str,
        key: Any,
        value: Any,
        headers: Any,
        timestamp_ms: int | None = None,
    ) -> None:
        await asyncio.sleep(0.06)
        await self.back.wait()
        self.letters.append(int(dict(headers)["__connect.errors.offset"]))
        await asyncio.sleep(0)

    # -- Client --
    async def ready(self, operation: str) -> None:
        await asyncio.sleep(0)

    def free_now(self, operation: str) -> bool:
        return True

    async def acquire(self, operation: str) -> "World":
        await asyncio.sleep(0)
        return self

    def unused(self) -> None:
        """A permit of this Klaviyo costs nothing."""

    async def import_profile(self, body: bytes, permit: Any) -> Accepted | Refused:
        return await self._take(body)

    async def create_event(self, body: bytes, permit: Any) -> Accepted | Refused:
        return await self._take(body)

    async def create_events(self, body: bytes, permit: Any) -> Accepted | Refused:
        await asyncio.sleep(0.003)
        await self.back.wait()
        for entry in json.loads(body)["data"]["attributes"]["events-bulk-create"]["data"]:
            for row in entry["attributes"]["events"]["data"]:
                self.accepted.append(row["attributes"])
        await asyncio.sleep(0.003)
        return Accepted(202, b"", 1)

    async def _take(self, body: bytes) -> Accepted | Refused:
        await asyncio.sleep(0.003)
        await self.back.wait()
        if b'"refused"' in body:
            return Refused(400, (), 1)
        self.accepted.append(json.loads(body)["data"]["attributes"])
        await asyncio.sleep(0.003)
        return Accepted(202, b"", 1)

    def check(self, mark: Mark) -> None:
        """All below the mark, and what it names above, must have ended for outsiders."""
        who = [str(a.get("external_id")) for a in self.accepted]
        ids = {a.get("unique_id") for a in self.accepted}
        for record in (*self.log[: mark.offset], *(self.log[n] for n in mark.ended)):
            message = json.loads(record.value or b"")
            if record.offset in self.letters:
                continue
            assert isinstance(message, dict), "committed above a bad record"
            if "order" in message:
                order = message["order"]["id"]
                assert {order, f"{order}:1", f"{order}:4"} <= ids, "above an open order"
            elif "customer" in message:
                customer = message["customer"]["id"]
                assert customer in who, f"committed above an open update of {customer}"


def flow_of(world: Any) -> tuple[Flow, Source]:
    metrics = Metrics(CollectorRegistry())
    health = Health(metrics, LoopClock())
    flow = forward(world, world, metrics, health, conflicts="dead_letter", connections=2)
    flow.assigned({TOPIC: ()})
    source = Source(
        world, flow.checkpoint, health, buffer_records=100, buffer_bytes=10**6
    )
    return flow, source


async def cancelled_after(turns: int) -> World:
    """Cancel the whole flow, as the end of a process does."""
    world: Any = World()
    flow, source = flow_of(world)
    task = asyncio.create_task(flow.run(world, source, asyncio.Event()))
    for _ in range(turns):
        await asyncio.sleep(0)
        if not asyncio.get_running_loop()._ready:  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await flow._commits.now()  # the worst moment for it: everything was just cancelled
    assert len(asyncio.all_tasks()) == 1, "a task was left behind"
    return world  # type: ignore[no-any-return]


@pytest.mark.timeout(120)  # 1,200 runs
def test_cancelled_at_every_await() -> None:
    commits = {run(cancelled_after(turns)).committed for turns in range(1200)}
    assert len(commits) >= 5, "the runs were not cancelled in the middle"
    assert max(commits) == len(records()), "no run came to the end"


async def revoked_after(milliseconds: int, *, hanging: bool) -> None:
    """A rebalance: what was not committed is read again in the next epoch."""
    world: Any = World()
    flow, source = flow_of(world)
    stop = asyncio.Event()
    task = asyncio.create_task(flow.run(world, source, stop))
    await asyncio.sleep(milliseconds / 1000)
    if hanging:
        world.back.clear()
    await flow.revoked()
    world.back.set()
    world.position = world.committed
    flow.assigned({TOPIC: ()})
    while world.committed < len(world.log):
        await asyncio.sleep(0.1)
    stop.set()
    await task
    assert sorted(set(world.letters)) == [6, 9]


def test_revoked_at_every_moment() -> None:
    for milliseconds in range(150):
        run(revoked_after(milliseconds, hanging=False))
        run(revoked_after(milliseconds, hanging=True))


async def stopped_after(milliseconds: int) -> None:
    """A stop while everything hangs: bounded, and nothing open is committed."""
    world: Any = World()
    flow, source = flow_of(world)
    stop = asyncio.Event()
    task = asyncio.create_task(flow.run(world, source, stop))
    await asyncio.sleep(milliseconds / 1000)
    world.back.clear()
    stop.set()
    async with asyncio.timeout(10):
        await task


def test_stopped_at_every_moment_while_everything_hangs() -> None:
    for milliseconds in range(150):
        run(stopped_after(milliseconds))
