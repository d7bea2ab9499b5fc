"""What a span says of the records its request carries."""

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pipeline.observe.tracing import LINKS, Tracing
from pipeline.records import Record


class Traced:
    def __init__(self) -> None:
        self.ended = InMemorySpanExporter()
        self.tracing = Tracing(SimpleSpanProcessor(self.ended))

    def span(self, *headers: tuple[tuple[str, bytes], ...]) -> ReadableSpan:
        """The span of a request that carries records with these headers."""
        records = [
            Record("orders", 1, offset, 0, b"planted", b"planted", each)
            for offset, each in enumerate(headers)
        ]
        with (
            self.tracing.carrying(records),
            self.tracing.request("create_event", "POST", 2) as ended,
        ):
            ended(202, "")
        return self.ended.get_finished_spans()[-1]


@pytest.fixture
def traced() -> Traced:
    return Traced()


def parent(trace: int, flags: str = "01") -> tuple[tuple[str, bytes], ...]:
    return (("traceparent", f"00-{trace:032x}-{trace:016x}-{flags}".encode()),)


def test_with_one_trace_it_goes_on(traced: Traced) -> None:
    span = traced.span(parent(1), (), parent(1))
    (link,) = span.links
    assert link.context.trace_id == 1
    assert link.attributes == {
        "messaging.destination.name": "orders",
        "messaging.destination.partition.id": "1",
        "messaging.kafka.offset": 0,
    }
    assert span.context is not None
    assert span.context.trace_id == 1
    assert span.parent is not None
    assert span.parent.span_id == 1
    assert span.attributes is not None
    assert span.attributes["messaging.batch.message_count"] == 3
    assert span.attributes["http.request.resend_count"] == 1
    assert "planted" not in span.to_json()


def test_of_several_it_is_a_new_one_that_names_them(traced: Traced) -> None:
    span = traced.span(parent(1), parent(2))
    assert [link.context.trace_id for link in span.links] == [1, 2]
    assert span.context is not None
    assert span.context.trace_id not in {1, 2}
    assert span.parent is None


def test_what_is_no_context_is_no_link(traced: Traced) -> None:
    nonsense = [b"", b"\xff", b"00-0-0-01", parent(0)[0][1]]
    span = traced.span(*((("traceparent", each),) for each in nonsense))
    assert not span.links
    assert span.parent is None


def test_links_are_bounded(traced: Traced) -> None:
    span = traced.span(*(parent(number) for number in range(1, 1000)))
    assert len(span.links) == LINKS
    assert span.attributes is not None
    assert span.attributes["messaging.batch.message_count"] == 999


def test_the_context_ends_with_its_block(traced: Traced) -> None:
    traced.span(parent(1))
    with traced.tracing.request("get_accounts", "GET", 1) as ended:
        ended(0, "timeout")
    after = traced.ended.get_finished_spans()[-1]
    assert not after.links
    assert after.attributes is not None
    assert after.attributes["error.type"] == "timeout"
    assert not after.status.is_ok
