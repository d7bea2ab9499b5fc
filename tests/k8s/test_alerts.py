"""Each alert fires, stays silent and recovers; and says what to do."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.queries import declared, everywhere, labels, metrics
from tests.k8s.tools import K8S, ROOT, rules_files, run

CASES = sorted((Path(__file__).parent / "alerts").glob("*.yaml"))


def alerts() -> list[dict[str, Any]]:
    resource = yaml.safe_load((K8S / "components/monitoring/alerts.yaml").read_text())
    return [rule for group in resource["spec"]["groups"] for rule in group["rules"]]


def test_prometheus_reads_the_rules(tmp_path: Path) -> None:
    run("promtool", "check", "rules", "--lint-fatal", *rules_files(tmp_path))


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_cases(cases: Path, tmp_path: Path) -> None:
    rules_files(tmp_path)
    (tmp_path / cases.name).write_text(cases.read_text())
    run("promtool", "test", "rules", cases.name, cwd=tmp_path)


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_fires_recovers_and_stays_silent_in_its_cases(
    alert: dict[str, Any],
) -> None:
    name = alert["alert"]
    (file,) = [path for path in CASES if path.stem == name]
    cases = [
        [
            (check["alertname"], bool(check["exp_alerts"]))
            for check in one["alert_rule_test"]
        ]
        for one in yaml.safe_load(file.read_text())["tests"]
    ]
    ends = [(name, True), (name, False)]
    assert any(case[-2:] == ends for case in cases), "no case fires and then recovers"
    assert any(all(c == (name, False) for c in case) for case in cases), "none is silent"


def test_no_cases_without_an_alert() -> None:
    assert {path.stem for path in CASES} == {alert["alert"] for alert in alerts()}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_has_its_entry_in_the_runbook(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"]["runbook"] == f"README.md, Runbook, {name}"
    readme = (ROOT / "README.md").read_text()
    runbook = readme.partition("## Runbook\n")[2].partition("\n## ")[0]
    entry = re.search(rf"^- \*\*{name}\*\*", runbook, re.MULTILINE)
    assert entry, f"README.md, Runbook, has no entry for {name}"


@pytest.mark.parametrize(("place", "query"), [*everywhere()], ids=lambda text: text[:60])
def test_queries_name_only_what_is_measured(place: str, query: str) -> None:
    known = declared()
    named = metrics(query)
    assert named <= known.keys(), place
    own = set().union(*(known[metric] for metric in named))
    assert labels(query) <= own, place


def test_recorded_names_are_recorded() -> None:
    recorded = {place for place, _ in everywhere() if ":" in place}
    used = {
        name
        for _, query in everywhere()
        for name in re.findall(r"namespace:klaviyo_pipeline_\w+:\w+", query)
    }
    assert used
    assert used <= recorded
