"""What every producer promises: the fake is held to it as the real one is."""

from collections.abc import AsyncIterator

import pytest

from pipeline.kafka import producer as module
from pipeline.kafka.producer import TooLarge, Unwritable
from tests.kafka.worlds import AnyProducer, World


@pytest.fixture
async def producer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AnyProducer]:
    monkeypatch.setattr(module, "TOPIC_LIMIT", 1.0)
    await world.create(f"{world.number}-letters")
    made = world.producer()
    await made.start()
    yield made
    await made.stop()


async def test_what_is_sent_is_there(world: World, producer: AnyProducer) -> None:
    topic = f"{world.number}-letters"
    await producer.send(topic, b"k", b"1", (("a", b"b"),), 1000)
    await producer.send(topic, b"k", None, ())
    assert await world.values(topic) == [b"1", None]


async def test_too_large_is_told_apart_from_unwritable(
    world: World, producer: AnyProducer
) -> None:
    topic = f"{world.number}-letters"
    with pytest.raises(TooLarge, match=topic):
        await producer.send(topic, b"k", b"x" * 2_000_000, ())
    with pytest.raises(Unwritable, match=f"{topic}-missing"):
        await producer.send(f"{topic}-missing", b"k", b"1", ())
    await producer.send(topic, b"k", b"1", ())
    assert await world.values(topic) == [b"1"]
