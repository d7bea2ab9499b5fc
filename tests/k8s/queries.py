"""What the queries of alerts, dashboard and autoscaler name, and what there is."""

import re
from collections.abc import Iterator

import yaml
from prometheus_client import Counter, Gauge, Histogram

from k8s.dashboard import ROWS
from pipeline.observe.metrics import Metrics
from tests.k8s.tools import K8S

__all__ = ["declared", "everywhere", "labels", "metrics"]

TARGET = {"namespace", "pod"}  # labels that Prometheus puts on everything it scrapes


def declared() -> dict[str, set[str]]:
    """Series that the program exposes, without prefix, with their own labels."""
    found: dict[str, set[str]] = {}
    for metric in vars(Metrics()).values():
        if not isinstance(metric, Counter | Gauge | Histogram):
            continue
        name, own = metric._name.removeprefix("klaviyo_pipeline_"), {*metric._labelnames}
        match metric:
            case Counter():
                found[f"{name}_total"] = own
            case Histogram():
                found[f"{name}_bucket"] = own | {"le"}
                found[f"{name}_sum"] = found[f"{name}_count"] = own
            case Gauge():
                found[name] = own
    return found


def everywhere() -> Iterator[tuple[str, str]]:
    """Every query there is, with where it stands."""
    for name in ("slo", "alerts"):
        resource = yaml.safe_load(
            (K8S / f"components/monitoring/{name}.yaml").read_text()
        )
        for group in resource["spec"]["groups"]:
            for rule in group["rules"]:
                yield rule.get("alert") or rule["record"], rule["expr"]
    for row, panels in ROWS.items():
        for panel in panels:
            yield f"{row}: {panel.title}", panel.query
    scaled = yaml.safe_load((K8S / "components/keda/scaledobject.yaml").read_text())
    for trigger in scaled["spec"]["triggers"]:
        yield "autoscaler", trigger["metadata"]["query"]


def metrics(query: str) -> set[str]:
    """The metrics of ours that it names, without prefix."""
    return set(re.findall(r"(?<![:\w])klaviyo_pipeline_(\w+)", query))


def labels(query: str) -> set[str]:
    """The labels that it groups or selects by, but for those of the target."""
    grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", query)
    selected = re.findall(r"{([^}]*)}", query)
    named = {each.strip() for part in grouped for each in part.split(",")}
    named |= {each for part in selected for each in re.findall(r"(\w+)\s*=", part)}
    return named - TARGET - {""}
