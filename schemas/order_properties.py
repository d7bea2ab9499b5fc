"""The properties of order events, named as Klaviyo's e-commerce guide names them.

Source: guide "Integrate an ecommerce platform without a pre-built Klaviyo integration".
Fields stand in the order of the guide; None is left out of the request.
"""

import msgspec
from msgspec import Raw

__all__ = ["AddressProperties", "ItemProperties", "LineProperties", "OrderProperties"]


class AddressProperties(msgspec.Struct, omit_defaults=True, gc=False, rename="pascal"):
    """BillingAddress and ShippingAddress."""

    first_name: str | None = None
    last_name: str | None = None
    address1: str | None = None
    city: str | None = None
    region_code: str | None = None
    country_code: str | None = None
    zip: str | None = None
    phone: str | None = None


class ItemProperties(
    msgspec.Struct,
    omit_defaults=True,
    gc=False,
    rename={
        "product_id": "ProductID",
        "sku": "SKU",
        "product_name": "ProductName",
        "quantity": "Quantity",
        "item_price": "ItemPrice",
        "row_total": "RowTotal",
        "product_url": "ProductURL",
        "image_url": "ImageURL",
        "categories": "Categories",
        "brand": "Brand",
    },
):
    """One entry of Items."""

    product_id: str | None = None
    sku: str | None = None
    product_name: str | None = None
    quantity: Raw | None = None
    item_price: Raw | None = None
    row_total: Raw | None = None
    product_url: str | None = None
    image_url: str | None = None
    categories: list[str] | None = None
    brand: str | None = None


class LineProperties(
    msgspec.Struct,
    omit_defaults=True,
    gc=False,
    rename={
        "order_id": "OrderId",
        "order_number": "OrderNumber",
        "product_id": "ProductID",
        "sku": "SKU",
        "product_name": "ProductName",
        "quantity": "Quantity",
        "product_url": "ProductURL",
        "image_url": "ImageURL",
        "categories": "Categories",
        "product_brand": "ProductBrand",
    },
):
    """Ordered Product: one line as an event of its own."""

    order_id: str
    order_number: str | None = None
    product_id: str | None = None
    sku: str | None = None
    product_name: str | None = None
    quantity: Raw | None = None
    product_url: str | None = None
    image_url: str | None = None
    categories: list[str] | None = None
    product_brand: str | None = None


class OrderProperties(
    msgspec.Struct,
    omit_defaults=True,
    gc=False,
    rename={
        "order_id": "OrderId",
        "order_number": "OrderNumber",
        "categories": "Categories",
        "item_names": "ItemNames",
        "brands": "Brands",
        "discount_code": "DiscountCode",
        "discount_value": "DiscountValue",
        "items": "Items",
        "billing_address": "BillingAddress",
        "shipping_address": "ShippingAddress",
        "subtotal": "Subtotal",
        "tax": "Tax",
        "shipping": "Shipping",
        "fulfillment_id": "FulfillmentId",
        "carrier": "Carrier",
        "tracking_number": "TrackingNumber",
        "tracking_url": "TrackingURL",
        "reason": "Reason",
        "refund_id": "RefundId",
    },
):
    """Placed, Fulfilled, Cancelled and Refunded Order.

    Subtotal, Tax and Shipping, and what only some of the four carry, are additions of
    ours.
    """

    order_id: str
    order_number: str | None = None
    categories: list[str] | None = None
    item_names: list[str] | None = None
    brands: list[str] | None = None
    discount_code: str | None = None
    discount_value: Raw | None = None
    items: list[ItemProperties] | None = None
    billing_address: AddressProperties | None = None
    shipping_address: AddressProperties | None = None
    subtotal: Raw | None = None
    tax: Raw | None = None
    shipping: Raw | None = None
    fulfillment_id: str | None = None
    carrier: str | None = None
    tracking_number: str | None = None
    tracking_url: str | None = None
    reason: str | None = None
    refund_id: str | None = None
