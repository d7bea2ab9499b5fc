"""Writes Grafana's dashboard: `python -m k8s.dashboard`.

A panel is one line below: what it shows, the query, its unit. The JSON is committed, and
a test compares it with what this file makes.
"""

from pathlib import Path
from typing import Final, NamedTuple

from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

__all__ = ["FILE", "ROWS", "Panel", "rendered"]

FILE: Final = Path(__file__).parent / "components/monitoring/dashboard.json"
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH, HEIGHT = 8, 7  # of Grafana's grid, which is 24 wide


class Panel(NamedTuple):
    """One graph; its unit is one of Grafana's names."""

    title: str
    query: str
    unit: str
    legend: str = "{{namespace}}"


def _all(metric: str, matchers: str = "") -> str:
    """The metric in the chosen namespaces."""
    return f'klaviyo_pipeline_{metric}{{namespace=~"$namespace"{matchers}}}'


def _rate(metric: str, by: str, matchers: str = "") -> str:
    return f"sum by ({by}) (rate({_all(metric, matchers)}[$__rate_interval]))"


def _increase(metric: str, by: str, window: str = "$__rate_interval") -> str:
    return f"sum by ({by}) (increase({_all(metric)}[{window}]))"


def _since(metric: str) -> str:
    """Seconds since that timestamp; 0 means that there is none."""
    return f"time() - max by (namespace) ({_all(metric)} > 0)"


def _quantile(quantile: float, metric: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({quantile}, {_rate(f'{metric}_bucket', labels)})"


ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Promises": (
        Panel(
            "Halted (must be 0)",
            f"max by (reason) ({_all('halted')})",
            "short",
            "{{reason}}",
        ),
        Panel(
            "Late: longer than 60 s",
            "1 - "
            + _rate("end_to_end_seconds_bucket", "namespace", ', le="60.0"')
            + " / "
            + _rate("end_to_end_seconds_count", "namespace"),
            "percentunit",
        ),
        Panel(
            "Dead letters by reason",
            _increase("dead_letters_total", "reason"),
            "short",
            "{{reason}}",
        ),
        Panel(
            "From Kafka to Klaviyo, median",
            _quantile(0.5, "end_to_end_seconds"),
            "s",
            "p50",
        ),
        Panel(
            "From Kafka to Klaviyo, slowest hundredth",
            _quantile(0.99, "end_to_end_seconds"),
            "s",
            "p99",
        ),
    ),
    "Throughput": (
        Panel("Read", _rate("records_consumed_total", "topic"), "cps", "{{topic}}"),
        Panel("Ended", _rate("records_settled_total", "result"), "cps", "{{result}}"),
        Panel("Lag", f"sum by (topic) ({_all('consumer_lag')})", "short", "{{topic}}"),
        Panel("Left undone", _rate("skipped_total", "reason"), "cps", "{{reason}}"),
        Panel(
            "Subscriptions withheld",
            _rate("consent_withheld_total", "reason"),
            "cps",
            "{{reason}}",
        ),
        Panel(
            "Fields left out", _rate("degraded_fields_total", "field"), "cps", "{{field}}"
        ),
        Panel(
            "Oldest record in hand",
            f"time() - min by (pod) ({_all('oldest_unsettled_timestamp_seconds')} > 0)",
            "s",
            "{{pod}}",
        ),
    ),
    "Klaviyo": (
        Panel(
            "Quota used",
            f"max by (operation, window) ({_all('quota_used_ratio')})",
            "percentunit",
            "{{operation}} {{window}}",
        ),
        Panel(
            "Answers",
            _rate("api_responses_total", "operation, status"),
            "reqps",
            "{{operation}} {{status}}",
        ),
        Panel(
            "Answer time, slowest twentieth",
            _quantile(0.95, "api_request_seconds", "operation"),
            "s",
            "{{operation}}",
        ),
        Panel(
            "Wait for a permit, slowest twentieth",
            _quantile(0.95, "throttle_wait_seconds", "operation"),
            "s",
            "{{operation}}",
        ),
        Panel(
            "Repeated calls",
            _rate("api_retries_total", "operation, reason"),
            "reqps",
            "{{operation}} {{reason}}",
        ),
        Panel(
            "Rows in a request, mean",
            _rate("batch_size_sum", "operation")
            + " / "
            + _rate("batch_size_count", "operation"),
            "short",
            "{{operation}}",
        ),
        Panel(
            "Revision served",
            f"max by (revision) ({_all('served_revision_info')})",
            "short",
            "{{revision}}",
        ),
        Panel(
            "Revision asked for is served for",
            "-1 * (" + _since("revision_retires_timestamp_seconds") + ")",
            "s",
        ),
        Panel(
            "OAuth token valid for",
            "-1 * (" + _since("token_expires_timestamp_seconds") + ")",
            "s",
        ),
    ),
    "Back from Klaviyo": (
        Panel("Published", _rate("reverse_published_total", "kind"), "cps", "{{kind}}"),
        Panel(
            "Cursor behind",
            _since("reverse_cursor_timestamp_seconds"),
            "s",
        ),
        Panel(
            "Since the last good poll",
            _since("reverse_last_success_timestamp_seconds"),
            "s",
        ),
        Panel(
            "Own changes recognised",
            _rate("reverse_echoes_suppressed_total", "namespace"),
            "cps",
        ),
        Panel(
            "Found late by the sweep",
            _increase("reverse_found_late_total", "namespace"),
            "short",
        ),
        Panel(
            "Malformed profiles",
            _increase("reverse_malformed_total", "namespace"),
            "short",
        ),
        Panel("Audits", _increase("audits_total", "result"), "short", "{{result}}"),
        Panel(
            "Audit mismatches",
            _increase("audit_mismatches_total", "namespace"),
            "short",
        ),
    ),
    "Group and process": (
        Panel(
            "Assignments in an hour",
            _increase("rebalances_total", "pod", "1h"),
            "short",
            "{{pod}}",
        ),
        Panel("Refused commits", _rate("commit_failures_total", "pod"), "cps", "{{pod}}"),
        Panel(
            "In flight",
            f"sum by (pod, stage) ({_all('in_flight')})",
            "short",
            "{{pod}} {{stage}}",
        ),
        Panel(
            "Bytes in hand", f"sum by (pod) ({_all('buffer_bytes')})", "bytes", "{{pod}}"
        ),
        Panel(
            "Versions",
            f"count by (version) ({_all('build_info')})",
            "short",
            "{{version}}",
        ),
    ),
}


def rendered() -> str:
    """The dashboard as Grafana imports it."""
    board = (
        dashboard.Dashboard("Klaviyo pipeline")
        .uid("klaviyo-pipeline")
        .tags(["klaviyo", "kafka"])
        .time("now-6h", "now")
        .refresh("30s")
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("namespace")
            .datasource(SOURCE)
            .query("label_values(klaviyo_pipeline_build_info, namespace)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(multi=True)
            .include_all(include_all=True)
        )
    )
    for row, panels in ROWS.items():
        board.with_row(dashboard.Row(row))
        for panel in panels:
            board.with_panel(_graph(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _graph(panel: Panel) -> timeseries.Panel:
    return (
        timeseries.Panel()
        .title(panel.title)
        .datasource(SOURCE)
        .unit(panel.unit)
        .span(WIDTH)
        .height(HEIGHT)
        .with_target(prometheus.Dataquery().expr(panel.query).legend_format(panel.legend))
    )


if __name__ == "__main__":
    FILE.write_text(rendered(), encoding="utf-8")
