"""A customer opened an account; sent by the shop when it stores the account."""

from typing import Final

from schemas.customer import Customer, upsert
from schemas.event import Context, Event, Plan, Rejected, Skipped

__all__ = ["EXAMPLES", "CustomerCreated"]

EXAMPLES: Final = (
    b"""{"type":"customer.created","id":"evt-1","occurred_at":"2026-11-01T10:00:00Z",
"customer":{"id":"C-1","email":"Ada@shop.dev","phone":"(202) 555-0123",
"first_name":"Ada","last_name":"L","company":"Acme","locale":"en_US","title":"Dr",
"image_url":"https://shop.dev/ada.png",
"address":{"address1":"1 Main","city":"NY","region":"NY","zip":"10001","country":"US"},
"custom_fields":{"tier":"gold","points":120}}}""",
    b"""{"type":"customer.created","id":"evt-2","occurred_at":"2026-11-01T10:00:00Z",
"customer":{"email":"guest@shop.dev"}}""",
)


class CustomerCreated(Event, tag="customer.created"):
    """Has the shape and the effect of an update: Klaviyo may know the person already."""

    customer: Customer

    def commands(
        self,
        context: Context,
        timestamp_ms: int,
    ) -> Plan | Skipped | Rejected:
        """Make the named fields of the profile true."""
        return upsert(self.customer, context, self.occurred_at, timestamp_ms)
