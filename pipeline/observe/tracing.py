"""Spans of requests to Klaviyo, by OpenTelemetry; the extra `tracing`, off by default.

One span for each request. A record may bring the W3C context of whoever wrote it, in the
headers `traceparent` and `tracestate`: the span has a link to each of them, and goes on
with the trace if there is but one. Where the spans go, and how many, is for the variables
of OpenTelemetry to say: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER and so on.

Only `app` imports this file, and only when tracing is on. Spans name operations, statuses
and offsets, nothing of a customer.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from threading import Thread
from typing import Final, NamedTuple, TypeAlias

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pipeline.errors import SettingsError
from pipeline.records import Record

__all__ = ["Ended", "Tracing"]

CLOSE_LIMIT: Final = 1.0  # s at a stop to hand over the last spans
LINKS: Final = 128  # of one span; the SDK keeps no more unless it is told to
_NAME: Final = "klaviyo-pipeline"
_HEADERS: Final = ("traceparent", "tracestate")
_PROTOCOL: Final = "http/protobuf"
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_OK: Final = range(200, 300)

Ended: TypeAlias = Callable[[int, str], None]  # status, 0 without answer; the reason


class _Cargo(NamedTuple):
    records: int
    links: tuple[trace.Link, ...]


_NOTHING: Final = _Cargo(0, ())
_CARGO: ContextVar[_Cargo] = ContextVar("cargo", default=_NOTHING)


class Tracing:
    """Makes spans and sends them, in a thread of its own; what is too much is lost."""

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        """`processor` takes the spans in place of the one that sends them.

        Raises `SettingsError` for a protocol that we do not speak.
        """
        for name in _PROTOCOLS:
            if os.environ.get(name, _PROTOCOL) != _PROTOCOL:
                raise SettingsError(
                    f"{name} is {os.environ[name]}, but spans are sent as {_PROTOCOL}: "
                    "set it to that, and the endpoint to the collector's port for it "
                    "(4318)."
                )
        own = Resource({"service.name": _NAME, "service.version": version(_NAME)})
        resource = Resource.create().merge(own).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            processor or BatchSpanProcessor(OTLPSpanExporter())
        )
        self._tracer = self._provider.get_tracer(_NAME, version(_NAME))
        self._read = TraceContextTextMapPropagator()

    @contextmanager
    def carrying(self, records: Iterable[Record]) -> Iterator[None]:
        """Requests that this task makes in the block carry these records."""
        count, links = 0, dict[str, trace.Link]()
        for record in records:
            count += 1
            if record.headers and len(links) < LINKS:
                self._link(record, links)
        token = _CARGO.set(_Cargo(count, tuple(links.values())))
        try:
            yield
        finally:
            _CARGO.reset(token)

    def _link(self, record: Record, links: dict[str, trace.Link]) -> None:
        brought = {
            name: value.decode("ascii", "replace")
            for name, value in record.headers
            if name in _HEADERS and value
        }
        if not brought or (name := brought.get("traceparent", "")) in links:
            return
        found = self._read.extract(brought, context.Context())
        made = trace.get_current_span(found).get_span_context()
        if made.is_valid:
            links[name] = trace.Link(
                made,
                {
                    "messaging.destination.name": record.topic,
                    "messaging.destination.partition.id": str(record.partition),
                    "messaging.kafka.offset": record.offset,
                },
            )

    @contextmanager
    def request(self, operation: str, method: str, attempt: int) -> Iterator[Ended]:
        """One request to Klaviyo, the `attempt`-th of its call; say how it ended."""
        cargo = _CARGO.get()
        parent = context.Context()
        if len(cargo.links) == 1:
            made = trace.NonRecordingSpan(cargo.links[0].context)
            parent = trace.set_span_in_context(made, parent)
        with self._tracer.start_as_current_span(
            operation,
            parent,
            trace.SpanKind.CLIENT,
            {
                "http.request.method": method,
                "http.request.resend_count": attempt - 1,
                "messaging.system": "kafka",
                "messaging.batch.message_count": cargo.records,
            },
            cargo.links,
            record_exception=False,  # its text might name a customer
        ) as span:

            def ended(status: int, reason: str) -> None:
                if status:
                    span.set_attribute("http.response.status_code", status)
                if status not in _OK:
                    span.set_attribute("error.type", reason or str(status))
                    span.set_status(trace.Status(trace.StatusCode.ERROR))

            yield ended

    async def close(self) -> None:
        """Hand over the last spans; in bounded time, whether the collector is there."""
        ending = Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, CLOSE_LIMIT)
