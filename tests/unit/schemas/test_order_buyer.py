"""Whose order it is: identifiers, names and phones, or nobody."""

from typing import Any

import pytest

from schemas.commands import CreateEvent, Identity
from schemas.event import Rejected
from tests.unit.schemas.orders import (
    events,
    outcome,
    planned,
)


@pytest.mark.parametrize(
    ("customer", "profile"),
    [
        (
            {"first_name": "Ada", "last_name": "L", "title": "Dr"},
            {"first_name": "Ada", "last_name": "L"},
        ),
        ({"first_name": None, "last_name": " "}, {}),
        ({"company": "Acme", "locale": "en-US"}, {}),
    ],
)
def test_only_names_ride_along(customer: dict[str, Any], profile: dict[str, str]) -> None:
    (placed,) = events("placed", {"customer": {"id": "C-1", **customer}})
    assert placed.profile == profile


def test_a_name_too_long_for_an_event_is_left_out() -> None:
    plan = planned("placed", {"customer": {"id": "C-1", "last_name": "x" * 100_000}})
    (placed,) = plan.commands
    assert isinstance(placed, CreateEvent)
    assert (placed.profile, plan.degraded) == ({}, ("last_name",))


@pytest.mark.parametrize(
    ("billing", "shipping", "phone"),
    [
        ({"country": "DE"}, {"country": "US"}, "+4915123456789"),
        ({}, {"country": "de"}, "+4915123456789"),
        (None, {"country": "DE"}, "+4915123456789"),
        ({"country": " "}, {"country": "DE"}, "+4915123456789"),
        (None, None, None),
        ({"country": "US"}, {"country": "DE"}, None),
    ],
)
def test_phone_by_the_orders_addresses(
    billing: dict[str, Any] | None, shipping: dict[str, Any] | None, phone: str | None
) -> None:
    plan = planned(
        "placed",
        {
            "customer": {"id": "C-1", "phone": "0151 23456789"},
            "billing_address": billing,
            "shipping_address": shipping,
        },
    )
    assert plan.commands[0].identity == Identity("C-1", None, phone)
    assert plan.degraded == (() if phone else ("phone",))


@pytest.mark.parametrize(
    ("order", "reason", "path"),
    [
        ({"id": " "}, "schema", "$.order.id"),
        ({"customer": None}, "no_identifier", "$.order.customer"),
        ({"customer": {}}, "no_identifier", "$.order.customer"),
        ({"customer": {"email": "n/a"}}, "no_identifier", "$.order.customer"),
    ],
)
def test_orders_of_nobody(order: dict[str, Any], reason: str, path: str) -> None:
    order = {"id": "O-1", "customer": {"id": "C-1"}, **order}
    rejected = outcome({"type": "order.placed", "order": order})
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.stage, rejected.path) == (reason, "plan", path)
