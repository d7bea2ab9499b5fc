"""Lines, shipments, refunds and cancellations: which ids they have, what they list."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.schemas.orders import LINES, events, number, properties


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
