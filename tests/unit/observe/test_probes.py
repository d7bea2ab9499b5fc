"""/livez, /readyz and /metrics as Kubernetes and Prometheus see them."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession

from pipeline.errors import SettingsError
from pipeline.observe.health import BEAT_LIMIT, Health
from pipeline.observe.http import Probes
from pipeline.observe.metrics import Metrics
from pipeline.settings import Http


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        return self.time

    def now(self) -> float:
        return self.time


class Probed:
    """Running probes, and a client to ask them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.health = Health(self.metrics, self.clock)
        self.probes = Probes(Http(host="127.0.0.1", port=0), self.health, self.metrics)

    async def get(self, path: str) -> tuple[int, object]:
        async with (
            ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.probes.port}{path}") as answer,
        ):
            return answer.status, await answer.json()


@pytest.fixture
async def probed() -> AsyncIterator[Probed]:
    probed = Probed()
    await probed.probes.start()
    yield probed
    await probed.probes.stop()


async def test_live_while_the_loops_turn(probed: Probed) -> None:
    probed.health.beat("source")
    assert await probed.get("/livez") == (200, {"live": True, "reasons": []})
    probed.clock.time = BEAT_LIMIT + 1
    status, body = await probed.get("/livez")
    assert status == 503
    assert body == {"live": False, "reasons": ["source has not turned for 61 s"]}
    probed.health.beat("source")
    assert (await probed.get("/livez"))[0] == 200


async def test_an_outage_or_a_halt_is_no_reason_to_be_restarted(probed: Probed) -> None:
    probed.health.halt("unauthorized", "x")
    probed.health.away("kafka", "away")
    assert (await probed.get("/livez"))[0] == 200


async def test_ready_only_while_running(probed: Probed) -> None:
    not_ready = {"ready": False, "reasons": ["starting"], "waiting": {}}
    assert await probed.get("/readyz") == (503, not_ready)
    probed.health.phase = "running"
    assert await probed.get("/readyz") == (
        200,
        {"ready": True, "reasons": [], "waiting": {}},
    )
    probed.health.phase = "draining"
    assert (await probed.get("/readyz"))[0] == 503


async def test_a_wait_keeps_it_ready_and_is_named(probed: Probed) -> None:
    probed.health.phase = "running"
    probed.health.away("klaviyo", "503 for 12 s")
    assert await probed.get("/readyz") == (
        200,
        {"ready": True, "reasons": [], "waiting": {"klaviyo": "503 for 12 s"}},
    )


async def test_a_halt_makes_it_unready_until_it_ends(probed: Probed) -> None:
    probed.health.phase = "running"
    probed.health.halt("unauthorized", "give a new key")
    assert await probed.get("/readyz") == (
        503,
        {"ready": False, "reasons": ["unauthorized: give a new key"], "waiting": {}},
    )
    probed.health.resume("unauthorized")
    assert (await probed.get("/readyz"))[0] == 200


async def test_no_personal_data_leaves_by_a_reason(probed: Probed) -> None:
    probed.health.halt("malformed_flood", "ada@shop.dev pk_planted1")
    probed.health.away("klaviyo", "refused +12025550123")
    _, body = await probed.get("/readyz")
    for planted in ("ada@shop.dev", "pk_planted1", "+12025550123"):
        assert planted not in str(body)


async def test_metrics_are_in_the_form_prometheus_reads(probed: Probed) -> None:
    probed.metrics.records_consumed.labels("shop.orders").inc(3)
    url = f"http://127.0.0.1:{probed.probes.port}/metrics"
    async with ClientSession() as session:
        async with session.get(url) as answer:
            text = await answer.text()
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            assert (
                'klaviyo_pipeline_records_consumed_total{topic="shop.orders"} 3.0' in text
            )
            assert 'klaviyo_pipeline_halted{reason="unauthorized"} 0.0' in text
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with session.get(url, headers=accept) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics")
            assert (await answer.text()).endswith("# EOF\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD"])
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_nothing_but_get_is_answered(
    probed: Probed, method: str, path: str
) -> None:
    url = f"http://127.0.0.1:{probed.probes.port}{path}"
    async with ClientSession() as session, session.request(method, url) as answer:
        assert answer.status == 405


async def test_a_port_in_use_names_the_setting(probed: Probed) -> None:
    taken = Http(host="127.0.0.1", port=probed.probes.port)
    second = Probes(taken, probed.health, probed.metrics)
    with pytest.raises(SettingsError, match="PIPELINE_HTTP__PORT") as caught:
        await second.start()
    assert str(taken.port) in str(caught.value)
    await second.stop()


async def test_an_address_that_is_not_ours_names_the_setting() -> None:
    probed = Probed()
    probes = Probes(Http(host="192.0.2.1", port=0), probed.health, probed.metrics)
    with pytest.raises(SettingsError, match="PIPELINE_HTTP__HOST"):
        await probes.start()


async def test_stopped_it_answers_no_more_and_stopping_again_is_harmless() -> None:
    probed = Probed()
    await probed.probes.start()
    port = probed.probes.port
    await probed.probes.stop()
    await probed.probes.stop()
    again = Probes(Http(host="127.0.0.1", port=port), probed.health, probed.metrics)
    await again.start()  # the port is free
    assert again.port == port
    await again.stop()
