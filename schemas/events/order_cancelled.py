"""An order was called off as a whole, by the customer or the shop; sent by the shop."""

from typing import Final

from schemas.event import Context, Event, Metric, Plan, Rejected, Skipped
from schemas.order import Order
from schemas.order_effects import OrderReading, read_order

__all__ = ["EXAMPLES", "OrderCancelled"]

CANCELLED: Final = Metric(
    "order_cancelled", "Cancelled Order", "an `order.cancelled` record"
)
EXAMPLES: Final = (
    b"""{"type":"order.cancelled","id":"evt-9","occurred_at":"2026-11-02T11:00:00Z",
"order":{"id":"O-1","number":"1001","currency":"USD","total":"35.50",
"customer":{"id":"C-1","email":"ada@shop.dev"},
"lines":[{"id":"1","product_id":"P1","name":"Thing","quantity":2,"price":"10.00"}]},
"reason":"out of stock"}""",
)


class OrderCancelled(Event, tag="order.cancelled"):
    """One Cancelled Order; an order is cancelled once."""

    order: Order
    reason: str | None = None

    def commands(self, context: Context, timestamp_ms: int) -> Plan | Skipped | Rejected:
        """Record the cancellation."""
        reading = read_order(self, self.order, context, timestamp_ms)
        if not isinstance(reading, OrderReading):
            return reading
        properties = reading.properties(reading.lines)
        properties.reason = self.reason
        return reading.plan(
            [
                reading.create(
                    context.named(CANCELLED),
                    reading.id,
                    reading.total,
                    reading.encoded(properties),
                )
            ]
        )
