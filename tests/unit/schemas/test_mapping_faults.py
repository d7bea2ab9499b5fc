"""Mappings: what is refused at start, and how they fail on a message."""

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.demo import foreign
from schemas.envelope import decode
from schemas.event import Context, Plan, Rejected, Skipped
from schemas.mapping import Mapped, read
from tests.shops import (
    PLUGIN_ORDER,
    ROW,
    WEB_CANCELLED,
    WEB_ORDER,
    change,
    mappings,
)
from tests.unit.schemas.mapped import customers, orders, outcome

# -- at start ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "path", "said"),
    [
        ("x = 1", "m.x", "no such setting"),
        ('fromtopic = "t"', "m.fromtopic", "did you mean from_topic?"),
        ('to = "order.place"', "m.to", "did you mean order.placed?"),
        ("to = 5", "m.to", "must be a text"),
        ('when = "a ||| b"', "m.when", "column 5"),
        ('clear = "yes"', "m.clear", "true or false"),
        ('from_topic = "^["', "m.from_topic", "no regular expression"),
        ("tombstones = true\nfrom_type = 'x'", "m.tombstones", "no type"),
        ("fields = {}", "m.fields", "is needed"),
        ("fields.order.id = ''", "m.fields.order.id", "is blank"),
        ("fields.order.id = 'a.'", "m.fields.order.id", "no JMESPath expression"),
        ('fields.order.id = "\'a"', "m.fields.order.id", "no JMESPath expression"),
        ("fields.order.id = ['a']", "m.fields.order.id", "expression in quotes"),
        ("fields.order.id = 'uper(a)'", "m.fields.order.id", "did you mean upper()?"),
        ("fields.order.id = 'a[?uper(b)]'", "m.fields.order.id", "no function uper()"),
        ("fields.order.id = 'money()'", "m.fields.order.id", "1 to 2 arguments, not 0"),
        ("fields.order.id = 'join(a)'", "m.fields.order.id", "2 arguments, not 1"),
        ("fields.order.id = 'to_string(a)'", "m.fields.order.id", "use text()"),
        ("fields.order.totl = 'a'", "m.fields.order.totl", "did you mean order.total?"),
        ("fields.total = 'a'", "m.fields.total", "did you mean order.total?"),
        ("fields.'order.id' = 'a'", "m.fields.order.id", "without quotes"),
        (
            "fields.order.lines = 'l[*].{skuu: a}'",
            "m.fields.order.lines",
            "no field order.lines[].skuu; did you mean order.lines[].sku?",
        ),
        (
            "fields.order.lines = 'l[?a].{sku: a, foo: b} || m[].{sku: b}'",
            "m.fields.order.lines",
            "order.lines[].foo",
        ),
        (
            "fields.order.billing_address = 'a | {town: b}'",
            "m.fields.order.billing_address",
            "order.billing_address.town",
        ),
        (
            "fields.order.customer = '{id: a, billing: {b: c}}'",
            "m.fields.order.customer",
            "order.customer.billing",
        ),
    ],
)
def test_what_is_refused_at_start(toml: str, path: str, said: str) -> None:
    table: dict[str, Any] = {
        "from_topic": "t",
        "to": "order.placed",
        "fields": {"order": {"id": "a"}},
    } | tomllib.loads(toml)
    _, faults = read({"m": table})
    assert [".".join(fault.path) for fault in faults] == [path]
    assert said in faults[0].message


def test_a_mapping_that_takes_nothing_is_refused() -> None:
    _, faults = read({"m": {"to": "order.placed", "fields": {"id": "a"}}, "n": 5})
    assert ["from_topic" in fault.message for fault in faults] == [True, False]


def test_free_fields_take_any_name() -> None:
    toml = customers("customer.custom_fields.'a.b'.c = 'x'\ncustomer.id = 'x'")
    made = outcome(toml, {"x": "1"})
    assert made.event.commands(Context(), 0).commands[0].properties == {"a.b": {"c": "1"}}


# -- how they fail -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message", "path", "expression"),
    [
        ("order.number = 'n'", {"n": 5}, "$.order.number", "order.number = n:"),
        (
            "order.number = 'upper(n)'",
            {"n": 5},
            "$.order.number",
            ": upper() takes",
        ),
        ("order.total = 'n'", {"n": {"x": 1}}, "$.order.total", "order.total = n:"),
        ("order.total = 'money(n, k)'", {"n": 1, "k": "x"}, "$.order.total", "money("),
        (
            "order.lines = 'n'",
            {"n": [{"id": 7}]},
            "$.order.lines[0].id",
            "order.lines = n",
        ),
        (
            "order.lines = 'n[*].{price: p}'",
            {"n": [{}, {"p": True}]},
            "$.order.lines[1].price",
            "order.lines = n[*]",
        ),
        ("order.properties.x = '&n'", {}, "$", "yields no JSON"),
        ("order.discount_codes = 'n'", {"n": "A"}, "$.order.discount_codes", "Expected"),
        (
            "order.tax = 'sum(n)'",
            {"n": ["zz"]},
            "$.order.tax",
            "sum() takes array",
        ),
        ("order.tax = 'n[::0]'", {"n": [1]}, "$.order.tax", "raised ValueError"),
    ],
)
def test_a_failure_names_the_expression(
    fields: str, message: dict[str, Any], path: str, expression: str
) -> None:
    found = outcome(orders(fields), message | {"id": "zz-secret"})
    if isinstance(found, Mapped):
        found = found.commands(Context(), 0)
    assert isinstance(found, Rejected)
    assert (found.reason, found.path) == ("mapping_failed", path)
    assert found.message.startswith("mapping.m")
    assert expression in found.message
    assert "secret" not in found.message


def test_a_needed_field_that_yields_nothing_is_named() -> None:
    found = outcome(orders(""), {})
    assert found.path == "$.order.id"
    assert "fields.order.id = text(id): it is needed" in found.message


def test_a_condition_that_fails_is_named() -> None:
    found = outcome(customers("customer.id = 'id'", "when = 'length(x)'"), {"x": 5})
    assert (found.reason, found.path) == ("mapping_failed", "$")
    assert "mapping.m.when = length(x)" in found.message


def test_nobody_is_not_the_mappings_fault() -> None:
    made = outcome(customers("customer.email = 'mail'"), {"mail": ""})
    assert made.commands(Context(), 0).reason == "no_identifier"


@pytest.mark.parametrize("value", [b"{", b"\xff", b'{"a":' * 9_999, b"", b"\x00\x00"])
def test_what_is_no_json_is_malformed(value: bytes) -> None:
    found = decode(value, (), None, mappings(orders("")).of("t"))
    assert isinstance(found, Rejected)
    assert found.reason == "malformed"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(
    shape=st.sampled_from(
        [
            ("web.orders", WEB_ORDER),
            ("web.orders", WEB_CANCELLED),
            ("plugin.orders", PLUGIN_ORDER),
            ("crm.public.customers", change("u", ROW, ROW)),
        ]
    ),
    data=st.data(),
)
def test_no_message_raises(
    shape: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    """Real messages with anything in place of anything, through the README's mappings."""
    topic, message = json.loads(json.dumps(shape))
    place = message
    key = data.draw(st.sampled_from(sorted(place)))
    while isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place)))
    place[key] = data.draw(JSON)
    made = decode(json.dumps(message).encode(), (), None, foreign.mappings().of(topic))
    if isinstance(made, Mapped):
        planned = made.commands(Context(default_country="US"), 0)
        assert isinstance(planned, Plan | Skipped | Rejected)
    else:
        assert isinstance(made, Skipped | Rejected)
