"""What `check --sample` shows of consent and lists: the requests for one customer.

As if Klaviyo knew the customer, every list existed, and nobody had
said anything before; ids stand in for the real ones.
"""

import math
from collections.abc import Iterator

from pipeline.clock import SYSTEM
from pipeline.forward.asked import Asked
from pipeline.forward.steps import Known, Steps, steps
from pipeline.klaviyo.people import Person
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.settings import Settings
from schemas import subscriptions
from schemas.commands import ChangeConsent

__all__ = ["requests"]

_WHO = "PROFILE_ID"


def requests(
    change: ChangeConsent, settings: Settings, revision: str
) -> Iterator[tuple[str, bytes]]:
    """Give method and path, and body, in the order in which they are sent."""
    found = _steps(change, settings, revision)
    jobs = "POST /api/profile-subscription-bulk-{}-jobs"
    if found.unsubscribe is not None:
        body = subscriptions.unsubscribe([found.unsubscribe], revision)
        yield jobs.format("delete"), body
    for group in found.remove:
        yield f"DELETE {_members(group)}", subscriptions.members([_WHO])
    for (target, history), row in found.subscribe.items():
        source = settings.subscription.name
        yield (
            jobs.format("create"),
            subscriptions.subscribe([row], target, source=source, history=history),
        )
    for group in found.add:
        yield f"POST {_members(group)}", subscriptions.members([_WHO])


def _steps(change: ChangeConsent, settings: Settings, revision: str) -> Steps:
    who = change.identity
    lists = {name: f"ID_OF_{name}" for name in change.lists}
    default = settings.consent.list
    known = Known(
        lists=lists,
        default=f"ID_OF_{default}" if default else None,
        people=dict.fromkeys(
            who.names(), Person(_WHO, who.email, who.phone, who.external_id)
        ),
        asked=Asked(None, Health(Metrics(), SYSTEM), SYSTEM),
        now=math.inf,
        history=subscriptions.historical(revision),
    )
    found = steps(change, known)
    assert found is not None  # noqa: S101  nothing was asked before: nothing to wait for
    return found


def _members(group: str) -> str:
    return f"/api/lists/{group}/relationships/profiles"
