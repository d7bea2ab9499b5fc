"""Orders of 2.5 lines on average, as a shop sends them: what every part measures with."""

import json
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["change", "order", "orders", "rows"]

_KINDS: Final = ("Mug", "Lamp", "Chair", "Rug")
_CITIES: Final = (("New York", "NY", "10001"), ("Seattle", "WA", "98101"))


def orders(count: int, customers: int, *, own: bool = False) -> Iterator[bytes]:
    """`count` orders in turn by so many customers; see `order`."""
    return (order(number, number % customers, own=own) for number in range(count))


def order(number: int, customer: int, *, own: bool = False) -> bytes:
    """One order of 2 or 3 lines; `own`: with properties that only this shop knows."""
    city, state, code = _CITIES[customer % len(_CITIES)]
    address = {
        "address1": f"{customer} Main Street",
        "city": city,
        "region": state,
        "zip": code,
        "country": "US",
    }
    body = {
        "id": f"O-{number}",
        "number": str(100_000 + number),
        "currency": "USD",
        "total": "210.40",
        "subtotal": "199.90",
        "tax": "7.50",
        "shipping": "3.00",
        "discount": "0.00",
        "discount_codes": ["WELCOME"],
        "customer": {
            "id": f"C-{customer}",
            "email": f"customer.{customer}@shop.dev",
            "phone": _phone(customer),
            "first_name": "Ada",
            "last_name": f"Lovelace {customer}",
        },
        "billing_address": address,
        "shipping_address": {},
        "lines": [_line(number, index, own=own) for index in range(2 + number % 2)],
        "properties": {"channel": "web", "gift": False} if own else {},
    }
    second = number % 60
    return _text(
        {
            "type": "order.placed",
            "id": f"evt-{number}",
            "occurred_at": f"2026-11-01T10:{number // 60 % 60:02}:{second:02}Z",
            "order": body,
        }
    )


def rows(count: int) -> int:
    """Events that the first `count` orders make: one each, and one for each line."""
    return 3 * count + count // 2


def change(customer: int) -> bytes:
    """One change of one customer: a single call of profile-import."""
    return _text(
        {
            "type": "customer.updated",
            "customer": {
                "id": f"C-{customer}",
                "email": f"customer.{customer}@shop.dev",
                "first_name": "Ada",
            },
        }
    )


def _phone(customer: int) -> str:
    """A valid number of its own for each of 8 million customers."""
    return f"+1202{2_000_000 + customer}"


def _line(number: int, index: int, *, own: bool) -> dict[str, Any]:
    good = (number + index) % 1000
    name, price = _KINDS[good % len(_KINDS)], f"{4 + good}.90"  # each has its own
    return {
        "id": str(index + 1),
        "product_id": f"P{good}",
        "sku": f"SKU-{good}",
        "name": f"{name} {good}",
        "quantity": 1 + index % 2,
        "price": price,
        "total": price,
        "brand": "Brand",
        "categories": ["Home", name],
        "url": f"https://shop.dev/products/{good}",
        "image_url": f"https://cdn.shop.dev/products/{good}.png",
        "properties": {"colour": "red"} if own else {},
    }


def _text(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
