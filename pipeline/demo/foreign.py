"""Two topics whose messages are not ours: only mappings make profiles and events of them.

A web shop's order webhooks and a customers table by Debezium, as the README's section
"Your own messages" has them. What Klaviyo must hold is written down here by hand.
"""

import json
import tomllib
from collections.abc import Iterator
from typing import Any, Final

from pipeline.demo.shop import Made, Shop
from schemas import mapping

__all__ = ["ORDERS", "ROWS", "changes", "mappings"]

ORDERS: Final = "web.orders"
ROWS: Final = "crm.public.customers"
BUYERS: Final = 12
PEOPLE: Final = 8
_MAPPING: Final = r"""
[mapping.orders]
from_topic = "web.orders"
to = "order.placed"
when = "financial_status == 'paid' && !cancelled_at"
[mapping.orders.fields]
occurred_at = "created_at"
order.id = "text(id)"
order.number = "name"
order.currency = "upper(currency)"
order.total = "total_price"
order.customer.id = "text(customer.id)"
order.customer.email = "email || customer.email"
order.customer.first_name = "customer.first_name"
order.lines = '''line_items[*].{id: text(id), sku: sku, price: price, quantity: quantity,
    name: join(' - ', [title, variant_title])}'''

[mapping.cancellations]
from_topic = "web.orders"
to = "order.cancelled"
when = "cancelled_at"
[mapping.cancellations.fields]
occurred_at = "cancelled_at"
reason = "cancel_reason"
order.id = "text(id)"
order.currency = "upper(currency)"
order.total = "total_price"
order.customer.id = "text(customer.id)"
order.customer.email = "email || customer.email"

[mapping.customers]
from_topic = "crm.public.customers"
to = "customer.updated"
when = "op != 'd'"
clear = true
[mapping.customers.fields]
occurred_at = "time(ts_ms)"
customer.id = "text(after.id)"
customer.email = "after.email"
customer.first_name = "after.given_name"
customer.custom_fields.tier = "after.tier"

[mapping.customers_gone]
from_topic = "crm.public.customers"
to = "customer.deleted"
when = "op == 'd'"
[mapping.customers_gone.fields]
customer.id = "text(before.id)"
"""


def mappings() -> mapping.Mappings:
    """Compile the mappings of both topics."""
    read, faults = mapping.read(tomllib.loads(_MAPPING)["mapping"])
    assert not faults, faults  # noqa: S101  our own text
    return read


def changes(shop: Shop) -> Iterator[Made]:
    """All changes of both topics; the shop remembers what must become of them."""
    for number in range(BUYERS):
        yield from _order(shop, number)
    for number in range(PEOPLE):
        yield from _row(shop, number)
    if shop.bad:
        nobody = _webhook(0) | {"id": 1, "email": None, "customer": None}
        yield _dead(shop, ORDERS, b"web-nobody", _text(nobody), "no_identifier")
        yield _dead(shop, ROWS, b"row-cut", b'{"op": "u", "after": {', "malformed")


def _order(shop: Shop, number: int) -> Iterator[Made]:
    order = _webhook(number)
    who, order_id = str(order["customer"]["id"]), str(order["id"])
    shop.profiles[who] = {"email": order["email"], "first_name": "Bob"}
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
        "line_items": [
            {"id": 1, "sku": "P", "title": "Player", "quantity": 2, "price": "105.00"}
            | {"variant_title": "green"},
            {"id": 2, "sku": "C", "title": "Case", "quantity": 1, "price": "199.00"}
            | {"variant_title": None},
        ],
    }


def _row(shop: Shop, number: int) -> Iterator[Made]:
    who = 9_000 + number
    before = {"id": who, "email": f"eve.{number}@crm.dev", "given_name": "Eve"}
    before["tier"] = "bronze"
    after = before | {"tier": "gold", "given_name": None if number % 2 else "Eva"}
    shop.profiles[str(who)] = {
        "email": before["email"],
        "first_name": after["given_name"],
        "properties": {"tier": "gold"},
    }
    key = json.dumps({"id": who})
    at = 1_793_527_200_000
    yield _made(
        shop, ROWS, key, {"op": "c", "before": None, "after": before, "ts_ms": at}
    )
    row = {"op": "u", "before": before, "after": after, "ts_ms": at + 1}
    yield _made(shop, ROWS, key, {"schema": {"type": "struct"}, "payload": row})
    if number % 4 == 0:  # a delete and its tombstone: left alone, as deletes.policy says
        shop.skipped += 2
        row = {"op": "d", "before": after, "after": None, "ts_ms": at + 2}
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
