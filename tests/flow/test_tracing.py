"""Spans as a collector receives them; and that without them nothing is imported."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from confluent_kafka import Producer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.flow.rig import Rig
from tests.ports import free_port

TRACE = f"{0xA1:032x}"
SPAN = f"{0xB1:016x}"


class Collector:
    """An OpenTelemetry collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.raw = b""
        self.spans: list[Span] = []
        self.resource: dict[str, Any] = {}

    async def take(self, request: web.Request) -> web.Response:
        raw = await request.read()
        self.raw += raw
        for group in ExportTraceServiceRequest.FromString(raw).resource_spans:
            self.resource = attributes(group.resource)
            self.spans += [span for scope in group.scope_spans for span in scope.spans]
        return web.Response()

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


def attributes(of: Any) -> dict[str, Any]:
    return {
        each.key: each.value.int_value or each.value.string_value
        for each in of.attributes
    }


@asynccontextmanager
async def collecting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    collector, app = Collector(), web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{runner.addresses[0][1]}"
    )
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    try:
        yield collector
    finally:
        await runner.cleanup()


def write(rig: Rig) -> None:
    """A customer's record as a traced producer writes it."""
    value = b'{"type":"customer.updated","customer":{"id":"C-1","title":"planted"}}'
    producer = Producer({"bootstrap.servers": rig.bootstrap})
    producer.produce(
        rig.customers,
        value,
        "planted",
        headers=[("traceparent", f"00-{TRACE}-{SPAN}-01"), ("a", b"\xff")],
    )
    assert producer.flush(10) == 0
    rig.sent += 1


@pytest.mark.timeout(120)
async def test_a_request_is_linked_to_its_records(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.fault({"match": {"times": 1}, "action": {"kind": "status", "status": 503}})
    write(rig)
    async with collecting(monkeypatch) as collector:
        async with rig.service(tracing__enabled="true") as service:
            await rig.drained()
            assert await service.terminate() == 0, service.output
        (span,) = collector.named("create_or_update_profile")
        accounts = collector.named("get_accounts")
    assert collector.resource["service.name"] == "klaviyo-pipeline"
    (link,) = span.links
    assert span.trace_id.hex() == link.trace_id.hex() == TRACE
    assert span.parent_span_id.hex() == link.span_id.hex() == SPAN
    assert attributes(link)["messaging.destination.name"] == rig.customers
    sent = attributes(span)
    assert sent["http.request.method"] == "POST"
    assert sent["http.response.status_code"] in {200, 201}
    assert sent["messaging.batch.message_count"] == 1
    # The first call of all met the fault, and its repetition has a span of its own.
    assert [span.status.code for span in accounts] == [2, 0]
    assert attributes(accounts[0])["error.type"] == "outage"
    assert attributes(accounts[1])["http.request.resend_count"] == 1
    assert b"planted" not in collector.raw


@pytest.mark.timeout(120)
async def test_without_a_collector_everything_goes_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", nobody)
    await rig.customer(id="C-1", email="ada@shop.dev")
    async with rig.service(tracing__enabled="true") as service:
        await rig.drained()
        assert await service.terminate() == 0
    assert "not stopped in time" not in service.output
    assert rig.profile("C-1")["email"] == "ada@shop.dev"


def composed(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Build the service in a process of its own, then run `code` there."""
    program = f"""
import sys
{code}
from pipeline.app import App
from pipeline.cli import application
from pipeline.settings import load
import asyncio, os
asyncio.run(asyncio.to_thread(App, load(None, os.environ)))
application()
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PIPELINE_KLAVIYO__API_KEY": "pk_test"} | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_off_nothing_of_it_is_imported() -> None:
    done = composed("")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_on_without_the_extra_it_says_what_to_install() -> None:
    done = composed("sys.modules['opentelemetry'] = None", PIPELINE_TRACING__ENABLED="1")
    assert "SettingsError" in done.stderr
    assert "klaviyo-pipeline[tracing]" in done.stderr


def test_a_protocol_we_do_not_speak_is_a_settings_error() -> None:
    done = composed("", PIPELINE_TRACING__ENABLED="1", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert "SettingsError: OTEL_EXPORTER_OTLP_PROTOCOL is grpc" in done.stderr
