"""The limit: the shortest loop from Kafka to Klaviyo that a hand can write.

    python -m tests.bench.limit BOOTSTRAP TOPIC RECORDS URL

It keeps no order, validates nothing, repeats nothing, repairs nothing and commits once
at the end: what no correct program can be faster than by much. The bodies carry the same
facts as ours.
"""

import asyncio
import sys
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Final

import aiohttp
import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer

__all__ = ["bodies"]

EVENTS: Final = 1000  # in one request
POSTS: Final = 10  # at once


class Line(msgspec.Struct, gc=False):
    id: str
    product_id: str
    sku: str
    name: str
    quantity: int
    price: str
    total: str
    brand: str
    categories: list[str]
    url: str
    image_url: str
    properties: dict[str, Any]


class Buyer(msgspec.Struct, gc=False):
    id: str
    email: str
    phone: str
    first_name: str
    last_name: str


class Address(msgspec.Struct, gc=False):
    address1: str | None = None
    city: str | None = None
    region: str | None = None
    zip: str | None = None
    country: str | None = None


class Order(msgspec.Struct, gc=False):
    id: str
    number: str
    currency: str
    total: str
    subtotal: str
    tax: str
    shipping: str
    discount: str
    discount_codes: list[str]
    customer: Buyer
    billing_address: Address
    shipping_address: Address
    lines: list[Line]
    properties: dict[str, Any]


class Message(msgspec.Struct, gc=False):
    occurred_at: str
    order: Order


_DECODE: Final = msgspec.json.Decoder(Message).decode
_ENCODE: Final = msgspec.json.Encoder().encode
_PLACED: Final = {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}}
_ORDERED: Final = {"data": {"type": "metric", "attributes": {"name": "Ordered Product"}}}


def bodies(values: Iterable[bytes]) -> Iterator[bytes]:
    """Messages in, bulk requests out."""
    entries: list[dict[str, Any]] = []
    events = 0
    for value in values:
        entry, count = _entry(_DECODE(value))
        entries.append(entry)
        events += count
        if events + 4 > EVENTS:
            yield _body(entries)
            entries, events = [], 0
    if entries:
        yield _body(entries)


def _body(entries: list[dict[str, Any]]) -> bytes:
    attributes = {"events-bulk-create": {"data": entries}}
    return _ENCODE({"data": {"type": "event-bulk-create-job", "attributes": attributes}})


def _entry(message: Message) -> tuple[dict[str, Any], int]:
    order, time = message.order, message.occurred_at
    buyer, lines = order.customer, order.lines
    events: list[dict[str, Any]] = [
        {
            "type": "event",
            "attributes": {
                "properties": {
                    "OrderId": order.id,
                    "OrderNumber": order.number,
                    "Categories": list({c: None for x in lines for c in x.categories}),
                    "ItemNames": [x.name for x in lines],
                    "Brands": list({x.brand: None for x in lines}),
                    "DiscountCode": ", ".join(order.discount_codes),
                    "DiscountValue": float(order.discount),
                    "Items": [
                        {
                            "ProductID": x.product_id,
                            "SKU": x.sku,
                            "ProductName": x.name,
                            "Quantity": x.quantity,
                            "ItemPrice": float(x.price),
                            "RowTotal": float(x.total),
                            "ProductURL": x.url,
                            "ImageURL": x.image_url,
                            "Categories": x.categories,
                            "Brand": x.brand,
                        }
                        for x in lines
                    ],
                    "BillingAddress": _address(order.billing_address),
                    "Subtotal": float(order.subtotal),
                    "Tax": float(order.tax),
                    "Shipping": float(order.shipping),
                    **order.properties,
                },
                "time": time,
                "unique_id": order.id,
                "metric": _PLACED,
                "value": float(order.total),
                "value_currency": order.currency,
            },
        }
    ]
    events += [
        {
            "type": "event",
            "attributes": {
                "properties": {
                    "OrderId": order.id,
                    "OrderNumber": order.number,
                    "ProductID": x.product_id,
                    "SKU": x.sku,
                    "ProductName": x.name,
                    "Quantity": x.quantity,
                    "ProductURL": x.url,
                    "ImageURL": x.image_url,
                    "Categories": x.categories,
                    "ProductBrand": x.brand,
                    **x.properties,
                },
                "time": time,
                "unique_id": f"{order.id}:{x.id}",
                "metric": _ORDERED,
                "value": float(x.total),
                "value_currency": order.currency,
            },
        }
        for x in lines
    ]
    person = {
        "external_id": buyer.id,
        "email": buyer.email,
        "phone_number": buyer.phone,
        "first_name": buyer.first_name,
        "last_name": buyer.last_name,
    }
    attributes = {
        "profile": {"data": {"type": "profile", "attributes": person}},
        "events": {"data": events},
    }
    return {"type": "event-bulk-create", "attributes": attributes}, len(events)


def _address(address: Address) -> dict[str, str | None]:
    return {
        "Address1": address.address1,
        "City": address.city,
        "RegionCode": address.region,
        "CountryCode": address.country,
        "Zip": address.zip,
    }


async def _run(bootstrap: str, topic: str, records: int, url: str) -> None:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=uuid.uuid4().hex,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 << 20,  # as ours; one megabyte starves it
    )
    free = asyncio.Semaphore(POSTS)
    posts: set[asyncio.Task[None]] = set()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/api/accounts") as answer:
            await answer.read()

        async def post(body: bytes) -> None:
            headers = {"Authorization": "Klaviyo-API-Key pk", "revision": "2026-07-15"}
            path = f"{url}/api/event-bulk-create-jobs"
            async with session.post(path, data=body, headers=headers) as answer:
                await answer.read()
            free.release()

        await consumer.start()
        while records > 0:
            found = await consumer.getmany(timeout_ms=500, max_records=4000)
            for batch in found.values():
                records -= len(batch)
                for body in bodies(record.value for record in batch):
                    await free.acquire()
                    posts.add(task := asyncio.create_task(post(body)))
                    task.add_done_callback(posts.discard)
        await asyncio.gather(*posts)
        await consumer.commit()
        await consumer.stop()


if __name__ == "__main__":
    uvloop.run(_run(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
