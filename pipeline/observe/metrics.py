"""Every metric: what it means and when it is bad news. Dashboards know the names.

Labels are bounded: topics and partitions we are assigned, operations of `klaviyo.client`,
closed lists of reasons. No customer data ever.
"""

import bisect
import collections
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["Metrics", "counted"]

_PREFIX = "klaviyo_pipeline"
_END_TO_END = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)  # s
_API = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
)  # s; 30 = our timeout
_WAIT = (0.001, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120)  # s; 60 = a steady window
_ROWS = (1, 2, 5, 10, 50, 100, 250, 500, 750, 1000, 2500, 5000, 10000)


class Latencies(Histogram):
    """A histogram that takes many values at once: a bulk request ends a thousand."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Do as `observe` for each."""
        bounds = self._upper_bounds
        counts = collections.Counter([bisect.bisect_left(bounds, x) for x in amounts])
        self._sum.inc(sum(amounts))
        for bucket, count in counts.items():
            self._buckets[bucket].inc(count)


class Metrics:
    """All metrics on one registry, made once by the composition root."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, namespace=_PREFIX, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, namespace=_PREFIX, registry=self.registry)

        def histogram(
            name: str, text: str, buckets: tuple[float, ...], *labels: str
        ) -> Histogram:
            return Histogram(
                name,
                text,
                labels,
                namespace=_PREFIX,
                registry=self.registry,
                buckets=buckets,
            )

        # -- the way of a record ---------------------------------------------------------
        self.records_consumed = counter(
            "records_consumed_total",
            "Records read from Kafka. Flat with lag: bad.",
            "topic",
        )
        self.records_lost = counter(
            "records_lost_total",
            "Records Kafka deleted before they were delivered. Any: raise its retention.",
            "topic",
        )
        self.records_settled = counter(
            "records_settled_total",
            "Records that ended, as delivered, skipped or dead_lettered.",
            "topic",
            "result",
        )
        self.skipped = counter(
            "skipped_total",
            "Records, and parts of delivered records, left undone on purpose, by reason.",
            "reason",
        )
        self.dead_letters = counter(
            "dead_letters_total",
            "Dead letters the broker acknowledged. Any growth deserves a look.",
            "reason",
        )
        self.degraded_fields = counter(
            "degraded_fields_total",
            "Fields repaired or left out so that the rest could be delivered.",
            "field",
        )
        self.consent_withheld = counter(
            "consent_withheld_total",
            "Subscriptions not asked for: newer when the person has unsubscribed since, "
            "repeated when it was asked for in the last 30 minutes.",
            "reason",
        )
        self.end_to_end = Latencies(
            "end_to_end_seconds",
            "From the record's Kafka timestamp to Klaviyo's acceptance.",
            namespace=_PREFIX,
            registry=self.registry,
            buckets=_END_TO_END,
        )
        # -- calls to Klaviyo ------------------------------------------------------------
        self.api_request_seconds = histogram(
            "api_request_seconds",
            "One attempt, from send to the end of the answer.",
            _API,
            "operation",
            "status_class",
        )
        self.api_responses = counter(
            "api_responses_total",
            "Answers by status; `none` when no answer came.",
            "operation",
            "status",
        )
        self.api_retries = counter(
            "api_retries_total",
            "Attempts repeated, by reason. `throttled` must stay 0 if we are alone.",
            "operation",
            "reason",
        )
        self.throttle_wait = histogram(
            "throttle_wait_seconds",
            "Wait for a permit. High at a backlog is the quota; high when idle is bad.",
            _WAIT,
            "operation",
        )
        self.quota_used = gauge(
            "quota_used_ratio",
            "Part of the window's quota in use. Near 1 with growing lag: buy quota.",
            "operation",
            "window",
        )
        self.batch_size = histogram(
            "batch_size", "Rows in one request.", _ROWS, "operation"
        )
        self.token_expires = gauge(
            "token_expires_timestamp_seconds",
            "End of the OAuth access token; 0 without one. Past: refreshing fails.",
        )
        self.served_revision = gauge(
            "served_revision_info",
            "1 for the revision Klaviyo really serves.",
            "revision",
        )
        self.revision_retires = gauge(
            "revision_retires_timestamp_seconds",
            "Day from which the revision asked for is not served. Near: act.",
        )
        # -- the audit -------------------------------------------------------------------
        self.audits = counter(
            "audits_total",
            "Accepted items looked after: held, mismatch, overtaken by a later change, "
            "unread when Klaviyo did not show them, crowded when too many waited.",
            "result",
        )
        self.audit_mismatches = counter(
            "audit_mismatches_total",
            "Accepted, yet not held by Klaviyo; the log says where. Any growth: bad.",
            "operation",
        )
        # -- progress and bounds ---------------------------------------------------------
        self.consumer_lag = gauge(
            "consumer_lag",
            "Records behind the end, counted from the committed offset.",
            "topic",
            "partition",
        )
        self.oldest_unsettled = gauge(
            "oldest_unsettled_timestamp_seconds",
            "Kafka timestamp of the oldest record in hand; 0 when none. Old: stuck.",
        )
        self.in_flight = gauge("in_flight", "Records or requests under way.", "stage")
        self.buffer_bytes = gauge(
            "buffer_bytes", "Bytes in hand; bounded by deliver.buffer_bytes."
        )
        self.rebalances = counter(
            "rebalances_total", "Assignments received. Many an hour: unstable group."
        )
        self.commit_failures = counter(
            "commit_failures_total",
            "Commits refused or timed out; repeated by themselves.",
        )
        self.halted = gauge(
            "halted", "1 while the flow stands still for this reason. Page.", "reason"
        )
        # -- back from Klaviyo -----------------------------------------------------------
        self.reverse_cursor = gauge(
            "reverse_cursor_timestamp_seconds",
            "Everything changed in Klaviyo before is published. Old: stuck.",
        )
        self.reverse_published = counter(
            "reverse_published_total",
            "Profile changes published, as created, updated or deleted.",
            "kind",
        )
        self.reverse_echoes = counter(
            "reverse_echoes_suppressed_total",
            "Changes read back that we had written ourselves.",
        )
        self.reverse_found_late = counter(
            "reverse_found_late_total",
            "Changes only the full reading found, deletions aside. Many: raise overlap.",
        )
        self.reverse_malformed = counter(
            "reverse_malformed_total",
            "Profiles in a listing that could not be read. Any: look at the log.",
        )
        self.reverse_last_success = gauge(
            "reverse_last_success_timestamp_seconds",
            "When a poll last ended well. Old: Klaviyo or Kafka is away, or standby.",
        )
        self.build = gauge("build_info", "Always 1.", "version", "revision")


def counted(counter: Counter, label: str) -> "collections.Counter[str]":
    """Give what a counter has counted so far, by one of its labels; none at 0."""
    found: collections.Counter[str] = collections.Counter()
    for family in counter.collect():
        for sample in family.samples:
            if sample.name.endswith("_total"):
                found[sample.labels[label]] += int(sample.value)
    return +found
