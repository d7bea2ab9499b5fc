"""A customer's account was removed; sent by the shop, only the identifiers are needed."""

from typing import Final

from schemas.customer import Customer, identify
from schemas.event import Context, Event, Losses, Plan, Rejected, Skipped
from schemas.privacy import deleted

__all__ = ["EXAMPLES", "CustomerDeleted"]

EXAMPLES: Final = (
    b"""{"type":"customer.deleted","id":"evt-5","occurred_at":"2026-11-03T10:00:00Z",
"customer":{"id":"C-1","email":"ada@shop.dev"}}""",
)


class CustomerDeleted(Event, tag="customer.deleted"):
    """Leaves the profile in Klaviyo, suppresses or erases it (deletes.policy)."""

    customer: Customer

    def commands(
        self,
        context: Context,
        timestamp_ms: int,  # noqa: ARG002  nothing happens in time
    ) -> Plan | Skipped | Rejected:
        """Do what the policy says; a message that names nobody is a fault under any."""
        who = identify(self.customer, context, Losses())
        return who if isinstance(who, Rejected) else deleted(who, context)
