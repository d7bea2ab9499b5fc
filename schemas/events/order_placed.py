"""An order was placed and paid or accepted; sent by the shop once per order."""

from typing import Final

from msgspec import Raw

from schemas.commands import Command
from schemas.event import Context, Event, Metric, Plan, Rejected, Skipped
from schemas.order import Line, Order
from schemas.order_effects import OrderReading, read_order
from schemas.order_lines import ReadLine
from schemas.order_properties import LineProperties
from schemas.properties import encoded

__all__ = ["EXAMPLES", "OrderPlaced"]

PLACED: Final = Metric("order_placed", "Placed Order", "an `order.placed` record")
ORDERED: Final = Metric(
    "ordered_product", "Ordered Product", "each line of a placed order"
)
EXAMPLES: Final = (
    b"""{"type":"order.placed","id":"evt-6","occurred_at":"2026-11-01T10:00:00Z",
"order":{"id":"O-1","number":"1001","currency":"USD","total":"35.50","subtotal":"30.00",
"tax":"2.50","shipping":"3.00","discount":"0.00","discount_codes":["WELCOME"],
"customer":{"id":"C-1","email":"ada@shop.dev","phone":"+12025550123","first_name":"Ada",
"last_name":"L"},
"billing_address":{"address1":"1 Main","city":"NY","region":"NY","zip":"10001",
"country":"US"},"shipping_address":{},
"lines":[{"id":"1","product_id":"P1","sku":"S1","name":"Thing","quantity":2,
"price":"10.00","total":"20.00","brand":"B","categories":["A"],
"url":"https://shop.dev/p1","image_url":"https://shop.dev/p1.png",
"properties":{"colour":"red"}},
{"id":"2","product_id":"P2","sku":"S2","name":"Other","quantity":"1","price":10.0,
"brand":"B","categories":["A","C"]}],
"properties":{"channel":"web"}}}""",
)


class OrderPlaced(Event, tag="order.placed"):
    """One Placed Order, and an Ordered Product per line at the same time."""

    order: Order

    def commands(self, context: Context, timestamp_ms: int) -> Plan | Skipped | Rejected:
        """Record the order and its lines."""
        reading = read_order(self, self.order, context, timestamp_ms)
        if not isinstance(reading, OrderReading):
            return reading
        properties = reading.encoded(reading.properties(reading.lines))
        commands: list[Command] = [
            reading.create(context.named(PLACED), reading.id, reading.total, properties)
        ]
        ordered = context.named(ORDERED)
        names = _line_names([read.line for read in reading.lines])
        for name, read in zip(names, reading.lines, strict=True):
            commands.append(
                reading.create(
                    ordered,
                    f"{reading.id}:{name}",
                    read.row_total,
                    _line_properties(reading, read),
                )
            )
        return reading.plan(commands)


def _line_properties(reading: OrderReading, read: ReadLine) -> Raw:
    line = read.line
    properties = LineProperties(
        reading.id,
        reading.order.number,
        line.product_id,
        line.sku,
        line.name,
        read.quantity,
        line.url,
        line.image_url,
        line.categories or None,
        line.brand,
    )
    return encoded(properties, line.properties, reading.losses)


def _line_names(lines: list[Line]) -> list[str]:
    """Return one name per line, different within the order: its id, else its position.

    The first line that has an id keeps it; a repeated id, or a position that is another
    line's id, gets a number behind it. Two lines under one name would be one event.
    """
    ids = [(line.id or "").strip() for line in lines]
    taken = set(ids)
    if len(taken) == len(ids) and "" not in taken:
        return ids
    names: list[str] = []
    kept: set[str] = set()
    numbers: dict[str, int] = {}  # the next one to try per stem
    for position, own in enumerate(ids, 1):
        name = own or str(position)
        if own in kept or not own:
            stem = name
            number = numbers.get(stem, 2)
            while name in taken:
                name = f"{stem}-{number}"
                number += 1
            numbers[stem] = number
            taken.add(name)
        kept.add(own)
        names.append(name)
    return names
