"""A running service answers what the manifests ask of it: probes, and every query."""

import asyncio
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from k8s.dashboard import ROWS
from pipeline.demo.shop import Shop
from tests.flow.rig import Rig, until
from tests.flow.service import free_port
from tests.k8s.queries import COMING, everywhere, metrics
from tests.k8s.tools import K8S, rules_files, tool

PATIENCE = 60.0  # s until Prometheus has seen everything


async def test_probes_and_scraping_hit_real_paths(rig: Rig) -> None:
    deployment = yaml.safe_load((K8S / "base/workload/deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    paths = [
        container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    ]
    monitor = yaml.safe_load((K8S / "components/monitoring/podmonitor.yaml").read_text())
    paths += [each["path"] for each in monitor["spec"]["podMetricsEndpoints"]]
    async with rig.service() as service, asyncio.timeout(PATIENCE):
        for path in paths:
            while (await service.get(path))[0] != 200:
                await asyncio.sleep(0.1)


class Prometheus:
    """A real one, that scrapes a service and works out our rules."""

    def __init__(self, folder: Path, target: int) -> None:
        self.port = free_port()
        self._folder = folder
        labels = {"namespace": "shop", "pod": "forward-0"}
        scraped = {"targets": [f"127.0.0.1:{target}"], "labels": labels}
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path) for path in rules_files(folder)],
            "scrape_configs": [{"job_name": "shop", "static_configs": [scraped]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    async def __aenter__(self) -> "Prometheus":
        self._process = await asyncio.create_subprocess_exec(
            tool("prometheus"),
            f"--config.file={self._folder}/prometheus.yml",
            f"--storage.tsdb.path={self._folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=error",
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        await self._process.wait()

    async def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """Part of its HTTP API; empty while it starts."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(url, params=parameters) as answer,
            ):
                body = await answer.json()
        except aiohttp.ClientError:
            return {}
        assert body["status"] == "success", (parameters, body)
        return dict(body["data"])

    async def answers(self, query: str) -> bool:
        """Whether it has numbers for the query."""
        found = await self.get("query", query=query)
        return any(each["value"][1] != "NaN" for each in found.get("result", []))


def asked() -> dict[str, str]:
    """The queries of dashboard and autoscaler that the program can answer today."""
    panels = {panel.query for row in ROWS.values() for panel in row}
    return {
        place: query.replace("$__rate_interval", "30s").replace("$namespace", "shop")
        for place, query in everywhere()
        if (query in panels or place == "autoscaler")
        and not metrics(query) & COMING.keys()
    }


@pytest.mark.timeout(180)
async def test_every_query_returns_data(rig: Rig, tmp_path: Path) -> None:
    """Load, bad records, losses and faults: then nothing in the dashboard is empty."""
    tool("prometheus")
    waiting = asked()
    # In the shop's Kubernetes it is another namespace than the one in the autoscaler.
    waiting = {
        place: re.sub(r'namespace="[\w-]+"', 'namespace="shop"', query)
        for place, query in waiting.items()
    }
    service = rig.service()
    async with service, Prometheus(tmp_path, service.port) as prometheus:
        await until(lambda: '"running"' in service.output, what="the service")

        async def burden(number: int) -> None:
            rig.fault(
                {"match": {"times": 2}, "action": {"kind": "status", "status": 503}},
                {"match": {}, "action": {"kind": "delay", "seconds": 0.3}},
            )
            await rig.send(Shop(seed=number).day(customers=20, orders=30))
            await rig.customer("shelf.moved", id=f"S-{number}")
            await rig.customer(id=f"L-{number}", email=f"l{number}@shop.dev", phone="1")

        turn = 0
        try:
            async with asyncio.timeout(PATIENCE):
                while waiting:
                    await burden(turn)
                    turn += 1
                    for _ in range(6):
                        await asyncio.sleep(0.5)
                        for place, query in [*waiting.items()]:
                            if await prometheus.answers(query):
                                del waiting[place]
        except TimeoutError:
            pass
        assert not waiting

        rules = await prometheus.get("rules")
        health = {
            rule["name"]: (rule["health"], rule.get("lastError"))
            for group in rules["groups"]
            for rule in group["rules"]
        }
        assert {name for name, (state, _) in health.items() if state == "err"} == set()
        # The promises have numbers at once, and nothing pages while all is well.
        for promise in ("late", "undelivered"):
            assert await prometheus.answers(
                f"namespace:klaviyo_pipeline_{promise}:ratio_rate5m"
            )
        firing = await prometheus.get("query", query='ALERTS{alertstate="firing"}')
        names = {each["metric"]["alertname"] for each in firing["result"]}
        assert "KlaviyoPipelineDeadLetters" in names, "the very first dead letter is seen"
        assert not names & {"KlaviyoPipelineHalted", "KlaviyoPipelineAbsent"}
