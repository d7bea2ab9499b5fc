"""Bytes to one event: every kind of message, and everything that is none."""

import base64
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.envelope import Headers, decode
from schemas.event import Context, Event, Plan, Rejected, Skipped
from schemas.events.customer_updated import CustomerUpdated
from schemas.events.order_placed import OrderPlaced
from schemas.mapping import Mapped
from schemas.registry import EVENT_TYPES

ORDER = {"id": "O-1", "customer": {"id": "C-1"}}
CLOUD = {
    "specversion": "1.0",
    "type": "order.placed",
    "source": "/shop",
    "id": "ce-1",
    "time": "2026-11-01T10:00:00Z",
}


def read(
    message: object, *headers: tuple[str, bytes | None]
) -> Event | Mapped | Skipped | Rejected:
    return decode(orjson.dumps(message), headers)


def malformed(outcome: Event | Mapped | Skipped | Rejected) -> bool:
    return isinstance(outcome, Rejected) and (outcome.reason, outcome.stage) == (
        "malformed",
        "decode",
    )


def test_plain_json_in_any_order_of_keys() -> None:
    event = read({"order": ORDER, "id": "evt-1", "type": "order.placed", "new": [1]})
    assert isinstance(event, OrderPlaced)
    assert (event.id, event.occurred_at, event.order.id) == ("evt-1", None, "O-1")


def test_a_byte_order_mark_is_no_fault() -> None:
    message = b"\xef\xbb\xbf" + orjson.dumps({"type": "order.placed", "order": ORDER})
    assert isinstance(decode(message, ()), OrderPlaced)


@pytest.mark.parametrize("headers", [(), (("content-type", b"application/json"),)])
def test_cloudevents_structured_by_shape(headers: Headers) -> None:
    event = read({**CLOUD, "data": {"order": ORDER}}, *headers)
    assert isinstance(event, OrderPlaced)
    assert (event.id, event.occurred_at) == ("ce-1", "2026-11-01T10:00:00Z")


def test_cloudevents_structured_by_content_type() -> None:
    message = {"type": "order.placed", "id": "ce-1", "data": {"order": ORDER}}
    content_type = b"application/cloudevents+json; charset=UTF-8"
    event = read(message, ("content-type", content_type))
    assert isinstance(event, OrderPlaced)
    assert event.id == "ce-1"


def test_cloudevents_structured_with_base64() -> None:
    data = base64.b64encode(orjson.dumps({"order": ORDER})).decode()
    assert isinstance(read({**CLOUD, "data_base64": data}), OrderPlaced)
    assert malformed(read({**CLOUD, "data_base64": "%%%"}))
    junk = base64.b64encode(b'{"order":{"id":"O"},"junk":"\xff"}').decode()
    assert malformed(read({**CLOUD, "data_base64": junk}))
    assert malformed(read({**CLOUD, "data_base64": base64.b64encode(b"\xff").decode()}))


def test_cloudevents_binary() -> None:
    event = read(
        {"customer": {"id": "C-1"}},
        ("ce_specversion", b"1.0"),
        ("ce_type", b"customer.updated"),
        ("ce_id", b"ce-2"),
        ("ce_time", b"2026-11-01T10:00:00Z"),
        ("content-type", b"application/json"),
    )
    assert isinstance(event, CustomerUpdated)
    assert (event.id, event.occurred_at) == ("ce-2", "2026-11-01T10:00:00Z")
    assert event.customer.id == "C-1"


def test_structured_mode_goes_before_binary() -> None:
    event = read(
        {**CLOUD, "data": {"order": ORDER}},
        ("content-type", b"application/cloudevents+json"),
        ("ce_type", b"customer.updated"),
    )
    assert isinstance(event, OrderPlaced)


def test_cloudevents_attributes_win_over_data() -> None:
    data = {"id": "inner", "occurred_at": "2020-01-01T00:00:00Z", "order": ORDER}
    event = read({**CLOUD, "data": data})
    assert isinstance(event, OrderPlaced)
    assert (event.id, event.occurred_at) == ("ce-1", "2026-11-01T10:00:00Z")


@pytest.mark.parametrize("tag", sorted(EVENT_TYPES))
def test_all_envelopes_say_the_same(tag: str) -> None:
    """Plain, structured and binary messages of one content end in one plan."""
    for example in EVENT_TYPES[tag].examples:
        message = orjson.loads(example)
        data = {
            k: v
            for k, v in message.items()
            if k in EVENT_TYPES[tag].event.__annotations__
        }
        cloud = {
            "specversion": "1.0",
            "source": "/shop",
            "type": tag,
            "id": message["id"],
            "time": message["occurred_at"],
        }
        binary = [(f"ce_{k}", v.encode()) for k, v in cloud.items()]
        outcomes = [
            event.commands(Context(), 1_793_527_200_000)
            for event in (
                decode(example, ()),
                read({**cloud, "data": data}),
                read(data, *binary),
            )
            if isinstance(event, Event)
        ]
        assert len(outcomes) == 3
        assert outcomes[0] == outcomes[1] == outcomes[2]


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (None, (), "tombstone"),
        (None, (("origin", b"klaviyo"),), "own_origin"),
        (b"not even JSON", (("origin", b"klaviyo"),), "own_origin"),
        (b'{"type":"cart.abandoned","cart":{}}', (), "unknown_type"),
        (b'{"specversion":"1.0","type":"x","data":{}}', (), "unknown_type"),
        (b"{}", (("ce_type", b"x"),), "unknown_type"),
        (b'{"before":null,"after":{"id":1},"op":"c","ts_ms":1}', (), "unknown_type"),
        (b'{"before":{"id":1},"after":null,"op":"d"}', (), "unknown_type"),
        (
            b'{"schema":{},"payload":{"before":null,"after":{},"op":"u"}}',
            (),
            "unknown_type",
        ),
    ],
)
def test_what_is_skipped(value: bytes | None, headers: Headers, reason: str) -> None:
    outcome = decode(value, headers)
    assert isinstance(outcome, Skipped)
    assert outcome.reason == reason


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"{",
        b"[]",
        b'"order.placed"',
        b"null",
        b"{}",
        b'{"type":null}',
        b'{"type":""}',
        b'{"id":"evt-1"}',
        b'{"payload":{"id":1},"schema":{}}',
        b'{"payload":5}',
        b'{"type":"order.placed","order":NaN}',
        b'{"type":"order.placed","x":Infinity}',
        b'{"type":"order.placed","x":"\xff"}',
        b'{"type":"order.placed","x":"\\ud800"}',
        b'{"type":"order.placed","x":01}',
        b'{"type":"order.placed","x":' + b"[" * 100_000,
        b'{"type":"order.placed","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000,
        b'{"type":"order.placed"} trailing',
        b"\x00\x00\x00\x00\x01{}",
    ],
)
def test_what_is_malformed(value: bytes) -> None:
    assert malformed(decode(value, ()))


def test_binary_values_that_are_no_objects_are_malformed() -> None:
    assert malformed(decode(b"[]", [("ce_type", b"order.placed")]))
    assert malformed(decode(b"{}", [("ce_type", b"")]))
    assert malformed(decode(b"{}", [("ce_type", b"\xff")]))


@pytest.mark.parametrize(
    ("message", "path"),
    [
        ({"type": 5}, "$.type"),
        ({"type": "order.placed"}, "$"),
        ({"type": "order.placed", "order": None}, "$.order"),
        ({"type": "order.placed", "order": {}}, "$.order"),
        ({"type": "order.placed", "order": {"id": 7}}, "$.order.id"),
        ({"type": "order.placed", "order": {"id": "O", "lines": {}}}, "$.order.lines"),
        (
            {"type": "order.placed", "order": {"id": "O", "lines": [{}, {"sku": 1}]}},
            "$.order.lines[1].sku",
        ),
        ({"type": "order.placed", "id": 1, "order": ORDER}, "$.id"),
        ({"type": "customer.updated", "customer": {"email": 1}}, "$.customer.email"),
        ({"type": "customer.updated", "customer": {"phone": 49}}, "$.customer.phone"),
        ({"type": "customer.updated", "customer": {"id": 1}}, "$.customer.id"),
        (
            {"type": "customer.updated", "customer": {"id": "C", "consent": "yes"}},
            "$.customer.consent",
        ),
        (
            {"type": "customer.updated", "customer": {"id": "C", "lists": {"add": [1]}}},
            "$.customer.lists.add[0]",
        ),
        (
            {"type": "customer.updated", "customer": {"id": "C", "custom_fields": []}},
            "$.customer.custom_fields",
        ),
        ({**CLOUD, "data": {"order": {"id": 7}}}, "$.data.order.id"),
        ({**CLOUD, "data": {}}, "$.data"),
        (CLOUD, "$.data"),
        ({**CLOUD, "id": 5, "data": {"order": ORDER}}, "$.id"),
    ],
)
def test_wrong_json_types_are_named_by_path(message: dict[str, Any], path: str) -> None:
    outcome = read(message)
    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.stage, outcome.path) == ("schema", "decode", path)


def test_a_message_ends_before_it_quotes_a_value() -> None:
    """Data of another type than the headers announce: msgspec would name the type."""
    outcome = decode(b'{"type":"customer.updated"}', [("ce_type", b"order.placed")])
    assert outcome == Rejected("schema", "decode", "$.type", "Invalid value")


def test_headers_without_values_are_no_fault() -> None:
    """Kafka allows a header whose value is null."""
    headers: Headers = [("origin", None), ("content-type", None), ("ce_id", None)]
    message = orjson.dumps({"type": "order.placed", "order": ORDER})
    assert isinstance(decode(message, headers), OrderPlaced)


def test_the_last_of_repeated_keys_counts() -> None:
    event = decode(
        b'{"type":"order.placed","order":{"id":"A","id":"B","customer":{"id":"C"}}}', ()
    )
    assert isinstance(event, OrderPlaced)
    assert event.order.id == "B"


def test_ten_megabytes_are_read() -> None:
    event = read({"type": "order.placed", "order": ORDER, "junk": "x" * 10_000_000})
    assert isinstance(event, OrderPlaced)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = [
    "id", "email", "phone", "customer", "order", "lines", "total", "currency", "quantity",
    "refund", "fulfillment", "amount", "address", "country", "custom_fields", "locale",
    "billing_address", "price", "occurred_at", "properties", "lists", "consent", "data",
    "specversion", "payload", "op", "before", "image_url", "discount_codes", "first_name",
]  # fmt: skip
MESSAGE = st.recursive(
    JSON,
    lambda inner: (
        st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5)
        | st.lists(inner, max_size=2)
    ),
    max_leaves=20,
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["ce_type", "ce_id", "ce_time", "content-type", "origin", "x"]),
        st.sampled_from([b"order.placed", b"", b"\xff", b"application/cloudevents+json"]),
    ),
    max_size=3,
)


@settings(max_examples=300)
@given(value=st.binary(max_size=200), headers=HEADERS)
def test_no_bytes_raise(value: bytes, headers: Headers) -> None:
    assert isinstance(decode(value, headers), Event | Skipped | Rejected)


@settings(max_examples=300)
@given(
    value=st.binary(max_size=6),
    cut=st.integers(0, 600),
    tag=st.sampled_from(sorted(EVENT_TYPES)),
)
def test_no_damaged_message_raises(value: bytes, cut: int, tag: str) -> None:
    """Any bytes written over any place of a real message end as a value, to the plan."""
    example = EVENT_TYPES[tag].examples[0]
    event = decode(example[:cut] + value + example[cut + len(value) :], ())
    if isinstance(event, Event):
        outcome = event.commands(Context(default_country="US"), 0)
        assert isinstance(outcome, Plan | Skipped | Rejected)


@settings(max_examples=1000)
@given(
    value=st.text(max_size=6).map(str.encode)
    | st.sampled_from([b'"specversion":"1.0",', b'"data":{},', b"[", b"\\u00e9", b"{{"]),
    cut=st.integers(0, 600),
    over=st.booleans(),
    tag=st.sampled_from(sorted(EVENT_TYPES)),
)
def test_what_is_read_at_one_go_is_what_is_read_step_by_step(
    value: bytes, cut: int, *, over: bool, tag: str
) -> None:
    """A content type of no envelope's changes nothing but the way."""
    example = EVENT_TYPES[tag].examples[0]
    message = example[:cut] + value + example[cut + len(value) * over :]
    assert decode(message, ()) == decode(message, [("content-type", b"text/json")])


def test_an_escaped_key_tells_of_an_envelope_too() -> None:
    message = orjson.dumps({**CLOUD, "order": ORDER})
    escaped = message.replace(b"specversion", b"specversi\\u006fn")
    assert decode(escaped, ()) == decode(message, ())
    assert isinstance(decode(escaped, ()), Rejected), "it has no data"


@settings(max_examples=500)
@given(
    tag=st.sampled_from(sorted(EVENT_TYPES)),
    body=st.dictionaries(
        st.sampled_from(["order", "customer", "refund", "fulfillment", "reason", "id"]),
        MESSAGE,
    ),
    timestamp=st.integers(-1, 2**62),
)
def test_no_message_raises(tag: str, body: dict[str, Any], timestamp: int) -> None:
    event = read({**body, "type": tag})
    if isinstance(event, Event):
        outcome = event.commands(Context(default_country="US"), timestamp)
        assert isinstance(outcome, Plan | Skipped | Rejected)


@settings(max_examples=200)
@given(
    tag=st.sampled_from(sorted(EVENT_TYPES)),
    field=st.sampled_from(["order", "customer", "id", "occurred_at", "refund"]),
    secret=st.sampled_from(["zz-secret-zz"]),
    wrap=st.sampled_from(["text", "list", "object", "key"]),
)
def test_no_rejection_quotes_the_message(
    tag: str, field: str, secret: str, wrap: str
) -> None:
    wrapped: Any = {
        "text": secret,
        "list": [secret],
        "object": {"id": [secret], "email": secret},
        "key": {secret: secret, "custom_fields": secret},
    }[wrap]
    outcome = read({"type": tag, field: wrapped})
    if isinstance(outcome, Event):
        planned = outcome.commands(Context(), 0)
        assert not isinstance(planned, Rejected) or secret not in repr(planned)
    assert not isinstance(outcome, Rejected) or secret not in repr(outcome)
