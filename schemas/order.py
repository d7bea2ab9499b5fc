"""The order as shops send it. What becomes of it stands in `schemas.order_effects`."""

import msgspec
from msgspec import UNSET, Raw

from schemas.money import Amount

__all__ = ["Buyer", "Line", "NamedLine", "Order", "OrderAddress"]


class Buyer(msgspec.Struct, gc=False):
    """The part of the customer that rides in an order: identifiers and names."""

    id: str | None = None
    email: str | None = None
    phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None


class OrderAddress(msgspec.Struct, gc=False):
    """A billing or shipping address."""

    first_name: str | None = None
    last_name: str | None = None
    address1: str | None = None
    address2: str | None = None
    city: str | None = None
    region: str | None = None
    zip: str | None = None
    country: str | None = None
    phone: str | None = None


class Line(msgspec.Struct, gc=False):
    """One line of an order; `total` is before the order's adjustments."""

    id: str | None = None
    product_id: str | None = None
    sku: str | None = None
    name: str | None = None
    quantity: Amount = UNSET
    price: Amount = UNSET
    total: Amount = UNSET
    brand: str | None = None
    categories: list[str] | None = None
    url: str | None = None
    image_url: str | None = None
    properties: dict[str, Raw] | None = None


class NamedLine(msgspec.Struct, gc=False):
    """A line that a fulfillment or refund is about; no quantity means all of it."""

    id: str | None = None
    quantity: Amount = UNSET


class Order(msgspec.Struct, gc=False):
    """One order, as it is after the event."""

    id: str
    number: str | None = None
    currency: str | None = None
    total: Amount = UNSET
    subtotal: Amount = UNSET
    tax: Amount = UNSET
    shipping: Amount = UNSET
    discount: Amount = UNSET
    discount_codes: list[str] | None = None
    customer: Buyer | None = None
    billing_address: OrderAddress | None = None
    shipping_address: OrderAddress | None = None
    lines: list[Line] | None = None
    properties: dict[str, Raw] | None = None
