"""What messages do in Klaviyo, for each revision a user may ask for."""

import json
from typing import Any

import orjson
import pytest

from pipeline.demo.shop import Made
from pipeline.sandbox.structure.load import validator
from tests.flow.rig import Rig

SERVED = {"": "2025-01-15", "2025-01-15": "2025-01-15", "2026-07-15": "2026-07-15"}
TIME = "2026-11-01T10:00:00Z"
PERSON = {"id": "C-1", "email": "Ada@Shop.dev", "first_name": "Ada", "last_name": "L"}
LINES = [
    {
        "id": "1",
        "product_id": "P1",
        "sku": "S1",
        "name": "Thing",
        "quantity": 2,
        "price": "10.10",
        "total": "20.20",
        "brand": "B",
        "categories": ["A"],
        "url": "https://shop.dev/p1",
        "properties": {"colour": "red", "SKU": "theirs"},
    },
    {
        "id": "2",
        "product_id": "P2",
        "sku": "S2",
        "name": "Else",
        "quantity": 3,
        "price": "0.1",
    },
]
ORDER = {
    "id": "O-1",
    "number": "1001",
    "currency": "USD",
    "total": "35.50",
    "discount_codes": ["WELCOME"],
    "discount": "1.00",
    "customer": PERSON,
    "billing_address": {"address1": "1 Main", "city": "NY", "country": "US"},
    "lines": LINES,
    "properties": {"channel": "web", "OrderId": "theirs"},
}
REFUND = {
    "id": "R-1",
    "amount": "10.10",
    "reason": "broken",
    "lines": [{"id": "1", "quantity": 1}],
}
RECORDS: list[dict[str, Any]] = [
    {
        "type": "customer.created",
        "customer": PERSON
        | {
            "phone": "(202) 555-0123",
            "company": "Acme",
            "locale": "en_US",
            "title": "Dr",
            "image_url": "https://shop.dev/a.png",
            "address": {
                "address1": "1 Main",
                "city": "NY",
                "zip": "10001",
                "country": "US",
            },
            "custom_fields": {
                "tier": "gold",
                "old": 1,
                "SubscribeProfile": True,
                "LIST_X": "yes",
            },
            "consent": {"email": {"status": "subscribed"}},
        },
    },
    {
        "type": "customer.updated",
        "customer": {
            "id": "C-1",
            "title": None,
            "address": {"city": "Boston"},
            "custom_fields": {"old": None, "new": [1, 2]},
        },
    },
    {"type": "customer.deleted", "customer": {"id": "C-9"}},
    {"type": "order.placed", "order": ORDER},
    {
        "type": "order.fulfilled",
        "order": ORDER,
        "fulfillment": {"id": "F-1", "carrier": "UPS"},
    },
    {"type": "order.refunded", "order": ORDER, "refund": REFUND},
    {"type": "order.refunded", "order": ORDER, "refund": REFUND | {"id": "R-2"}},
    {"type": "order.cancelled", "order": ORDER | {"id": "O-2"}, "reason": "late"},
    {"type": "order.refunded", "order": ORDER | {"id": "O-2"}, "refund": {"id": "R-3"}},
]


def records() -> list[Made]:
    found = []
    for number, message in enumerate(RECORDS):
        topic = "shop.orders" if "order" in message else "shop.customers"
        body = {"id": f"evt-{number}", "occurred_at": TIME, **message}
        found.append(Made(topic, b"C-1", json.dumps(body).encode()))
    cloud = {
        "specversion": "1.0",
        "type": "customer.created",
        "source": "/shop",
        "id": "evt-c",
        "time": TIME,
        "data": {"customer": {"id": "C-2", "email": "bob@shop.dev"}},
    }
    found.append(Made("shop.customers", b"C-2", json.dumps(cloud).encode()))
    return found


@pytest.mark.timeout(60)
@pytest.mark.parametrize("revision", SERVED)
async def test_effects(rig: Rig, revision: str) -> None:
    rig.set(keep_bodies=True)
    await rig.send(records())
    async with rig.service(klaviyo__api_revision=revision) as service:
        await rig.drained()
        skipped = {
            reason: await service.metric("skipped_total", {"reason": reason})
            for reason in ("consent_off", "deletes_ignored")
        }
        served = await service.metric(
            "served_revision_info", {"revision": SERVED[revision]}
        )
        degraded = await service.metric("degraded_fields_total")
        assert await service.metric("dead_letters_total") == 0
        assert await service.terminate() == 0
    assert served == 1
    assert skipped == {"consent_off": 1, "deletes_ignored": 1}
    assert degraded == 0
    check_profile(rig)
    check_events(rig)
    check_bodies(rig, SERVED[revision])


def check_profile(rig: Rig) -> None:
    assert rig.profile("C-2")["email"] == "bob@shop.dev"
    held = rig.profile("C-1")
    assert held["email"] == "ada@shop.dev"
    assert held["phone_number"] == "+12025550123"
    assert held["first_name"] == "Ada"
    assert held["organization"] == "Acme"
    assert held["locale"] == "en-US"
    assert held["image"] == "https://shop.dev/a.png"
    assert held.get("title") is None
    assert {k: v for k, v in held["location"].items() if v} == {
        "address1": "1 Main",
        "city": "Boston",
        "zip": "10001",
        "country": "US",
    }
    assert held["properties"] == {"tier": "gold", "new": [1, 2]}
    assert len(list(rig.sandbox.state.profiles)) == 2


def check_events(rig: Rig) -> None:
    found = {(e["metric"], e["unique_id"]): e for e in rig.events()}
    assert {key: event["value"] for key, event in found.items()} == {
        ("Placed Order", "O-1"): 35.5,
        ("Ordered Product", "O-1:1"): 20.2,
        ("Ordered Product", "O-1:2"): 0.3,
        ("Fulfilled Order", "O-1"): 35.5,
        ("Refunded Order", "O-1:R-1"): 10.1,
        ("Refunded Order", "O-1:R-2"): 10.1,
        ("Cancelled Order", "O-2"): 35.5,
        ("Refunded Order", "O-2"): 35.5,
    }
    assert {event["value_currency"] for event in found.values()} == {"USD"}
    placed = found["Placed Order", "O-1"]["properties"]
    assert placed["OrderId"] == "O-1"
    assert placed["OrderNumber"] == "1001"
    assert placed["channel"] == "web"
    assert placed["Categories"] == ["A"]
    assert placed["ItemNames"] == ["Thing", "Else"]
    assert placed["Brands"] == ["B"]
    assert placed["DiscountCode"] == "WELCOME"
    assert placed["DiscountValue"] == 1
    assert placed["BillingAddress"]["City"] == "NY"
    assert placed["Items"][0]["ProductID"] == "P1"
    assert placed["Items"][0]["RowTotal"] == 20.2
    line = found["Ordered Product", "O-1:1"]["properties"]
    assert line["SKU"] == "S1", "ours win a clash"
    assert line["colour"] == "red"
    assert line["ProductBrand"] == "B"
    refunded = found["Refunded Order", "O-1:R-1"]["properties"]
    assert refunded["Reason"] == "broken"
    assert [item["Quantity"] for item in refunded["Items"]] == [1]


def check_bodies(rig: Rig, served: str) -> None:
    """Each body stands up to the official document of the revision that was served."""
    bodies = [entry for entry in rig.sandbox.ledger.entries if entry.body is not None]
    assert len(bodies) >= 10
    for entry in bodies:
        assert entry.served == served
        structure = validator(served, f"{entry.method} {entry.path}")
        assert structure is not None
        assert structure.is_valid(orjson.loads(orjson.dumps(entry.body)))


@pytest.mark.timeout(60)
async def test_events_off_sends_profiles_only(rig: Rig) -> None:
    await rig.send(records())
    async with rig.service(klaviyo__generate_events="FALSE") as service:
        await rig.drained()
        assert await service.metric("skipped_total", {"reason": "events_off"}) == 6
    assert rig.events() == []
    assert rig.profile("C-1")["email"] == "ada@shop.dev"
