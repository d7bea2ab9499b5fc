"""A dead letter counts when the broker has it, in whatever form it fits."""

import asyncio
from typing import Any

import pytest

from pipeline.forward.dead_letters import CUT, DeadLetters
from pipeline.kafka.producer import TooLarge, Unwritable
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import Dead, Record
from tests.virtual_time import LoopClock, virtual

DEAD = Dead("schema", "decode", "Expected `str`", pointer="$.customer.email")


class Topic:
    """A dead-letter topic with a limit, that may be away."""

    def __init__(self, limit: int = 10**9) -> None:
        self.limit = limit
        self.away = False
        self.kept: list[Any] = []

    async def send(
        self, topic: str, key: bytes | None, value: Any, headers: Any, timestamp_ms: int
    ) -> None:
        if self.away:
            raise Unwritable("the topic is away")
        size = (
            len(key or b"") + len(value or b"") + sum(len(v or b"") for _, v in headers)
        )
        if size > self.limit:
            raise TooLarge("too large")
        self.kept.append((key, value, headers, timestamp_ms))


def letters(topic: Any) -> tuple[DeadLetters, Health]:
    metrics = Metrics()
    health = Health(metrics, LoopClock())
    return DeadLetters(topic, "dead", "sub", health, metrics), health


def record(value: bytes, headers: Any = ((("trace", b"1"),))) -> Record:
    return Record("orders", 2, 77, 123, b"key", value, headers)


@virtual
async def test_a_header_without_a_value_stays_without_one() -> None:
    topic = Topic()
    brought = (("none", None), ("blank", b""), ("trace", b"1"))
    await letters(topic)[0].write(record(b"value", brought), DEAD)
    assert tuple(topic.kept[0][2][:3]) == brought


@virtual
async def test_the_original_stands_beside_its_reason() -> None:
    topic = Topic()
    await letters(topic)[0].write(record(b"value"), DEAD)
    key, value, headers, at = topic.kept[0]
    assert (key, value, at) == (b"key", b"value", 123)
    assert headers[0] == ("trace", b"1")
    found = dict(headers)
    assert found["__connect.errors.topic"] == b"orders"
    assert found["__connect.errors.partition"] == b"2"
    assert found["__connect.errors.offset"] == b"77"
    assert found["klaviyo.reason"] == b"schema"
    assert found["klaviyo.pointer"] == b"$.customer.email"
    assert "klaviyo.truncated" not in found


@virtual
async def test_too_large_a_value_is_cut_and_says_so() -> None:
    topic = Topic(limit=CUT + 2000)
    await letters(topic)[0].write(record(b"x" * 10**6), DEAD)
    _, value, headers, _ = topic.kept[0]
    assert value == b"x" * CUT
    assert dict(headers)["klaviyo.truncated"] == b"1000000"
    assert dict(headers)["__connect.errors.offset"] == b"77"


@virtual
async def test_too_large_headers_leave_at_least_where_to_find_it() -> None:
    topic = Topic(limit=2000)
    await letters(topic)[0].write(record(b"x", (("big", b"h" * 5000),)), DEAD)
    _, value, headers, _ = topic.kept[0]
    assert value == b""
    assert "big" not in dict(headers)
    assert dict(headers)["__connect.errors.offset"] == b"77"


@virtual
async def test_a_topic_that_is_away_halts_the_flow_until_it_is_back() -> None:
    topic = Topic()
    topic.away = True
    dead_letters, health = letters(topic)
    writing = asyncio.create_task(dead_letters.write(record(b"v"), DEAD))
    await asyncio.sleep(60)
    assert health.halted
    assert not writing.done()
    topic.away = False
    await writing
    assert not health.halted
    assert len(topic.kept) == 1


@virtual
async def test_a_topic_that_takes_nothing_at_all_is_an_error() -> None:
    with pytest.raises(TooLarge):
        await letters(Topic(limit=0))[0].write(record(b"v"), DEAD)
