"""What the order events have in common: who, when, how much, and which unique_id.

Klaviyo keeps the first event of a profile, metric and unique_id and drops the rest, so
the unique_id decides what is lost and what is doubled. It is made from the record alone.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Raw

from schemas.commands import Command, CreateEvent, Identity
from schemas.currency import currency
from schemas.event import (
    EVENTS_OFF,
    Context,
    Event,
    Field,
    Losses,
    Plan,
    Rejected,
    Skipped,
)
from schemas.identity import identity, nobody
from schemas.moment import moment
from schemas.money import amount
from schemas.order import NamedLine, Order, OrderAddress
from schemas.order_lines import Part, ReadLine, item, part, read_lines
from schemas.order_properties import AddressProperties, ItemProperties, OrderProperties
from schemas.properties import encoded

__all__ = ["OrderReading", "read_order"]

_MAX_UNIQUE_ID: Final = 255  # characters (Klaviyo, POST /api/events, unique_id)
_KEPT: Final = _MAX_UNIQUE_ID - 65  # a colon and 64 hexadecimal digits of SHA-256 follow
# Characters of a name: two of them, at 6 bytes each (\u0001), stay under the 95 KB that a
# profile inside an event may have (Klaviyo, "Events API overview").
_MAX_NAME: Final = 5_000
_ENCODER: Final = msgspec.json.Encoder()


class OrderReading:
    """One order event on its way to its commands."""

    __slots__ = (
        "currency",
        "event",
        "id",
        "lines",
        "losses",
        "names",
        "order",
        "time",
        "total",
        "who",
    )

    def __init__(
        self, event: Event, order: Order, who: Identity, timestamp_ms: int, losses: Losses
    ) -> None:
        self.event = event
        self.order = order
        self.who = who
        self.losses = losses
        self.id = order.id.strip()
        self.names = _names(order, losses)
        self.time = moment(event.occurred_at, timestamp_ms, losses)
        self.currency = currency(order.currency, losses)
        self.total = amount(order.total, "total", losses, "$.order")
        self.lines = read_lines(order.lines, losses)

    def create(
        self, metric: str, unique_id: str, value: Raw | None, properties: Raw
    ) -> CreateEvent:
        """Return one event of this order's customer, at this event's time."""
        return CreateEvent(
            self.who,
            metric,
            shortened(unique_id),
            self.time,
            properties,
            self.names,
            value,
            self.currency,
        )

    def properties(self, lines: list[ReadLine]) -> OrderProperties:
        """Return what every order event carries; `lines` are the ones it is about."""
        order, losses = self.order, self.losses
        items: list[ItemProperties] = []
        categories: dict[str, None] = {}  # each once, in order
        names: dict[str, None] = {}
        brands: dict[str, None] = {}
        for read in lines:
            line = read.line
            items.append(item(read))
            if line.name:
                names[line.name] = None
            if line.brand:
                brands[line.brand] = None
            if line.categories:
                for category in line.categories:
                    categories[category] = None
        return OrderProperties(
            self.id,
            order.number,
            list(categories) or None,
            list(names) or None,
            list(brands) or None,
            ", ".join(order.discount_codes) or None if order.discount_codes else None,
            amount(order.discount, "discount", losses, "$.order"),
            items or None,
            _address(order.billing_address),
            _address(order.shipping_address),
            amount(order.subtotal, "subtotal", losses, "$.order"),
            amount(order.tax, "tax", losses, "$.order"),
            amount(order.shipping, "shipping", losses, "$.order"),
        )

    def encoded(self, properties: OrderProperties) -> Raw:
        """Return the event's properties with the order's own beside them."""
        return encoded(properties, self.order.properties, self.losses)

    def part(self, named: Sequence[NamedLine] | None, where: str) -> Part:
        """Return what of the order is meant by the lines `named` at the path `where`."""
        return part(self.lines, named, self.losses, where)

    def part_id(self, part: Part, own_id: str | None, content: object) -> str:
        """Return the unique_id of an event about `part`; a whole order's is its own id.

        A second partial refund or shipment must not be taken for the first: its own id
        tells them apart, else the message's id, else what it says and when.
        """
        if part.whole:
            return self.id
        name = (own_id or "").strip() or (self.event.id or "").strip()
        if not name:
            said = _ENCODER.encode((content, self.event.occurred_at))
            name = hashlib.sha256(said).hexdigest()[:32]
        return f"{self.id}:{name}"

    def plan(self, commands: list[Command]) -> Plan | Rejected:
        """Return the plan, or the fault that was found while it was made."""
        if self.losses.fault is not None:
            return self.losses.fault
        return Plan(commands, (), tuple(self.losses.degraded))


def read_order(
    event: Event, order: Order, context: Context, timestamp_ms: int
) -> OrderReading | Skipped | Rejected:
    """Read what all order events need, or say how the record ends without events."""
    if not context.generate_events:
        return EVENTS_OFF
    if not order.id.strip():
        return Rejected("schema", "plan", "$.order.id", "the order's id is blank")
    losses = Losses(context.most_properties)
    who = _buyer(order, context, losses)
    if who is None:
        return nobody("$.order.customer")
    return OrderReading(event, order, who, timestamp_ms, losses)


def shortened(unique_id: str) -> str:
    """Return an id of at most 255 characters, different for different ids."""
    if len(unique_id) <= _MAX_UNIQUE_ID:
        return unique_id
    return f"{unique_id[:_KEPT]}:{hashlib.sha256(unique_id.encode()).hexdigest()}"


def _buyer(order: Order, context: Context, losses: Losses) -> Identity | None:
    buyer = order.customer
    if buyer is None:
        return None
    country = context.default_country
    for address in (order.billing_address, order.shipping_address):
        if address is not None and address.country and not address.country.isspace():
            country = address.country
            break
    return identity(buyer.id, buyer.email, buyer.phone, country, losses)


def _names(order: Order, losses: Losses) -> dict[str, str]:
    """Return the names to ride along; a blank one must not wipe what Klaviyo knows."""
    names: dict[str, str] = {}
    buyer = order.customer
    if buyer is None:
        return names
    first, last = buyer.first_name, buyer.last_name
    if first and not first.isspace():
        _ride(names, "first_name", first, losses)
    if last and not last.isspace():
        _ride(names, "last_name", last, losses)
    return names


def _ride(names: dict[str, str], field: Field, name: str, losses: Losses) -> None:
    if len(name) > _MAX_NAME:
        losses.lose(field)
    else:
        names[field] = name


def _address(address: OrderAddress | None) -> AddressProperties | None:
    if address is None:
        return None
    properties = AddressProperties(
        address.first_name,
        address.last_name,
        address.address1,
        address.city,
        address.region,
        address.country,
        address.zip,
        address.phone,
    )
    return None if properties == _NOWHERE else properties


_NOWHERE: Final = AddressProperties()
