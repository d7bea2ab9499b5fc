"""Topics whose messages are not ours: mappings alone make profiles and events of them.

A web shop's order webhooks, a shop plug-in's orders and a customers table by Debezium.
The mappings are those of the README's section "Your own messages"; what Klaviyo must hold
is written down here by hand.
"""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pipeline.demo.shop import Made, Shop
from schemas import mapping

__all__ = ["MAPPINGS", "TOPICS", "changes", "mappings"]

ORDERS: Final = "web.orders"
PLUGIN: Final = "plugin.orders"
ROWS: Final = "crm.public.customers"
TOPICS: Final = (ORDERS, PLUGIN, ROWS)
BUYERS: Final = 12
GUESTS: Final = 4
PEOPLE: Final = 8
AT: Final = 1_793_527_200_000  # Unix ms, 2026-11-01T10:00:00Z
MAPPINGS: Final = Path(__file__).with_name("foreign.toml").read_text(encoding="utf-8")


def mappings() -> mapping.Mappings:
    """Compile the mappings of all these topics."""
    read, faults = mapping.read(tomllib.loads(MAPPINGS)["mapping"])
    assert not faults, faults  # noqa: S101  our own text
    return read


def changes(shop: Shop) -> Iterator[Made]:
    """All changes of these topics; the shop remembers what must become of them."""
    for number in range(BUYERS):
        yield from _order(shop, number)
    for number in range(GUESTS):
        yield _guest(shop, number)
    for number in range(PEOPLE):
        yield from _row(shop, number)
    if shop.bad:
        nobody = _webhook(0) | {"id": 1, "email": None, "customer": None}
        nobody["billing_address"] = None
        yield _dead(shop, ORDERS, b"web-nobody", _text(nobody), "no_identifier")
        untimely = _webhook(0) | {"id": 2, "created_at": 5}
        yield _dead(shop, ORDERS, b"web-untimely", _text(untimely), "mapping_failed")
        yield _dead(shop, ROWS, b"row-cut", b'{"op": "u", "after": {', "malformed")
        shop.skipped["unknown_type"] += 1
        unpaid = _webhook(0) | {"id": 3, "financial_status": "pending"}
        yield _made(shop, ORDERS, "web-unpaid", unpaid)


def _order(shop: Shop, number: int) -> Iterator[Made]:
    order = _webhook(number)
    who, order_id = str(order["customer"]["id"]), str(order["id"])
    shop.profiles[who] = {
        "email": order["email"],
        "phone_number": f"+1202555{100 + number:04}",
        "first_name": "Bob",
    }
    shop.events["Placed Order", order_id] = (who, 409.0)
    shop.events["Ordered Product", f"{order_id}:1"] = (who, 210.0)
    shop.events["Ordered Product", f"{order_id}:2"] = (who, 199.0)
    yield _made(shop, ORDERS, order_id, order)
    if number % 4 == 0:
        gone = {"cancelled_at": "2026-11-02T09:00:00Z", "cancel_reason": "customer"}
        shop.events["Cancelled Order", order_id] = (who, 409.0)
        yield _made(shop, ORDERS, order_id, order | gone)


def _webhook(number: int) -> dict[str, Any]:
    return {
        "id": 450_789_000 + number,
        "name": f"#{1001 + number}",
        "created_at": "2026-11-01T11:00:00+01:00",
        "cancelled_at": None,
        "financial_status": "paid",
        "currency": "usd",
        "total_price": "409.00",
        "email": f"bob.{number}@web.dev",
        "customer": {"id": 207_119_000 + number, "first_name": "Bob"},
        "billing_address": {
            "phone": f"(202) 555-{100 + number:04}",
            "city": "Washington",
            "country_code": "US",
        },
        "line_items": [
            {"id": 1, "sku": "P", "title": "Player", "quantity": 2, "price": "105.00"}
            | {"variant_title": "green"},
            {"id": 2, "sku": "C", "title": "Case", "quantity": 1, "price": "199.00"}
            | {"variant_title": None},
        ],
    }


def _guest(shop: Shop, number: int) -> Made:
    """Without a customer number, with amounts in cents: known by the e-mail alone."""
    order_id, email = str(700 + number), f"guest.{number}@plugin.dev"
    shop.profiles[email] = {"email": email, "first_name": "Kim"}
    shop.events["Placed Order", order_id] = (email, 29.37)
    shop.events["Ordered Product", f"{order_id}:1"] = (email, 6.0)
    order = {
        "id": int(order_id),
        "number": order_id,
        "status": "processing",
        "date_created_ms": AT,
        "total_cents": 2937,
        "customer_id": 0,
        "billing": {"first_name": "Kim", "email": email.upper(), "country": "DE"},
        "line_items": [
            {"id": 1, "sku": "W-1", "name": "Woof", "quantity": 2, "price_cents": 300},
            {"id": 2, "sku": "W-2", "name": "Sent back", "quantity": 0},
        ],
    }
    return _made(shop, PLUGIN, order_id, order)


def _row(shop: Shop, number: int) -> Iterator[Made]:
    who = 9_000 + number
    before = {"id": who, "email": f"eve.{number}@crm.dev", "given_name": "Eve"}
    before |= {"tier": "bronze", "birthday": 7305}
    after = before | {"tier": "gold", "given_name": None if number % 2 else "Eva"}
    shop.profiles[str(who)] = {
        "email": before["email"],
        "first_name": after["given_name"],
        "properties": {"tier": "gold", "born": "1990-01-01T00:00:00Z"},
    }
    key = json.dumps({"id": who})
    row = {"op": "c", "before": None, "after": before, "ts_ms": AT}
    yield _made(shop, ROWS, key, row)
    row = {"op": "u", "before": before, "after": after, "ts_ms": AT + 1}
    yield _made(shop, ROWS, key, {"schema": {"type": "struct"}, "payload": row})
    if number % 4 == 0:  # a delete and its tombstone: left alone, as deletes.policy says
        shop.skipped["deletes_ignored"] += 1
        shop.skipped["tombstone"] += 1
        row = {"op": "d", "before": after, "after": None, "ts_ms": AT + 2}
        yield _made(shop, ROWS, key, row)
        shop.made += 1
        yield Made(ROWS, key.encode(), None)


def _dead(shop: Shop, topic: str, key: bytes, value: bytes, reason: str) -> Made:
    shop.made += 1
    shop.dead[key] = reason
    return Made(topic, key, value)


def _made(shop: Shop, topic: str, key: str, message: dict[str, Any]) -> Made:
    shop.made += 1
    return Made(topic, key.encode(), _text(message))


def _text(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()
