"""What order messages become in Klaviyo (contract 5, facts of the e-commerce guide)."""

from decimal import Decimal
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import klaviyo
from schemas.commands import CreateEvent, Identity
from schemas.envelope import decode
from schemas.event import Context, Event, Plan, Rejected, Skipped

CONTEXT = Context(default_country="US")
RECORD = 1_793_527_200_000  # ms; 2026-11-01T10:00:00Z
LINES = [
    {"id": "1", "product_id": "P1", "name": "Thing", "quantity": 2, "price": "10.00"},
    {"id": "2", "product_id": "P2", "name": "Other", "quantity": 1, "price": "5.50"},
]


def outcome(
    message: dict[str, Any], context: Context = CONTEXT
) -> Plan | Skipped | Rejected:
    event = decode(orjson.dumps(message), ())
    assert isinstance(event, Event), event
    return event.commands(context, RECORD)


def planned(
    kind: str, order: dict[str, Any], context: Context = CONTEXT, **rest: object
) -> Plan:
    order = {"id": "O-1", "customer": {"id": "C-1"}, **order}
    plan = outcome({"type": f"order.{kind}", "order": order, **rest}, context)
    assert isinstance(plan, Plan), plan
    return plan


def events(kind: str, order: dict[str, Any], **rest: Any) -> list[CreateEvent]:
    commands = planned(kind, order, **rest).commands
    return [command for command in commands if isinstance(command, CreateEvent)]


def properties(event: CreateEvent) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(bytes(event.properties))
    return found


def number(raw: msgspec.Raw | None) -> str | None:
    return None if raw is None else bytes(raw).decode()


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
    ("ids", "names"),
    [
        (["1", "2"], ["1", "2"]),
        ([" a ", "b"], ["a", "b"]),
        ([None, None], ["1", "2"]),
        (["x", None, ""], ["x", "2", "3"]),
        (["a", "a", "a"], ["a", "a-2", "a-3"]),
        (["a", "a", "a-2"], ["a", "a-3", "a-2"]),
        (["2", None], ["2", "2-2"]),
        ([None, "1", "1"], ["1-2", "1", "1-3"]),
    ],
)
def test_every_line_has_an_id_of_its_own(ids: list[str | None], names: list[str]) -> None:
    lines = [{"id": own} for own in ids]
    _, *told = events("placed", {"lines": lines})
    assert [event.unique_id for event in told] == [f"O-1:{name}" for name in names]


@given(
    st.lists(st.none() | st.sampled_from(["1", "2", "1-2", "2-2", " ", "a"]), max_size=9)
)
def test_no_two_lines_share_an_id(ids: list[str | None]) -> None:
    _, *told = events("placed", {"lines": [{"id": own} for own in ids]})
    assert len({event.unique_id for event in told}) == len(ids)


@pytest.mark.parametrize(
    ("kind", "rest", "unique_id"),
    [
        ("cancelled", {"reason": "x"}, "O-1"),
        ("fulfilled", {}, "O-1"),
        ("fulfilled", {"fulfillment": None}, "O-1"),
        ("fulfilled", {"fulfillment": {"id": "F-1"}}, "O-1"),
        ("fulfilled", {"fulfillment": {"id": "F-1", "lines": []}}, "O-1"),
        ("fulfilled", {"fulfillment": {"id": "F-1", "lines": [{"id": "1"}]}}, "O-1:F-1"),
        ("refunded", {"refund": {"id": "R-1", "amount": "5"}}, "O-1"),
        (
            "refunded",
            {"refund": {"id": "R-1", "lines": [{"id": "1"}, {"id": "2"}]}},
            "O-1",
        ),
        (
            "refunded",
            {
                "refund": {
                    "id": "R-1",
                    "lines": [{"id": "1", "quantity": "2.0"}, {"id": "2", "quantity": 1}],
                }
            },
            "O-1",
        ),
        (
            "refunded",
            {
                "refund": {
                    "id": "R-1",
                    "lines": [
                        {"id": "1", "quantity": 1},
                        {"id": "2"},
                        {"id": "1", "quantity": 1},
                    ],
                }
            },
            "O-1",
        ),
        (
            "refunded",
            {"refund": {"id": "R-1", "lines": [{"id": "1", "quantity": 1}, {"id": "2"}]}},
            "O-1:R-1",
        ),
        (
            "refunded",
            {"refund": {"id": "R-1", "lines": [{"id": "1"}, {"id": "2"}, {"id": "3"}]}},
            "O-1:R-1",
        ),
        (
            "refunded",
            {
                "refund": {
                    "id": "R-1",
                    "lines": [{"id": "1", "quantity": "n/a"}, {"id": "2"}],
                }
            },
            "O-1:R-1",
        ),
        ("refunded", {"id": "evt-1", "refund": {"lines": [{"id": "1"}]}}, "O-1:evt-1"),
    ],
)
def test_whole_orders_have_the_orders_id_and_parts_their_own(
    kind: str, rest: dict[str, Any], unique_id: str
) -> None:
    (event,) = events(kind, {"lines": LINES}, **rest)
    assert event.unique_id == unique_id


def test_parts_without_any_id_are_told_apart_by_what_they_say() -> None:
    def unique_id(quantity: int, at: str | None = None) -> str:
        refund = {"lines": [{"id": "1", "quantity": quantity}]}
        (event,) = events("refunded", {"lines": LINES}, refund=refund, occurred_at=at)
        return event.unique_id

    assert unique_id(1) == unique_id(1)
    assert unique_id(1).startswith("O-1:")
    assert len({unique_id(1), unique_id(0), unique_id(1, "2026-10-01T00:00:00Z")}) == 3


def test_a_part_lists_the_named_lines_with_the_named_quantities() -> None:
    (event,) = events(
        "refunded",
        {"lines": LINES},
        refund={"id": "R-1", "lines": [{"id": "1", "quantity": 1}], "reason": "broken"},
    )
    assert properties(event) == {
        "OrderId": "O-1",
        "ItemNames": ["Thing"],
        "Items": [
            {
                "ProductID": "P1",
                "ProductName": "Thing",
                "Quantity": 1,
                "ItemPrice": 10.0,
                "RowTotal": 10.0,
            }
        ],
        "Reason": "broken",
        "RefundId": "R-1",
    }


def test_lines_of_one_id_share_the_named_quantity() -> None:
    lines = [{"id": "1", "quantity": 2}, {"id": "1", "quantity": 2}]

    def taken(quantity: int) -> tuple[list[int], str]:
        refund = {"id": "R", "lines": [{"id": "1", "quantity": quantity}]}
        (event,) = events("refunded", {"lines": lines}, refund=refund)
        items = properties(event).get("Items", [])
        return [item["Quantity"] for item in items], event.unique_id

    assert taken(1) == ([1], "O-1:R")
    assert taken(3) == ([2, 1], "O-1:R")
    assert taken(4) == ([2, 2], "O-1")


def test_tracking_of_a_shipment() -> None:
    (event,) = events(
        "fulfilled",
        {},
        fulfillment={
            "id": "F-1",
            "carrier": "UPS",
            "tracking_number": "1Z",
            "tracking_url": "https://ups.dev/1Z",
        },
    )
    assert event.metric == "Fulfilled Order"
    assert properties(event) == {
        "OrderId": "O-1",
        "FulfillmentId": "F-1",
        "Carrier": "UPS",
        "TrackingNumber": "1Z",
        "TrackingURL": "https://ups.dev/1Z",
    }


def test_a_cancellation_says_why() -> None:
    (event,) = events("cancelled", {"total": "35.50"}, reason="out of stock")
    assert (event.metric, event.unique_id) == ("Cancelled Order", "O-1")
    assert properties(event) == {"OrderId": "O-1", "Reason": "out of stock"}
    assert number(event.value) == "35.50"


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


@given(order=st.text(min_size=1, max_size=400), line=st.text(max_size=400))
def test_unique_ids_fit(order: str, line: str) -> None:
    if not order.strip():
        return
    told = events("placed", {"id": order, "lines": [{"id": line}]})
    assert all(1 <= len(event.unique_id) <= 255 for event in told)
    assert len({event.unique_id for event in told}) == 2


def test_long_ids_stay_different() -> None:
    one, other = ("x" * 300 + end for end in "ab")
    (first,), (again,) = events("placed", {"id": one}), events("placed", {"id": one})
    (second,) = events("placed", {"id": other})
    assert len(first.unique_id) == 255
    assert first.unique_id == again.unique_id != second.unique_id
    assert events("placed", {"id": "y" * 255})[0].unique_id == "y" * 255


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
