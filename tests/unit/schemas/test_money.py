"""Amounts and quantities: exact, or left out and said so."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from schemas.event import Losses
from schemas.money import amount, exact, product


def read(text: str) -> tuple[str | None, list[str]]:
    """The number and what was lost."""
    losses = Losses()
    number = amount(Raw(text.encode()), "total", losses, "$.order")
    assert losses.fault is None
    return None if number is None else bytes(number).decode(), list(losses.degraded)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("35.50", "35.50"),
        ('"35.50"', "35.50"),
        ('" 35.50 "', "35.50"),
        ('"+35.5"', "35.5"),
        ("0", "0"),
        ("-5.00", "-5.00"),
        ('"-5.00"', "-5.00"),
        ("1e2", "100"),
        ("1.5E-3", "0.0015"),
        ('"007.50"', "7.50"),
        ('".5"', "0.5"),
        ('"5."', "5"),
        ("0.30000000000000000000000000004", "0.30000000000000000000000000004"),
        (
            "123456789012345678.123456789012345678",
            "123456789012345678.123456789012345678",
        ),
    ],
)
def test_numbers(text: str, number: str) -> None:
    assert read(text) == (number, [])


@pytest.mark.parametrize("text", ["null", '""', '"  "'])
def test_absent_is_no_loss(text: str) -> None:
    assert read(text) == (None, [])
    assert amount(UNSET, "total", Losses(), "$.order") is None


@pytest.mark.parametrize(
    "text",
    [
        '"n/a"', '"NaN"', '"Infinity"', '"-inf"', '"1,234.50"', '"1.234,50"', '"35,50"',
        '"$35.50"', '"1_000"', '"0x10"', '"1e400"', "1e400", "1e-400", "1e18", '"--1"',
        "1" * 40, '"' + "9" * 10_000 + '"', '"\u0661\u0662"', '"1 000"', '"e5"', '"."',
    ],
)  # fmt: skip
def test_unusable_is_left_out_and_named(text: str) -> None:
    assert read(text) == (None, ["total"])


@pytest.mark.parametrize("text", ["[]", "{}", "true", "false", '["1"]'])
def test_wrong_json_types_are_faults(text: str) -> None:
    losses = Losses()
    raw = Raw(text.encode())
    assert amount(raw, "price", losses, "$.order.lines", 3) is None
    assert losses.fault is not None
    assert (losses.fault.reason, losses.fault.path) == (
        "schema",
        "$.order.lines[3].price",
    )


@given(
    st.decimals(
        allow_nan=False,
        allow_infinity=False,
        min_value=-(10**17),
        max_value=10**17,
        places=4,
    )
)
def test_every_decimal_arrives_as_it_is(value: Decimal) -> None:
    for text in (format(value, "f"), f'"{value:f}"', f'"{value:E}"'):
        number, lost = read(text)
        assert lost == []
        assert number is not None
        assert Decimal(number) == value
        assert msgspec.json.decode(number, type=Decimal) == value


@given(
    price=st.decimals(-(10**9), 10**9, places=6), quantity=st.decimals(0, 10**6, places=3)
)
def test_products_are_exact(price: Decimal, quantity: Decimal) -> None:
    number = product(Raw(f"{price:f}".encode()), Raw(f"{quantity:f}".encode()))
    assert number is not None
    scaled = int(price.scaleb(6)) * int(quantity.scaleb(3))
    assert int(exact(number).scaleb(9)) == scaled


def test_no_float_in_between() -> None:
    number = product(Raw(b"0.1"), Raw(b"3"))
    assert number == Raw(b"0.3")
