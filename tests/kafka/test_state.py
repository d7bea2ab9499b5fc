"""Facts in the state topic, on real Kafka and on the embedded broker."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from confluent_kafka import Producer as Writer

from pipeline.demo.broker import Broker
from pipeline.errors import KafkaUnreachable
from pipeline.kafka.admin import Admin
from pipeline.kafka.format import TooNew
from pipeline.kafka.producer import Unwritable
from pipeline.kafka.state import State
from pipeline.settings import Kafka
from tests.brokers.apache import Apache

pytestmark = pytest.mark.timeout(60)
Open = Callable[..., State]


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def bootstrap(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "apache":
        broker: Apache = request.getfixturevalue("kafka")
        yield broker.bootstrap
    else:
        with Broker() as mock:
            yield mock.address


@pytest.fixture
async def opened(bootstrap: str) -> AsyncIterator[Open]:
    """`opened(prefix, topic=...)`: one topic unless told, closed at the end."""
    topic, made = f"state-{uuid.uuid4().hex[:8]}", []
    await Admin(Kafka(bootstrap_servers=bootstrap)).create_missing(topic, compact=True)

    def state(prefix: str = "shop/oauth", *, named: str = topic) -> State:
        made.append(State(Kafka(bootstrap_servers=bootstrap), named, prefix))
        return made[-1]

    yield state
    for each in made:
        await each.close()


async def test_the_latest_value_of_each_key_is_there_for_another_process(
    opened: Open,
) -> None:
    state = opened()
    assert await state.load() == {}
    for number in range(20):
        await state.put("tokens", b"%d" % number)
    await state.put("gone", b"x")
    await state.put("gone", None)
    await state.put("empty", b"")
    await state.put("claim/1", b"y")
    expected = {"tokens": b"19", "empty": b"", "claim/1": b"y"}
    assert await opened().load() == expected
    assert await state.load() == expected


async def test_a_prefix_sees_its_own_keys_alone(opened: Open) -> None:
    await opened("shop/oauth").put("a", b"1")
    await opened("shop/oauth2").put("a", b"2")
    await opened("shop").put("b", b"3")
    assert await opened("shop/oauth").load() == {"a": b"1"}
    assert await opened("shop/oauth2").load() == {"a": b"2"}


async def test_a_later_load_sees_what_others_wrote_and_took_away(opened: Open) -> None:
    reader, writer = opened(), opened()
    await writer.put("a", b"1")
    await writer.put("b", b"1")
    assert await reader.load() == {"a": b"1", "b": b"1"}
    await writer.put("a", None)
    await writer.put("b", b"2")
    assert await reader.load() == {"b": b"2"}
    assert await reader.load() == {"b": b"2"}


async def test_loads_and_puts_side_by_side(opened: Open) -> None:
    state = opened()
    await asyncio.gather(*(state.put(f"k{n}", b"v") for n in range(50)))
    first, second = await asyncio.gather(state.load(), state.load())
    assert first == second == {f"k{n}": b"v" for n in range(50)}


async def test_a_topic_that_is_missing_is_empty(opened: Open) -> None:
    assert await opened(named=f"no-{uuid.uuid4().hex[:8]}").load() == {}


@pytest.mark.kafka
async def test_it_is_made_compacted_and_what_is_not_committed_is_not_read(
    kafka: Apache,
) -> None:
    topic = f"state-{uuid.uuid4().hex[:8]}"
    settings = Kafka(bootstrap_servers=kafka.bootstrap)
    admin = Admin(settings)
    await admin.create_missing(topic, compact=True)
    made = (await admin.describe([topic]))[topic]
    assert made is not None
    assert made.cleanup_policy == "compact"

    def write(value: bytes, *, commit: bool) -> None:
        writer = Writer(
            {"bootstrap.servers": kafka.bootstrap, "transactional.id": uuid.uuid4().hex}
        )
        writer.init_transactions(20)
        writer.begin_transaction()
        writer.produce(topic, value, b"shop/jobs/a")
        writer.flush(20)
        (writer.commit_transaction if commit else writer.abort_transaction)(20)

    state = State(settings, topic, "shop/jobs")
    await asyncio.to_thread(write, b"good", commit=True)
    await asyncio.to_thread(write, b"aborted", commit=False)
    assert await state.load() == {"a": b"good"}
    assert await state.load() == {"a": b"good"}


@pytest.mark.kafka
async def test_a_topic_that_cannot_be_written_is_said(kafka: Apache) -> None:
    state = State(Kafka(bootstrap_servers=kafka.bootstrap), "never-made", "shop")
    with pytest.raises(Unwritable, match="never-made"):
        await state.put("a", b"1")
    await state.close()


@pytest.mark.parametrize("act", [lambda s: s.load(), lambda s: s.put("a", b"1")])
async def test_no_broker_is_said_in_time(
    act: Callable[[State], Awaitable[object]],
) -> None:
    state = State(Kafka(bootstrap_servers="127.0.0.1:9"), "t", "shop")
    async with asyncio.timeout(40):
        with pytest.raises(KafkaUnreachable, match=r"127\.0\.0\.1:9"):
            await act(state)
    await state.close()


async def test_what_the_next_release_wrote_is_read_and_later_ones_are_refused(
    opened: Open, bootstrap: str
) -> None:
    state = opened()
    await state.put("jobs", b"ours")
    writer = Writer({"bootstrap.servers": bootstrap})

    def write(prefix: str, number: bytes) -> None:
        header: list[tuple[str, str | bytes | None]] = [("format", number)]
        writer.produce(state._topic, b"{}", f"{prefix}/{number!r}", headers=header)
        assert writer.flush(10) == 0

    await asyncio.to_thread(write, "shop/oauth", b"2")
    await asyncio.to_thread(write, "another/oauth", b"3")
    assert await state.load() == {"jobs": b"ours", "b'2'": b"{}"}
    await asyncio.to_thread(write, "shop/oauth", b"3")
    with pytest.raises(TooNew, match="format 3"):
        await opened().load()
