"""Another way to write a value is no difference; another value is."""

from typing import Any

import pytest

from pipeline.forward import difference


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (1, 1.0),
        (10.1, 10.100000000000001),
        (40.7, "40.7"),
        ("", None),
        ([], None),
        (" a ", "a"),
        ({"a": 1, "b": None}, {"a": 1, "c": 2}),
        ([1, {"a": "x"}], [1.0, {"a": "x", "b": 0}]),
        (False, False),
        (0, 0),
    ],
)
def test_the_same(sent: Any, shown: Any) -> None:
    body = {"data": {"attributes": {"properties": {"x": sent}}}}
    assert difference.profile(body, {"properties": {"x": shown}}) == []


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (1, True),
        (True, 1),
        (0, None),
        (False, None),
        (1, 2),
        (1, [1]),
        ("a", "A"),
        ("a", None),
        ("1.", "x"),
        ([1, 2], [2, 1]),
        ([1], []),
        ({"a": 1}, {"a": 2}),
        ({"a": {"b": 1}}, {"a": {}}),
        (None, "still"),
    ],
)
def test_a_difference(sent: Any, shown: Any) -> None:
    body = {"data": {"attributes": {"properties": {"x": sent}}}}
    assert difference.profile(body, {"properties": {"x": shown}}) == ["properties.x"]


def test_an_address_may_be_shown_in_capitals() -> None:
    body = {"data": {"attributes": {"email": "ada@shop.dev"}}}
    assert difference.profile(body, {"email": "Ada@Shop.dev"}) == []
    assert difference.profile(body, {"email": "bob@shop.dev"}) == ["email"]
    assert difference.profile(body, {"email": None}) == ["email"]


def event(shown: dict[str, Any], **attributes: Any) -> list[str]:
    body = {"properties": {"a": 1, "zero": 0, "no": False}} | attributes
    return difference.event({"data": {"attributes": body}}, {"a": 1} | shown)


def test_an_event_shows_neither_zero_nor_null() -> None:
    assert event({}) == []
    assert event({}, value=0) == []
    assert event({"a": 2}) == ["properties.a"]


def test_the_value_of_an_event() -> None:
    assert event({"$value": 10.1}, value=10.10) == []
    assert event({}, value=10.1) == ["value"]
    assert event({"$value": 10.2}, value=10.1) == ["value"]
    paid = {"$value": 1, "$value_currency": "USD"}
    assert event(paid, value=1, value_currency="EUR") == ["value_currency"]
    assert event(paid, value=1) == []
