"""The metrics that dashboards of others rely on: names and labels never change."""

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Counter, Gauge, Histogram

from pipeline.observe.metrics import Latencies, Metrics

PROMISED = """
records_consumed_total{topic} records_settled_total{topic,result}
dead_letters_total{reason} degraded_fields_total{field} end_to_end_seconds
api_request_seconds{operation,status_class} api_responses_total{operation,status}
api_retries_total{operation,reason} throttle_wait_seconds{operation}
quota_used_ratio{operation,window} batch_size{operation} consumer_lag{topic,partition}
oldest_unsettled_timestamp_seconds in_flight{stage} buffer_bytes rebalances_total
commit_failures_total halted{reason} reverse_cursor_timestamp_seconds
reverse_published_total{kind} reverse_echoes_suppressed_total
reverse_last_success_timestamp_seconds token_expires_timestamp_seconds
served_revision_info{revision} build_info
"""
PIPELINE = Path(__file__).parents[3] / "pipeline"


def test_what_was_promised_is_there() -> None:
    measured = {}
    for metric in vars(Metrics()).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            end = "_total" if isinstance(metric, Counter) else ""
            measured[metric._name + end] = set(metric._labelnames)
    for name, labels in re.findall(r"(\w+)(?:{([\w,]*)})?", PROMISED):
        promised = {label for label in labels.split(",") if label}
        assert promised <= measured[f"klaviyo_pipeline_{name}"], name


def test_each_is_measured_somewhere() -> None:
    """A metric that nobody sets stays at 0 and calms for nothing."""
    code = "".join(
        file.read_text() for file in PIPELINE.rglob("*.py") if file.name != "metrics.py"
    )
    for name, metric in vars(Metrics()).items():
        if isinstance(metric, Counter | Gauge | Histogram):
            assert re.search(rf"metrics\.{name}\b", code), name


@given(amounts=st.lists(st.integers(0, 40).map(lambda eighths: eighths / 8)))
def test_values_counted_together_are_counted_as_one_by_one(amounts: list[float]) -> None:
    together = Latencies("a", "", buckets=(0.5, 1, 2.5), registry=None)
    apart = Histogram("a", "", buckets=(0.5, 1, 2.5), registry=None)
    together.observe_all(amounts)
    for amount in amounts:
        apart.observe(amount)
    (told,), (expected,) = together.collect(), apart.collect()
    assert [s for s in told.samples if s.name != "a_created"] == [
        s for s in expected.samples if s.name != "a_created"
    ]
