"""Gauges say what this replica owns now, not what it once owned."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

from pipeline.clock import SYSTEM
from pipeline.forward.checkpoint import Checkpoint
from pipeline.forward.tally import Tally
from pipeline.kafka.consumer import Consumer
from pipeline.observe.metrics import Metrics
from pipeline.records import Partition, Record


class Ends:
    """The part of a consumer that knows the ends of its partitions."""

    def __init__(
        self,
        ends: Mapping[Partition, int],
        begins: Mapping[Partition, int] = MappingProxyType({}),
    ) -> None:
        self._ends, self._begins = ends, begins

    def highwater(self, partition: Partition) -> int | None:
        return self._ends.get(partition)

    def began(self, partition: Partition) -> int | None:
        return self._begins.get(partition)


def lags(metrics: Metrics) -> dict[Any, float]:
    (family,) = metrics.consumer_lag.collect()
    return {each.labels["partition"]: each.value for each in family.samples}


def test_the_lag_of_a_partition_that_moved_is_no_longer_told() -> None:
    metrics, checkpoint = Metrics(), Checkpoint()
    tally = Tally(metrics, SYSTEM)
    stays, moves = ("orders", 0), ("orders", 1)
    consumer = cast("Consumer", Ends({stays: 10, moves: 10}))

    checkpoint.assign({stays: (), moves: ()})
    for partition in (stays, moves):
        assert checkpoint.open(Record(*partition, 4, 0, None, b"")) is not None
    tally.state(checkpoint, 0, consumer)
    assert lags(metrics) == {"0": 6, "1": 6}

    checkpoint.revoke()
    checkpoint.assign({stays: ()})
    assert checkpoint.open(Record(*stays, 4, 0, None, b"")) is not None
    tally.state(checkpoint, 0, consumer)
    assert lags(metrics) == {"0": 6}


def test_what_waits_is_told_before_the_first_record_is_read() -> None:
    """A flow that is halted from its start on, by a wrong key, has a backlog too."""
    metrics, checkpoint = Metrics(), Checkpoint()
    tally = Tally(metrics, SYSTEM)
    waits, empty, unknown = (("orders", number) for number in range(3))
    consumer = cast("Consumer", Ends({waits: 10, empty: 4}, {waits: 3, empty: 4}))

    checkpoint.assign({waits: (), empty: (), unknown: ()})
    tally.state(checkpoint, 0, consumer)
    assert lags(metrics) == {"0": 7, "1": 0}

    assert checkpoint.open(Record(*waits, 5, 0, None, b"")) is not None
    tally.state(checkpoint, 0, consumer)
    assert lags(metrics) == {"0": 5, "1": 0}
