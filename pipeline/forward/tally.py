"""What the forward direction counts: from records to the metrics of contract 8."""

import collections
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pipeline.clock import Clock
from pipeline.kafka.consumer import Reader
from pipeline.observe.metrics import Metrics
from pipeline.records import Dead, Delivered, Record, Skipped, Ticket
from schemas.event import Plan

if TYPE_CHECKING:  # stages know each other's shapes, only flow.py joins them
    from pipeline.forward.checkpoint import Checkpoint

__all__ = ["Tally"]

ENDS: Final[dict[str, type[Delivered | Skipped | Dead]]] = {
    "delivered": Delivered,
    "skipped": Skipped,
    "dead_lettered": Dead,
}


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
        metrics, now = self._metrics, self._clock.now()
        for result, end in ENDS.items():
            topics = [t.record.topic for t in tickets if isinstance(t.outcome, end)]
            for topic, count in collections.Counter(topics).items():
                metrics.records_settled.labels(topic, result).inc(count)
        metrics.end_to_end.observe_all(
            [
                max(0.0, now - t.record.timestamp / 1000)
                for t in tickets
                if isinstance(t.outcome, Delivered)
            ]
        )
        for ticket in tickets:
            if isinstance(ticket.outcome, Skipped):
                metrics.skipped.labels(ticket.outcome.reason).inc()

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
