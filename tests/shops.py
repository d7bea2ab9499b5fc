"""Messages in the shapes of real systems, small."""

import tomllib
from typing import Any

from schemas.mapping import Mappings, read

WEB_ORDER: dict[str, Any] = {
    "id": 450789469,
    "name": "#1001",
    "created_at": "2026-11-01T11:00:00+01:00",
    "cancelled_at": None,
    "cancel_reason": None,
    "financial_status": "paid",
    "currency": "usd",
    "total_price": "409.94",
    "total_tax": "11.94",
    "source_name": "web",
    "email": "bob@shop.dev",
    "phone": None,
    "discount_codes": [{"code": "TENOFF", "amount": "10.00", "type": "fixed_amount"}],
    "customer": {"id": 207119551, "first_name": "Bob", "last_name": "Norman"},
    "billing_address": {
        "address1": "1 Main",
        "city": "NY",
        "province_code": "NY",
        "zip": "10001",
        "country_code": "US",
        "phone": "(202) 555-0123",
    },
    "line_items": [
        {
            "id": 466157049,
            "product_id": 632910392,
            "sku": "IPOD2008GREEN",
            "title": "Player",
            "variant_title": "green",
            "vendor": "Acme",
            "quantity": 1,
            "price": "199.00",
        },
        {
            "id": 518995019,
            "product_id": 632910393,
            "sku": "IPOD2008RED",
            "title": "Player",
            "variant_title": None,
            "vendor": "Acme",
            "quantity": 2,
            "price": "99.50",
        },
    ],
}
WEB_CANCELLED = WEB_ORDER | {
    "cancelled_at": "2026-11-02T09:00:00Z",
    "cancel_reason": "customer",
}
PLUGIN_ORDER: dict[str, Any] = {
    "id": 727,
    "number": "727",
    "status": "processing",
    "currency": None,
    "date_created_ms": 1793527200000,
    "total_cents": 2937,
    "shipping_cents": 1000,
    "customer_id": 0,
    "billing": {
        "first_name": "Ada",
        "last_name": "L",
        "email": "ADA@shop.dev",
        "phone": "030 901820",
        "country": "DE",
    },
    "coupon_lines": [{"id": 1, "code": "welcome"}],
    "line_items": [
        {
            "id": 315,
            "sku": "W-1",
            "name": "Woo Single",
            "quantity": 2,
            "price_cents": 300,
            "categories": [{"id": 9, "name": "Music"}],
        },
        {"id": 316, "sku": "W-2", "name": "Returned", "quantity": 0, "price_cents": 100},
    ],
}
ROW: dict[str, Any] = {
    "id": 1004,
    "email": "anne@shop.dev",
    "phone": None,
    "given_name": "Anne",
    "family_name": "K",
    "city": "Berlin",
    "country": None,
    "tier": "gold",
    "birthday": 7305,
}


def change(
    op: str, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> dict[str, Any]:
    """A change row as Debezium writes it."""
    source = {"connector": "postgresql", "db": "crm", "table": "customers"}
    return {
        "before": before,
        "after": after,
        "source": source,
        "op": op,
        "ts_ms": 1793527200000,
    }


def mappings(toml: str) -> Mappings:
    """The mappings of a configuration file; fails on faults."""
    found, faults = read(tomllib.loads(toml)["mapping"])
    assert faults == []
    return found
