"""What order messages become in Klaviyo (as its e-commerce guide asks)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import klaviyo
from schemas.commands import CreateEvent, Identity
from schemas.envelope import decode
from schemas.event import Context, Event, Plan, Skipped
from tests.unit.schemas.orders import (
    CONTEXT,
    LINES,
    RECORD,
    events,
    number,
    outcome,
    planned,
    properties,
)


def test_a_placed_order_is_one_event_and_one_per_line() -> None:
    placed, first, second = events(
        "placed",
        {"total": "35.50", "currency": "usd", "lines": LINES, "number": "1001"},
        occurred_at="2026-10-31T23:00:00-04:00",
    )
    assert [e.metric for e in (placed, first, second)] == [
        "Placed Order",
        "Ordered Product",
        "Ordered Product",
    ]
    assert [e.unique_id for e in (placed, first, second)] == ["O-1", "O-1:1", "O-1:2"]
    assert [number(e.value) for e in (placed, first, second)] == [
        "35.50",
        "20.00",
        "5.50",
    ]
    assert {e.time for e in (placed, first, second)} == {"2026-11-01T03:00:00Z"}
    assert {e.currency for e in (placed, first, second)} == {"USD"}
    assert {e.identity for e in (placed, first, second)} == {Identity("C-1")}


def test_properties_of_a_placed_order() -> None:
    (placed, line) = events(
        "placed",
        {
            "number": "1001",
            "subtotal": 30,
            "tax": "2.50",
            "shipping": "3.00",
            "discount": "1.00",
            "discount_codes": ["WELCOME", "VIP"],
            "billing_address": {
                "first_name": "Ada",
                "last_name": "L",
                "address1": "1 Main",
                "address2": "Flat 2",
                "city": "NY",
                "region": "NYS",
                "zip": "10001",
                "country": "US",
                "phone": "202 555 0123",
            },
            "shipping_address": {"city": "Boston"},
            "lines": [
                {
                    "id": "1",
                    "product_id": "P1",
                    "sku": "S1",
                    "name": "Thing",
                    "quantity": 2,
                    "price": "10.00",
                    "total": "19.00",
                    "brand": "B",
                    "categories": ["A", "C"],
                    "url": "https://shop.dev/p1",
                    "image_url": "https://shop.dev/p1.png",
                }
            ],
        },
    )
    assert properties(placed) == {
        "OrderId": "O-1",
        "OrderNumber": "1001",
        "Categories": ["A", "C"],
        "ItemNames": ["Thing"],
        "Brands": ["B"],
        "DiscountCode": "WELCOME, VIP",
        "DiscountValue": 1.0,
        "Items": [
            {
                "ProductID": "P1",
                "SKU": "S1",
                "ProductName": "Thing",
                "Quantity": 2,
                "ItemPrice": 10.0,
                "RowTotal": 19.0,
                "ProductURL": "https://shop.dev/p1",
                "ImageURL": "https://shop.dev/p1.png",
                "Categories": ["A", "C"],
                "Brand": "B",
            }
        ],
        "BillingAddress": {
            "FirstName": "Ada",
            "LastName": "L",
            "Address1": "1 Main",
            "City": "NY",
            "RegionCode": "NYS",
            "CountryCode": "US",
            "Zip": "10001",
            "Phone": "202 555 0123",
        },
        "ShippingAddress": {"City": "Boston"},
        "Subtotal": 30,
        "Tax": 2.5,
        "Shipping": 3.0,
    }
    assert properties(line) == {
        "OrderId": "O-1",
        "OrderNumber": "1001",
        "ProductID": "P1",
        "SKU": "S1",
        "ProductName": "Thing",
        "Quantity": 2,
        "ProductURL": "https://shop.dev/p1",
        "ImageURL": "https://shop.dev/p1.png",
        "Categories": ["A", "C"],
        "ProductBrand": "B",
    }


def test_absent_values_are_omitted() -> None:
    (placed,) = events("placed", {"shipping_address": {}, "lines": [], "number": None})
    assert properties(placed) == {"OrderId": "O-1"}
    assert placed.value is None
    assert placed.currency is None


def test_categories_names_and_brands_stand_once_in_order() -> None:
    lines = [
        {"name": "B", "brand": "Y", "categories": ["2", "1"]},
        {"name": "A", "brand": "X", "categories": ["1", "3"]},
        {"name": "B", "brand": "Y", "categories": None},
    ]
    told = properties(events("placed", {"lines": lines})[0])
    assert (told["ItemNames"], told["Brands"]) == (["B", "A"], ["Y", "X"])
    assert told["Categories"] == ["2", "1", "3"]


def test_own_properties_stand_at_top_level_and_ours_win() -> None:
    own = {
        "channel": "web",
        "OrderId": "theirs",
        "Carrier": "own",
        "gone": None,
        "n": 1.10,
    }
    placed, line = events(
        "placed",
        {
            "properties": own,
            "lines": [
                {"id": "1", "sku": "S", "properties": {"SKU": "x", "colour": "red"}}
            ],
        },
    )
    assert properties(placed) == {
        "OrderId": "O-1",
        "Items": [{"SKU": "S"}],
        "channel": "web",
        "Carrier": "own",
        "n": 1.1,
    }
    assert properties(line) == {"OrderId": "O-1", "SKU": "S", "colour": "red"}


def test_own_numbers_are_not_rounded() -> None:
    event = decode(
        b'{"type":"order.placed","order":{"id":"O","customer":{"id":"C"},'
        b'"properties":{"n":0.1000000000000000000000001}}}',
        (),
    )
    assert isinstance(event, Event)
    plan = event.commands(CONTEXT, RECORD)
    assert isinstance(plan, Plan)
    (placed,) = plan.commands
    assert isinstance(placed, CreateEvent)
    assert b"0.1000000000000000000000001" in bytes(placed.properties)


def test_what_klaviyo_would_refuse_is_cut_and_the_event_arrives() -> None:
    nested: Any = "deep"
    for _ in range(12):
        nested = {"a": nested}
    plan = planned(
        "placed",
        {
            "properties": {
                "long": "\u20ac" * 33_334,
                "big": 2**64 - 1,
                "nested": nested,
                "many": list(range(5_000)),
                "": 1,
                "fine": "x" * 100_000,
            }
        },
    )
    (placed,) = plan.commands
    assert isinstance(placed, CreateEvent)
    told = properties(placed)
    cut = ["long", "big", "nested", "many"]
    assert told.keys() == {"OrderId", "long", "nested", "many", "fine", "Truncated"}
    assert told["Truncated"] == ["", *cut]
    assert told["long"] == "\u20ac" * 33_333
    assert told["many"] == list(range(4_000))
    assert str(told["nested"]).count("{") == 9
    assert plan.degraded == ("properties",)


def test_an_order_of_five_thousand_lines_arrives() -> None:
    plan = planned("placed", {"lines": [{"id": str(i)} for i in range(5_000)]})
    assert len(plan.commands) == 5_001
    placed = plan.commands[0]
    assert isinstance(placed, CreateEvent)
    assert len(properties(placed)["Items"]) == 4_000
    assert properties(placed)["Truncated"] == ["Items"]
    assert plan.degraded == ("properties",)


@pytest.mark.parametrize(
    ("revision", "most"), [("2025-01-15", 300), ("2025-04-15", 400), ("2026-07-15", 400)]
)
@pytest.mark.parametrize("more", [0, 1, 200])
def test_no_more_properties_than_the_revision_allows(
    revision: str, most: int, more: int
) -> None:
    """The marker counts as well: with one too many it takes the place of two."""
    context = Context(most_properties=klaviyo.most_properties(revision))
    own = {f"p{i}": i for i in range(most - 1 + more)}
    plan = planned("placed", {"properties": own}, context=context)
    (placed,) = plan.commands
    assert isinstance(placed, CreateEvent)
    told = properties(placed)
    assert len(told) == most
    assert told["OrderId"] == "O-1"
    assert plan.degraded == (("properties",) if more else ())
    assert ("Truncated" in told) is bool(more)
    assert len(told.get("Truncated", ())) == (min(20, more + 1) if more else 0)


def test_the_marker_of_what_was_cut_finds_room() -> None:
    own = {f"p{i}": i for i in range(298)} | {"long": "x" * 100_001}
    (placed,) = events("placed", {"properties": own})
    told = properties(placed)
    assert len(told) == 300
    assert told["Truncated"] == ["long"]


def test_an_event_of_more_than_five_megabytes_arrives() -> None:
    """The largest properties go, until a request has room for the rest."""
    own = {f"p{i}": ["x" * 90_000] * (i % 4) for i in range(60)}
    plan = planned("placed", {"properties": own | {"small": 1}})
    (placed,) = plan.commands
    assert isinstance(placed, CreateEvent)
    told = properties(placed)
    assert len(bytes(placed.properties)) <= 4_900_000
    assert told["small"] == 1
    assert told["p1"] == own["p1"], "what is small stays"
    assert "p59" not in told
    assert "p59" in told["Truncated"]
    assert plan.degraded == ("properties",)


def test_a_time_that_is_not_the_events_own_is_marked() -> None:
    plan = planned("placed", {"lines": [{}]}, occurred_at="2031-01-01T00:00:00Z")
    for event in plan.commands:
        assert isinstance(event, CreateEvent)
        assert properties(event)["Truncated"] == ["occurred_at"]
    (event,) = events("placed", {}, occurred_at="2026-11-01T10:00:00Z")
    assert "Truncated" not in properties(event)


@pytest.mark.parametrize("kind", ["placed", "fulfilled", "cancelled", "refunded"])
def test_events_can_be_off(kind: str) -> None:
    message = {"type": f"order.{kind}", "order": {"id": "O", "customer": {"id": "C"}}}
    off = Context(generate_events=False)
    assert outcome(message, off) == Skipped("events_off")


def test_metric_names_are_the_users() -> None:
    metrics = dict(
        zip(
            (
                "order_placed",
                "ordered_product",
                "order_fulfilled",
                "order_cancelled",
                "order_refunded",
            ),
            "abcde",
            strict=True,
        )
    )
    message = {"order": {"id": "O", "customer": {"id": "C"}, "lines": [{}]}}
    told = []
    for kind in ("placed", "fulfilled", "cancelled", "refunded"):
        plan = outcome({"type": f"order.{kind}", **message}, Context(metrics))
        assert isinstance(plan, Plan)
        told += [c.metric for c in plan.commands if isinstance(c, CreateEvent)]
    assert told == ["a", "b", "c", "d", "e"]


def test_the_records_time_stands_in() -> None:
    (placed,) = events("placed", {})
    assert placed.time == "2026-11-01T10:00:00Z"
    plan = planned("placed", {}, occurred_at="2031-01-01T00:00:00Z")
    assert plan.degraded == ("occurred_at",)


@given(st.binary(max_size=8))
def test_identical_records_give_identical_requests(name: bytes) -> None:
    message = {
        "type": "order.placed",
        "order": {
            "id": name.hex() or "0",
            "customer": {"id": "C"},
            "lines": LINES,
            "properties": {"b": 1, "a": 2},
        },
    }
    plans = [outcome(message) for _ in range(2)]
    bodies = [
        [
            klaviyo.event(c, "2026-07-15")
            for c in plan.commands
            if isinstance(c, CreateEvent)
        ]
        for plan in plans
        if isinstance(plan, Plan)
    ]
    assert bodies[0] == bodies[1]
