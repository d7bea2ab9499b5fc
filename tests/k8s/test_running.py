"""A running service answers what the manifests ask of it: probes, and every query."""

import asyncio
import itertools
import re
from pathlib import Path
from typing import Any, Self, get_args

import aiohttp
import pytest
import yaml

from k8s.dashboard import ROWS
from pipeline.demo.shop import Shop
from pipeline.records import DeadReason
from tests.flow.commands import Command, oauth_environ
from tests.flow.rig import Rig, until
from tests.flow.service import Service
from tests.k8s.queries import everywhere
from tests.k8s.tools import K8S, rules_files, tool
from tests.oauth_user import KEY
from tests.ports import free_port

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


async def test_every_reason_of_dead_letters_is_there_at_zero(rig: Rig) -> None:
    """A series that begins at 1 has not grown: its alert would miss the first one."""
    async with rig.service() as service:
        await until(lambda: '"running"' in service.output, what="the service")
        _, text = await service.get("/metrics")
    for reason in get_args(DeadReason):
        assert f'klaviyo_pipeline_dead_letters_total{{reason="{reason}"}} 0.0' in text


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

    async def __aenter__(self) -> Self:
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

    async def unanswered(self, queries: dict[str, str]) -> list[str]:
        """Ask until each query has once had an answer; those that never had one."""
        waiting = dict(queries)
        try:
            async with asyncio.timeout(PATIENCE):
                while waiting:
                    for place, query in [*waiting.items()]:
                        if await self.answers(query):
                            del waiting[place]
                    await asyncio.sleep(0.5)
        except TimeoutError:
            pass
        return [*waiting]


def asked() -> dict[str, str]:
    """Queries of dashboard and autoscaler, by place."""
    panels = {panel.query for row in ROWS.values() for panel in row}
    chosen = {
        place: query.replace("$__rate_interval", "30s").replace("$namespace", "shop")
        for place, query in everywhere()
        if query in panels or place == "autoscaler"
    }
    # The autoscaler names its namespace.
    return {
        place: re.sub(r'namespace="[\w-]+"', 'namespace="shop"', query)
        for place, query in chosen.items()
    }


async def load(rig: Rig) -> None:
    """Good records and bad ones, losses and faults, until cancelled."""
    for number in itertools.count():
        rig.fault(
            {"match": {"times": 2}, "action": {"kind": "status", "status": 503}},
            {"match": {}, "action": {"kind": "delay", "seconds": 0.3}},
        )
        await rig.send(Shop(seed=number).day(customers=20, orders=30))
        await rig.customer("shelf.moved", id=f"S-{number}")
        await rig.customer(id=f"L-{number}", email=f"l{number}@shop.dev", phone="1")
        await asyncio.sleep(3)  # they are sent, and the service idles for a moment


async def everything(rig: Rig) -> Service:
    """A service with all that can be on, connected by OAuth."""
    app = oauth_environ(rig.bootstrap, rig.sandbox.url)
    code, said = await Command.login(
        app | {"PIPELINE_SUBSCRIPTION__NAME": f"test {rig.number}"}
    )
    assert code == 0, said
    return rig.service(
        klaviyo__api_key="",
        klaviyo__client_id="sandbox",
        klaviyo__client_secret="sandbox",
        secrets__key=KEY,
        consent__writes="true",
        reverse__enabled="true",
        reverse__interval="1",
        audit__sample="1",
    )


@pytest.mark.timeout(180)
async def test_every_query_returns_data(rig: Rig, tmp_path: Path) -> None:
    """Under load with bad records and faults nothing in the dashboard stays empty."""
    tool("prometheus")
    service = await everything(rig)
    async with service, Prometheus(tmp_path, service.port) as prometheus:
        await until(lambda: '"running"' in service.output, what="the service")
        assert not await prometheus.unanswered({"up": "klaviyo_pipeline_build_info"})
        loading = asyncio.create_task(load(rig))
        try:
            assert not await prometheus.unanswered(asked())
            # The promises have numbers too, and the very first dead letter is seen.
            assert not await prometheus.unanswered(
                {
                    "late": "namespace:klaviyo_pipeline_late:ratio_rate5m",
                    "undelivered": "namespace:klaviyo_pipeline_undelivered:ratio_rate5m",
                    "alert": 'ALERTS{alertname="KlaviyoPipelineDeadLetters"}',
                }
            ), await prometheus.get("rules")
        finally:
            loading.cancel()
        rules = await prometheus.get("rules")
        health = {
            rule["name"]: rule["health"]
            for group in rules["groups"]
            for rule in group["rules"]
        }
        assert "err" not in health.values(), health
        firing = await prometheus.get("query", query='ALERTS{alertstate="firing"}')
        names = {each["metric"]["alertname"] for each in firing["result"]}
        assert not names & {"KlaviyoPipelineHalted", "KlaviyoPipelineAbsent"}
