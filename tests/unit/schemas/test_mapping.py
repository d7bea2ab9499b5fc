"""Mappings: what they make of a message, and which ones they take."""

import json
from typing import Any

import pytest

from pipeline.demo import foreign
from schemas.envelope import Headers, decode
from schemas.event import Context, Plan, Skipped
from schemas.events.customer_updated import CustomerUpdated
from schemas.events.order_placed import OrderPlaced
from schemas.mapping import Mapped
from schemas.mapping.expression import Expression
from tests.shops import (
    PLUGIN_ORDER,
    WEB_CANCELLED,
    WEB_ORDER,
)
from tests.unit.schemas.mapped import customers, orders, outcome

# -- what they make ----------------------------------------------------------------------


def test_a_mapped_message_is_what_the_same_plain_message_is() -> None:
    """From a foreign order, and from ours with the same content: one plan."""
    plain = {
        "type": "order.placed",
        "occurred_at": "2026-11-01T11:00:00+01:00",
        "order": {
            "id": "450789469",
            "number": "#1001",
            "currency": "USD",
            "total": "409.94",
            "tax": "11.94",
            "discount_codes": ["TENOFF"],
            "customer": {
                "id": "207119551",
                "email": "bob@shop.dev",
                "phone": "+12025550123",
                "first_name": "Bob",
                "last_name": "Norman",
            },
            "billing_address": {
                "address1": "1 Main",
                "city": "NY",
                "region": "NY",
                "zip": "10001",
                "country": "US",
            },
            "lines": [
                {
                    "id": str(line["id"]),
                    "product_id": str(line["product_id"]),
                    "sku": line["sku"],
                    "name": name,
                    "quantity": line["quantity"],
                    "price": line["price"],
                    "brand": "Acme",
                }
                for line, name in zip(
                    WEB_ORDER["line_items"], ["Player - green", "Player"], strict=True
                )
            ],
            "properties": {"channel": "web", "source": "web"},
        },
    }
    ours = decode(json.dumps(plain).encode(), ())
    theirs = decode(
        json.dumps(WEB_ORDER).encode(), (), None, foreign.mappings().of("web.orders")
    )
    assert isinstance(ours, OrderPlaced)
    assert isinstance(theirs, Mapped)
    expected = ours.commands(Context(), 0)
    assert isinstance(expected, Plan)
    assert len(expected.commands) == 3
    assert theirs.commands(Context(), 0) == expected


def test_the_first_mapping_that_takes_it() -> None:
    of = foreign.mappings().of
    cancelled = decode(json.dumps(WEB_CANCELLED).encode(), (), None, of("web.orders"))
    assert isinstance(cancelled, Mapped)
    assert cancelled.mapping.name == "cancellations"
    draft = json.dumps(PLUGIN_ORDER | {"status": "draft"}).encode()
    assert decode(draft, (), None, of("plugin.orders")) == Skipped("unknown_type")


def test_guests_are_nobody_in_particular() -> None:
    """A customer number of 0, shared by all guests, must not become an id."""
    message = json.dumps(PLUGIN_ORDER).encode()
    made = decode(message, (), None, foreign.mappings().of("plugin.orders"))
    assert isinstance(made, Mapped)
    planned = made.commands(Context(), 0)
    assert isinstance(planned, Plan)
    assert {one.identity.names() for one in planned.commands} == {
        ("e:ada@shop.dev", "p:+4930901820")
    }


@pytest.mark.parametrize(("rest", "phone"), [("", "left alone"), ("clear = true", None)])
def test_a_null_is_left_alone_or_clears(rest: str, phone: str | None) -> None:
    fields = (
        "customer.id = 'id'\ncustomer.phone = 'p'\ncustomer.address = '{city: c, zip: z}'"
    )
    made = outcome(customers(fields, rest), {"id": "1", "p": None, "z": "1"})
    attributes = made.commands(Context(), 0).commands[0].attributes
    assert attributes.get("phone_number", "left alone") == phone
    assert attributes["location"] == {"zip": "1"} | ({"city": None} if rest else {})


def test_constants() -> None:
    toml = customers(
        "customer.id = 'id'\ncustomer.custom_fields.SubscribeProfile = true\n"
        "customer.custom_fields.n = 1.5\ncustomer.company = \"'Acme'\""
    )
    made = outcome(toml, {"id": "1"})
    assert isinstance(made.event, CustomerUpdated)
    assert made.event.customer.company == "Acme"
    fields = made.event.customer.custom_fields or {}
    assert {name: bytes(raw) for name, raw in fields.items()} == {
        "SubscribeProfile": b"true",
        "n": b"1.5",
    }


CLOUD = {
    "specversion": "1.0",
    "type": "their.order",
    "id": "ce-1",
    "time": "2026-11-01T10:00:00Z",
}
BY_TYPE = orders("").replace('from_topic = "t"', 'from_type = "their.order"')


@pytest.mark.parametrize(
    ("message", "headers"),
    [
        ({"type": "their.order", "id": 5}, ()),
        (CLOUD | {"data": {"id": 5}}, ()),
        ({"id": 5}, (("ce_type", b"their.order"), ("ce_id", b"ce-1"))),
    ],
)
def test_by_the_messages_own_type(message: object, headers: Headers) -> None:
    made = outcome(BY_TYPE, message, *headers, topic="any")
    assert isinstance(made.event, OrderPlaced)
    assert made.event.order.id == "5"
    assert made.event.id in {None, "ce-1"}


def test_what_is_not_of_the_type_is_read_as_ever() -> None:
    plain = {"type": "customer.updated", "customer": {"id": "1"}}
    assert isinstance(outcome(BY_TYPE, plain), CustomerUpdated)
    assert outcome(BY_TYPE, {"type": "x"}) == Skipped("unknown_type")
    assert outcome(BY_TYPE, {}).reason == "malformed"


def test_attributes_of_a_cloudevent_stand_in_for_what_is_not_mapped() -> None:
    toml = orders("occurred_at = 'at'").replace(
        "from_topic", "from_type = 'their.order'\nfrom_topic"
    )
    made = outcome(toml, CLOUD | {"data": {"id": 5, "at": "2020-01-01T00:00:00Z"}})
    assert (made.event.id, made.event.occurred_at) == ("ce-1", "2020-01-01T00:00:00Z")
    made = outcome(toml, CLOUD | {"data": {"id": 5}})
    assert made.event.occurred_at == CLOUD["time"]


def test_a_mapped_topic_is_read_by_nothing_else() -> None:
    toml = orders("").replace("[mapping.m.fields]", 'when = "mine"\n[mapping.m.fields]')
    plain = {"type": "customer.updated", "customer": {"id": "1"}}
    messages: list[Any] = [plain, {"type": 5}, []]
    for message in messages:
        assert outcome(toml, message) == Skipped("unknown_type")
    assert isinstance(outcome(toml, plain, topic="other"), CustomerUpdated)
    assert isinstance(outcome(toml, {"type": 5, "mine": 1, "id": 1}), Mapped)


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (None, False),
        (False, False),
        ("", False),
        ([], False),
        ({}, False),
        (0, True),
        (True, True),
        ("x", True),
        ([0], True),
    ],
)
def test_what_counts_as_true(value: object, taken: bool) -> None:
    toml = orders("").replace("[mapping.m.fields]", 'when = "x"\n[mapping.m.fields]')
    assert isinstance(outcome(toml, {"id": 1, "x": value}), Mapped) is taken


def test_topics_by_regular_expression() -> None:
    toml = orders("").replace('"t"', "'^shop-\\d+'")
    assert isinstance(outcome(toml, {"id": 1}, topic="shop-12"), Mapped)
    assert outcome(toml, {"id": 1}, topic="a-shop-12").reason == "malformed"


def test_our_own_records_are_not_mapped() -> None:
    assert outcome(orders(""), {"id": 1}, ("origin", b"klaviyo")) == Skipped("own_origin")


# -- functions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "document", "expected"),
    [
        ("text(@)", None, None),
        ("text(@)", 7, "7"),
        ("text(@)", 7.5, "7.5"),
        ("text(@)", "x", "x"),
        ("text(@)", True, "true"),
        ("text(@)", {"ä": [1]}, '{"ä":[1]}'),
        ("upper(@)", "eur", "EUR"),
        ("lower(@)", "ADA@Shop.dev", "ada@shop.dev"),
        ("lower(@)", None, None),
        ("join(' ', @)", ["a", None, 5], "a 5"),
        ("join(' ', @)", [None], None),
        ("join(' ', @)", None, None),
        ("money(@)", 3550, "35.50"),
        ("money(@)", "-5", "-0.05"),
        ("money(@)", None, None),
        ("money(@)", "n/a", "n/a"),
        ("money(@, `0`)", 3550, "3550"),
        ("money(@, `6`)", 35_500_001, "35.500001"),
        ("money(@)", 9_007_199_254_740_993, "90071992547409.93"),
        ("money(@)", "1e999999", "1e999999"),
        ("time(@)", 1793527200000, "2026-11-01T10:00:00Z"),
        ("time(@)", 1793527200123, "2026-11-01T10:00:00.123000Z"),
        ("time(@, 's')", "1793527200", "2026-11-01T10:00:00Z"),
        ("time(@, 'us')", 1793527200000000, "2026-11-01T10:00:00Z"),
        ("time(@, 'days')", -1, "1969-12-31T00:00:00Z"),
        ("time(@)", "2026-11-01T10:00:00Z", "2026-11-01T10:00:00Z"),
        ("time(@)", 10**20, "100000000000000000000"),
        ("time(@)", None, None),
        ("phone(@, 'US')", "(202) 555-0123", "+12025550123"),
        ("phone(@)", "+12025550123", "+12025550123"),
        ("phone(@, x)", "junk", "junk"),
        ("phone(@)", None, None),
        ("sort(@)", [2, 1], [1, 2]),
    ],
)
def test_functions(expression: str, document: object, expected: object) -> None:
    assert Expression(expression)(document) == expected
