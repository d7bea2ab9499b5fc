"""What the forward direction counts: from records to the metrics of contract 8."""

import collections
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import Counter

from pipeline.clock import Clock
from pipeline.kafka.consumer import Reader
from pipeline.observe.metrics import Metrics
from pipeline.records import Dead, Delivered, Outcome, Record, Skipped
from schemas.event import Plan

if TYPE_CHECKING:  # stages know each other's shapes, only flow.py joins them
    from pipeline.forward.checkpoint import Checkpoint

__all__ = ["Tally"]


class Tally:
    """Counters are looked up once: this runs for each record."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._settled: dict[tuple[str, str], Counter] = {}

    def consumed(self, records: Iterable[Record]) -> None:
        """Records came in."""
        topics = collections.Counter(record.topic for record in records)
        for topic, count in topics.items():
            self._metrics.records_consumed.labels(topic).inc(count)

    def planned(self, plan: Plan) -> None:
        """What a plan left out beside what it does."""
        for field in plan.degraded:
            self._metrics.degraded_fields.labels(field).inc()
        for reason in plan.skipped:
            self._metrics.skipped.labels(reason).inc()

    def ended(self, record: Record, outcome: Outcome) -> None:
        """A record reached its end."""
        result = "dead_lettered"
        match outcome:
            case Delivered():
                result = "delivered"
                age = self._clock.now() - record.timestamp / 1000
                self._metrics.end_to_end.observe(max(0.0, age))
            case Skipped():
                result = "skipped"
                self._metrics.skipped.labels(outcome.reason).inc()
            case Dead():
                pass
        counter = self._settled.get((record.topic, result))
        if counter is None:
            counter = self._metrics.records_settled.labels(record.topic, result)
            self._settled[record.topic, result] = counter
        counter.inc()

    def state(self, checkpoint: "Checkpoint", requests: int, consumer: Reader) -> None:
        """Gauges, once a second."""
        metrics = self._metrics
        metrics.in_flight.labels("records").set(checkpoint.records)
        metrics.in_flight.labels("requests").set(requests)
        metrics.buffer_bytes.set(checkpoint.bytes)
        metrics.oldest_unsettled.set((checkpoint.oldest() or 0) / 1000)
        metrics.consumer_lag.clear()  # one that moved is another replica's to tell
        for partition in checkpoint.partitions():
            end = consumer.highwater(partition)
            done = checkpoint.position(partition)
            if end is not None and done is not None:
                topic, number = partition
                metrics.consumer_lag.labels(topic, number).set(max(0, end - done))
