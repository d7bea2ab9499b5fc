"""A cart was left behind; sent by the shop after an hour without a change."""

from typing import Final

import msgspec

from schemas.commands import CreateEvent
from schemas.event import Context, Event, Losses, Metric, Plan, Rejected, Skipped
from schemas.identity import identity, nobody
from schemas.moment import moment
from schemas.order import Buyer

__all__ = ["EXAMPLES", "METRIC", "CartAbandoned"]

METRIC: Final = Metric("cart_abandoned", "Abandoned Cart", "a `cart.abandoned` record")
EXAMPLES: Final = (
    b"""{"type":"cart.abandoned","id":"evt-20","occurred_at":"2026-11-01T10:00:00Z",
"cart":{"id":"K-1","url":"https://shop.dev/cart/K-1",
"customer":{"id":"C-1","email":"ada@shop.dev"}}}""",
)


class Cart(msgspec.Struct):
    id: str
    customer: Buyer
    url: str | None = None


class CartAbandoned(Event, tag="cart.abandoned"):
    cart: Cart

    def commands(self, context: Context, timestamp_ms: int) -> Plan | Skipped | Rejected:
        losses = Losses()
        buyer = self.cart.customer
        who = identity(
            buyer.id, buyer.email, buyer.phone, context.default_country, losses
        )
        if who is None:
            return nobody("$.cart.customer")
        event = CreateEvent(
            identity=who,
            metric=context.named(METRIC),
            unique_id=self.cart.id,
            time=moment(self.occurred_at, timestamp_ms, losses),
            properties=msgspec.Raw(msgspec.json.encode({"CartURL": self.cart.url})),
            profile={},
        )
        return Plan([event], (), tuple(losses.degraded))
