"""What an order is worth: values, amounts that cannot be used, currencies."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import klaviyo
from schemas.commands import CreateEvent
from schemas.event import Rejected
from tests.unit.schemas.orders import (
    events,
    number,
    outcome,
    planned,
    properties,
)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ({"total": "19.99", "price": "1", "quantity": 2}, "19.99"),
        ({"price": "0.1", "quantity": 3}, "0.3"),
        ({"price": 0.1, "quantity": "3"}, "0.3"),
        ({"price": "10.00", "quantity": 2.5}, "25.000"),
        ({"price": "10.00"}, None),
        ({"quantity": 2}, None),
        ({"total": "n/a", "price": "10", "quantity": 2}, "20"),
        ({"total": "n/a"}, None),
        ({"total": 0}, "0"),
    ],
)
def test_value_of_a_line(line: dict[str, Any], value: str | None) -> None:
    _, event = events("placed", {"lines": [line]})
    assert number(event.value) == value


@pytest.mark.parametrize(
    ("field", "rest"),
    [
        ("total", {}),
        ("subtotal", {}),
        ("tax", {}),
        ("shipping", {}),
        ("discount", {}),
    ],
)
@pytest.mark.parametrize("bad", ["n/a", "NaN", "1,5"])
def test_unusable_amounts_are_left_out_and_named(
    field: str, rest: dict[str, Any], bad: str
) -> None:
    plan = planned("placed", {field: bad, **rest})
    (placed,) = plan.commands
    assert isinstance(placed, CreateEvent)
    assert placed.value is None
    assert properties(placed) == {"OrderId": "O-1"}
    assert plan.degraded == (field,)


@pytest.mark.parametrize(
    ("kind", "message", "path"),
    [
        ("placed", {"order": {"total": []}}, "$.order.total"),
        ("placed", {"order": {"discount": {}}}, "$.order.discount"),
        ("placed", {"order": {"lines": [{}, {"price": True}]}}, "$.order.lines[1].price"),
        ("placed", {"order": {"lines": [{"quantity": []}]}}, "$.order.lines[0].quantity"),
        ("refunded", {"refund": {"amount": [5]}}, "$.refund.amount"),
        (
            "refunded",
            {"refund": {"lines": [{"id": "1", "quantity": {}}]}},
            "$.refund.lines[0].quantity",
        ),
        (
            "fulfilled",
            {"fulfillment": {"lines": [{}, {"quantity": False}]}},
            "$.fulfillment.lines[1].quantity",
        ),
    ],
)
def test_amounts_of_wrong_json_types_are_rejected(
    kind: str, message: dict[str, Any], path: str
) -> None:
    order = {"id": "O-1", "customer": {"id": "C-1"}, **message.pop("order", {})}
    rejected = outcome({"type": f"order.{kind}", "order": order, **message})
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.stage, rejected.path) == ("schema", "plan", path)


@pytest.mark.parametrize(
    ("raw", "currency", "lost"),
    [
        ("USD", "USD", ()),
        (" eur ", "EUR", ()),
        ("", None, ()),
        (None, None, ()),
        ("dollars", None, ("currency",)),
        ("XYZ", None, ("currency",)),
        ("\u20ac", None, ("currency",)),
    ],
)
def test_currency(raw: str | None, currency: str | None, lost: tuple[str, ...]) -> None:
    plan = planned("placed", {"currency": raw, "total": 1})
    (placed,) = plan.commands
    assert isinstance(placed, CreateEvent)
    assert (placed.currency, plan.degraded) == (currency, lost)
    assert number(placed.value) == "1"


@pytest.mark.parametrize(
    ("refund", "value", "lost"),
    [
        ({"amount": "5.00"}, "5.00", ()),
        ({"amount": 0}, "0", ()),
        ({"amount": None}, "35.50", ()),
        ({}, "35.50", ()),
        (None, "35.50", ()),
        ({"amount": "n/a"}, None, ("amount",)),
    ],
)
def test_value_of_a_refund(
    refund: dict[str, Any] | None, value: str | None, lost: tuple[str, ...]
) -> None:
    plan = planned("refunded", {"total": "35.50"}, refund=refund)
    (event,) = plan.commands
    assert isinstance(event, CreateEvent)
    assert (number(event.value), plan.degraded) == (value, lost)


@given(
    total=st.decimals(0, 10**9, places=2),
    price=st.decimals(0, 10**6, places=2),
    quantity=st.integers(0, 999),
)
def test_amounts_reach_the_request_exactly(
    total: Decimal, price: Decimal, quantity: int
) -> None:
    placed, line = events(
        "placed",
        {"total": str(total), "lines": [{"price": str(price), "quantity": quantity}]},
    )
    for event, expected in ((placed, total), (line, price * quantity)):
        body = klaviyo.event(event, "2026-07-15")
        decoder = msgspec.json.Decoder(float_hook=Decimal)
        value = decoder.decode(body)["data"]["attributes"]["value"]
        assert Decimal(value) == expected
