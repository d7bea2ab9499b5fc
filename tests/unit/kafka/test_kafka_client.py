"""What we rely on inside aiokafka: an upgrade that changes it must fail here first."""

import inspect
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.record import default_records

from pipeline.kafka.client import REBALANCE_LIMIT, Client
from pipeline.kafka.membership import REVOKE_BUDGET
from pipeline.settings import Kafka


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    made = Client(Kafka(group="g", session_timeout=10))
    yield made
    await made.close()


async def test_the_traps_in_its_options_are_avoided(client: Client) -> None:
    consumer = client._consumer
    assert consumer._enable_auto_commit is False, "stop() would hang in an outage"
    assert consumer._auto_offset_reset == "none", "a reset is a silent jump"
    assert consumer._key_deserializer is None, "one that raises stops a partition"
    assert consumer._value_deserializer is None
    assert consumer._session_timeout_ms == 10_000
    assert consumer._heartbeat_interval_ms == 2_000
    assert consumer._max_poll_interval_ms > 365 * 86_400_000, "it may stand for days"
    assert consumer._partition_assignment_strategy == (RangePartitionAssignor,)


async def test_the_budgets_fit_into_each_other(client: Client) -> None:
    consumer = client._consumer
    assert consumer._rebalance_timeout_ms == REBALANCE_LIMIT * 1000
    assert REVOKE_BUDGET < REBALANCE_LIMIT, "a member that drains must not be dropped"
    assert consumer._request_timeout_ms > consumer._rebalance_timeout_ms, (
        "JoinGroup is answered when the slowest member has joined"
    )


async def test_closing_what_was_never_opened_is_quiet(client: Client) -> None:
    await client.close()
    assert client._consumer._closed


def test_the_insides_are_where_we_look_for_them() -> None:
    consumer = inspect.getsource(AIOKafkaConsumer)
    for name in ("_fetcher", "_coordinator", "_subscription", "_client"):
        assert f"self.{name} = " in consumer
    coordinator = inspect.getsource(GroupCoordinator)
    tasks = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task")
    for name in (*tasks, "_rejoin_needed_fut", "member_id"):
        assert f"self.{name} = " in coordinator
    inside = inspect.getsource(fetcher.Fetcher)
    for name in ("_records", "_fetch_task", "_pending_tasks", "_fetch_waiters"):
        assert f"self.{name} = " in inside
    assert "self._max_partition_fetch_bytes)" in inside, "read anew for each request"


def test_nothing_is_awaited_when_asked_without_patience() -> None:
    """`Client.take` cannot be cancelled half-way because of these lines."""
    source = inspect.getsource(fetcher.Fetcher.fetched_records)
    before, _, after = source.partition("if drained or not timeout:")
    assert before.count("await") == 1, "only for the end of a rebalance"
    assert "if self._subscriptions.reassignment_in_progress:" in before
    assert after.lstrip().startswith("return drained")


def test_the_compiled_parser_is_there() -> None:
    compiled = default_records.DefaultRecordBatch
    assert compiled is not default_records._DefaultRecordBatchPy


def test_prefetch_is_shared_between_the_partitions() -> None:
    class Fetcher:
        _max_partition_fetch_bytes = 0

    class Consumer:
        _fetcher = Fetcher()

        def seek(self, *_: object) -> None: ...

    client = object.__new__(Client)
    client._consumer = Consumer()
    sizes = []
    for count in (1, 8, 100, 10_000):
        client.seek({("t", number): 0 for number in range(count)})
        sizes.append(Consumer._fetcher._max_partition_fetch_bytes)
    assert sizes == [4 * 2**20, 3 * 2**20, 24 * 2**20 // 100, 64 * 2**10]
