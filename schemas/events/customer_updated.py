"""A customer's data changed; sent by the shop, with all fields or the changed ones."""

from typing import Final

from schemas.customer import Customer, upsert
from schemas.event import Context, Event, Plan, Rejected, Skipped

__all__ = ["EXAMPLES", "CustomerUpdated"]

EXAMPLES: Final = (
    b"""{"type":"customer.updated","id":"evt-3","occurred_at":"2026-11-01T10:00:00Z",
"customer":{"id":"C-1","email":"ada@shop.dev","phone":"+12025550123","first_name":"Ada",
"last_name":"L","company":"Acme","locale":"en-US","title":"Dr",
"image_url":"https://shop.dev/ada.png",
"address":{"address1":"1 Main","address2":null,"city":"NY","region":"NY","zip":"10001",
"country":"US"},
"consent":{"email":{"status":"subscribed","at":"2026-10-01T00:00:00Z"},
"sms":{"status":"unsubscribed"}},
"lists":{"add":["VIP"],"remove":["Trial"]},
"custom_fields":{"tier":"gold","SubscribeProfile":true,"LIST_VIP":true,
"UCLIST_Trial":true}}}""",
    b"""{"type":"customer.updated","id":"evt-4","occurred_at":"2026-11-02T08:30:00+01:00",
"customer":{"id":"C-1","phone":null,"company":null,"address":null,
"custom_fields":{"tier":null}}}""",
)


class CustomerUpdated(Event, tag="customer.updated"):
    """A field that is absent is left alone, one that is null is cleared."""

    customer: Customer

    def commands(
        self,
        context: Context,
        timestamp_ms: int,
    ) -> Plan | Skipped | Rejected:
        """Make the named fields of the profile true."""
        return upsert(self.customer, context, self.occurred_at, timestamp_ms)
