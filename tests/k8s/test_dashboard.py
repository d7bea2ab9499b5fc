"""The committed dashboard is the generated one, and a dashboard one can read."""

import json
from typing import Any

from k8s.dashboard import FILE, ROWS, rendered
from tests.k8s.queries import declared, everywhere, metrics


def graphs() -> list[dict[str, Any]]:
    board = json.loads(FILE.read_text())
    inside = [each for panel in board["panels"] for each in panel.get("panels", [])]
    return [each for each in board["panels"] + inside if each["type"] == "timeseries"]


def test_the_committed_one_is_the_generated_one() -> None:
    assert FILE.read_text() == rendered(), "run: python -m k8s.dashboard"


def test_every_panel_is_in_it_with_query_and_unit() -> None:
    wanted = [panel for row in ROWS.values() for panel in row]
    assert [
        (one["title"], one["targets"][0]["expr"], one["fieldConfig"]["defaults"]["unit"])
        for one in graphs()
    ] == [(panel.title, panel.query, panel.unit) for panel in wanted]
    assert len({panel.title for panel in wanted}) == len(wanted)


def test_rates_follow_the_zoom() -> None:
    for row in ROWS.values():
        for panel in row:
            assert "rate(" not in panel.query or "$__rate_interval" in panel.query


def test_every_metric_is_looked_at() -> None:
    """A metric that neither a graph nor an alert shows is measured for nobody."""
    shown = {name for _, query in everywhere() for name in metrics(query)}
    stems = {
        name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        for name in shown
    }
    measured = {
        name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        for name in declared()
    }
    assert measured == stems
