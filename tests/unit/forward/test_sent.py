"""What was written is told before its offset counts, whatever Kafka does meanwhile."""

import asyncio
import json
import tracemalloc
from typing import Any, cast

import msgspec

from pipeline.forward.sent import HELD, LARGEST, MOST, Sent
from pipeline.kafka.producer import Producer, Unwritable
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from schemas.commands import Command, CreateEvent, Identity, UpsertProfile
from tests.virtual_time import LoopClock, virtual


class Topic:
    """Takes records after a second; `away` while nobody can write."""

    def __init__(self) -> None:
        self.records: list[tuple[str, Any]] = []
        self.sizes: list[int] = []
        self.away = False

    async def send(self, _: str, key: bytes, value: bytes, __: object) -> None:
        await asyncio.sleep(1)
        if self.away:
            raise Unwritable("no broker")
        self.sizes.append(len(value))
        self.records.append((key.decode(), json.loads(value)))

    def people(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for _, value in self.records:
            for name, _, content in value["people"]:
                found.setdefault(name, {}).update(content)
        return found


class World:
    def __init__(self) -> None:
        self.topic = Topic()
        self.health = Health(Metrics(), LoopClock())
        producer = cast("Producer", self.topic)
        self.sent = Sent(producer, "state", "s", lambda: 7.9, self.health)
        self.run = asyncio.create_task(self.sent.run())


def profile(number: int, **attributes: Any) -> Command:
    return UpsertProfile(Identity(external_id=f"C-{number}"), attributes, {})


def event(number: int, **names: str) -> CreateEvent:
    identity = Identity(external_id=f"C-{number}")
    return CreateEvent(identity, "Placed Order", "1", "t", msgspec.Raw(b"{}"), names)


async def end(world: World) -> None:
    world.run.cancel()
    await asyncio.gather(world.run, return_exceptions=True)


@virtual
async def test_nothing_is_told_before_it_is_acknowledged() -> None:
    world = World()
    assert await world.sent.told()
    world.sent.note([profile(1, first_name="Ada")])
    telling = asyncio.create_task(world.sent.told())
    await asyncio.sleep(0.5)
    assert not telling.done()
    assert await telling
    (key, value) = world.topic.records[0]
    assert key.startswith("s/sent/")
    content = {"external_id": "C-1", "first_name": "Ada"}
    assert value == {"late": False, "people": [["i:C-1", 7, content]]}
    await end(world)


@virtual
async def test_an_outage_holds_offsets_back_and_loses_nothing() -> None:
    world = World()
    world.topic.away = True
    world.sent.note([profile(1, first_name="Ada")])
    for _ in range(3):
        assert not await world.sent.told()
    assert not world.sent._asking, "nobody waits any more"
    assert "state topic" in world.health.waits()
    world.sent.note([profile(1, first_name="Bea", title="Dr")])
    world.topic.away = False
    await asyncio.sleep(10)
    assert await world.sent.told()
    assert world.health.waits() == {}
    known = {"external_id": "C-1", "first_name": "Bea", "title": "Dr"}
    assert world.topic.people() == {"i:C-1": known}
    await end(world)


@virtual
async def test_who_asks_waits_for_what_was_noted_before_and_no_longer() -> None:
    world = World()
    busy = True

    async def work() -> None:
        number = 0
        while busy:
            world.sent.note([profile(number, title="Dr")])
            number += 1
            await asyncio.sleep(0.1)

    working = asyncio.create_task(work())
    for _ in range(20):
        await asyncio.sleep(1.3)
        assert await world.sent.told()
    busy = False
    await working
    await end(world)


@virtual
async def test_a_stop_tells_the_rest() -> None:
    world = World()
    world.sent.note([profile(1, title="Dr")])
    await asyncio.sleep(0.5)
    world.sent.note([profile(1, title="Sir")])
    world.sent.note([profile(2, title="Dr")])
    await end(world)
    assert {n: c["title"] for n, c in world.topic.people().items()} == {
        "i:C-1": "Sir",
        "i:C-2": "Dr",
    }


@virtual
async def test_events_are_told_apart_for_they_show_later() -> None:
    world = World()
    world.sent.note([event(1, first_name="Ada"), event(1, first_name="Ada")])
    world.sent.note([profile(1, title="Dr")])
    assert await world.sent.told()
    late = {value["late"]: value["people"][0][2] for _, value in world.topic.records}
    assert late[True] == {"external_id": "C-1", "first_name": "Ada"}
    assert late[False] == {"external_id": "C-1", "title": "Dr"}
    await end(world)


@virtual
async def test_records_stay_small_and_many_customers_hold_the_reader() -> None:
    world = World()
    for number in range(MOST + 1):
        world.sent.note([profile(number, title="x" * (2000 if number < 900 else 1))])
    assert world.sent.full
    await asyncio.sleep(200)
    assert not world.sent.full
    assert len(world.topic.people()) == MOST + 1
    assert max(world.topic.sizes) < LARGEST + 100
    await end(world)


@virtual
async def test_customers_who_come_back_hold_no_more_in_an_outage() -> None:
    """Of their orders only the names count, and of two updates one is left."""
    world = World()
    world.topic.away = True
    await asyncio.sleep(0)

    def note_all(since: int) -> None:
        for number in range(since, since + 20):
            for customer in range(50):
                world.sent.note([profile(customer, title=f"{number}")])
                one = event(customer, first_name=f"{number // 5}")
                one.properties = msgspec.Raw(b'"%b"' % (b"%d" % number * 5_000))
                world.sent.note([one])

    tracemalloc.start()
    try:
        note_all(10)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            note_all(30)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert before < 1_000_000
    assert after < before * 1.2
    assert not world.sent.full
    world.topic.away = False
    await asyncio.sleep(60)
    assert await world.sent.told()
    content = {"external_id": "C-7", "title": "49", "first_name": "9"}
    assert world.topic.people()["i:C-7"] == content
    await end(world)


@virtual
async def test_much_that_was_written_holds_the_reader_until_it_is_told() -> None:
    world = World()
    world.topic.away = True
    count = 0
    while not world.sent.full:
        who = Identity(external_id=f"C-{count % 500}")
        fields = {f"field_{count}": "x" * 10_000}
        world.sent.note([UpsertProfile(who, {}, fields)])
        count += 1
        await asyncio.sleep(0)
    assert count * 10_000 < HELD
    await asyncio.sleep(30)
    assert world.sent.full, "what is being written counts as well"
    world.topic.away = False
    await asyncio.sleep(600)
    assert not world.sent.full
    assert world.sent._bytes == 0
    await end(world)
