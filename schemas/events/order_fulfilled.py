"""An order, or a part of it, was shipped; sent by the shop once per shipment."""

from typing import Final

import msgspec

from schemas.event import Context, Event, Metric, Plan, Rejected, Skipped
from schemas.order import NamedLine, Order
from schemas.order_effects import OrderReading, read_order

__all__ = ["EXAMPLES", "Fulfillment", "OrderFulfilled"]

FULFILLED: Final = Metric(
    "order_fulfilled", "Fulfilled Order", "an `order.fulfilled` record"
)
EXAMPLES: Final = (
    b"""{"type":"order.fulfilled","id":"evt-7","occurred_at":"2026-11-02T09:00:00Z",
"order":{"id":"O-1","number":"1001","currency":"USD","total":"35.50",
"customer":{"id":"C-1","email":"ada@shop.dev"},
"lines":[{"id":"1","product_id":"P1","sku":"S1","name":"Thing","quantity":2,
"price":"10.00","total":"20.00"},
{"id":"2","product_id":"P2","sku":"S2","name":"Other","quantity":1,"price":"10.00"}]},
"fulfillment":{"id":"F-1","carrier":"UPS","tracking_number":"1Z",
"tracking_url":"https://ups.dev/1Z","lines":[{"id":"1","quantity":1}]}}""",
    b"""{"type":"order.fulfilled","id":"evt-8","occurred_at":"2026-11-02T09:00:00Z",
"order":{"id":"O-2","currency":"EUR","total":12,"customer":{"email":"bob@shop.dev"}},
"fulfillment":{"id":"F-2"}}""",
)


class Fulfillment(msgspec.Struct):
    """One shipment; without `lines` it is all of the order."""

    id: str | None = None
    carrier: str | None = None
    tracking_number: str | None = None
    tracking_url: str | None = None
    lines: list[NamedLine] | None = None


class OrderFulfilled(Event, tag="order.fulfilled"):
    """One Fulfilled Order per shipment."""

    order: Order
    fulfillment: Fulfillment | None = None

    def commands(self, context: Context, timestamp_ms: int) -> Plan | Skipped | Rejected:
        """Record the shipment with the lines it carries."""
        reading = read_order(self, self.order, context, timestamp_ms)
        if not isinstance(reading, OrderReading):
            return reading
        shipment = self.fulfillment or Fulfillment()
        part = reading.part(shipment.lines, "$.fulfillment.lines")
        properties = reading.properties(part.lines)
        properties.fulfillment_id = shipment.id
        properties.carrier = shipment.carrier
        properties.tracking_number = shipment.tracking_number
        properties.tracking_url = shipment.tracking_url
        return reading.plan(
            [
                reading.create(
                    context.named(FULFILLED),
                    reading.part_id(part, shipment.id, shipment),
                    reading.total,
                    reading.encoded(properties),
                )
            ]
        )
