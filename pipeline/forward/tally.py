"""What the forward direction counts: from records to metrics."""

import collections
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.clock import Clock
from pipeline.kafka.consumer import Reader
from pipeline.observe.metrics import Metrics
from pipeline.records import Delivered, Record, Skipped, Ticket
from schemas.event import Plan

if TYPE_CHECKING:  # stages know each other's shapes, only flow.py joins them
    from pipeline.forward.checkpoint import Checkpoint

__all__ = ["Tally"]


class Tally:
    """Counts what comes together together: this runs for each record."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock

    def consumed(self, records: Sequence[Record]) -> None:
        """Records came in."""
        topics = collections.Counter([record.topic for record in records])
        for topic, count in topics.items():
            self._metrics.records_consumed.labels(topic).inc(count)

    def planned(self, plan: Plan) -> None:
        """What a plan left out beside what it does."""
        for field in plan.degraded:
            self._metrics.degraded_fields.labels(field).inc()
        for reason in plan.skipped:
            self._metrics.skipped.labels(reason).inc()

    def ended(self, tickets: Sequence[Ticket]) -> None:
        """Records reached their end, as their tickets say."""
        now = self._clock.now()
        ends: dict[tuple[str, str], int] = {}
        waits: list[float] = []
        for ticket in tickets:
            record, outcome = ticket.record, ticket.outcome
            result = "dead_lettered"
            if isinstance(outcome, Delivered):
                result = "delivered"
                waits.append(max(0.0, now - record.timestamp / 1000))
            elif isinstance(outcome, Skipped):
                result = "skipped"
                self._metrics.skipped.labels(outcome.reason).inc()
            end = record.topic, result
            ends[end] = ends.get(end, 0) + 1
        for labels, count in ends.items():
            self._metrics.records_settled.labels(*labels).inc(count)
        if waits:
            self._metrics.end_to_end.observe_all(waits)

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
            if done is None:  # nothing of it was read yet, as while the flow is halted
                done = consumer.began(partition)
            if end is not None and done is not None:
                topic, number = partition
                metrics.consumer_lag.labels(topic, number).set(max(0, end - done))
