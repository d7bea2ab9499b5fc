"""Money went back to the customer, for an order or a part of it; sent by the shop."""

from typing import Final

import msgspec
from msgspec import UNSET

from schemas.event import Context, Event, Metric, Plan, Rejected, Skipped
from schemas.money import Amount, amount
from schemas.order import NamedLine, Order
from schemas.order_effects import OrderReading, read_order

__all__ = ["EXAMPLES", "OrderRefunded", "Refund"]

REFUNDED: Final = Metric("order_refunded", "Refunded Order", "an `order.refunded` record")
EXAMPLES: Final = (
    b"""{"type":"order.refunded","id":"evt-10","occurred_at":"2026-11-05T11:00:00Z",
"order":{"id":"O-1","number":"1001","currency":"USD","total":"35.50",
"customer":{"id":"C-1","email":"ada@shop.dev"},
"lines":[{"id":"1","product_id":"P1","sku":"S1","name":"Thing","quantity":2,
"price":"10.00","total":"20.00"},
{"id":"2","product_id":"P2","sku":"S2","name":"Other","quantity":1,"price":"10.00"}]},
"refund":{"id":"R-1","amount":"10.00","reason":"damaged",
"lines":[{"id":"1","quantity":1}]}}""",
    b"""{"type":"order.refunded","id":"evt-11","occurred_at":"2026-11-05T11:00:00Z",
"order":{"id":"O-1","currency":"USD","total":"35.50",
"customer":{"id":"C-1","email":"ada@shop.dev"}}}""",
)


class Refund(msgspec.Struct):
    """One refund; without `lines` it is all of the order."""

    id: str | None = None
    amount: Amount = UNSET
    reason: str | None = None
    lines: list[NamedLine] | None = None


class OrderRefunded(Event, tag="order.refunded"):
    """One Refunded Order per refund."""

    order: Order
    refund: Refund | None = None

    def commands(self, context: Context, timestamp_ms: int) -> Plan | Skipped | Rejected:
        """Record the refund with its own amount, else the order's total."""
        reading = read_order(self, self.order, context, timestamp_ms)
        if not isinstance(reading, OrderReading):
            return reading
        refund = self.refund or Refund()
        part = reading.part(refund.lines, "$.refund.lines")
        value = amount(refund.amount, "amount", reading.losses, "$.refund")
        if value is None and "amount" not in reading.losses.degraded:
            value = reading.total
        properties = reading.properties(part.lines)
        properties.refund_id = refund.id
        properties.reason = refund.reason
        return reading.plan(
            [
                reading.create(
                    context.named(REFUNDED),
                    reading.part_id(part, refund.id, refund),
                    value,
                    reading.encoded(properties),
                )
            ]
        )
