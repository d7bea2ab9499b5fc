"""Which function answers which operation, by method and path."""

from collections.abc import Callable

from pipeline.sandbox import (
    bulk,
    event_calls,
    lists,
    profile_calls,
    readers,
    subscriptions,
)
from pipeline.sandbox.state import State
from pipeline.sandbox.wire import Answer, Call

__all__ = ["Handler", "handlers"]

Handler = Callable[[State, Call], Answer]

_IMPORTS = "/api/profile-bulk-import-jobs"
_MEMBERS = "/api/lists/{id}/relationships/profiles"


def handlers(listings: readers.Readers) -> dict[str, Handler]:
    """Return the function of every operation that the sandbox serves."""
    return {
        "GET /api/accounts": readers.accounts,
        "GET /api/metrics": readers.metrics,
        "GET /api/profiles": listings.profiles,
        "GET /api/events": listings.events,
        "POST /api/profiles": profile_calls.create,
        "GET /api/profiles/{id}": profile_calls.get,
        "PATCH /api/profiles/{id}": profile_calls.update,
        "POST /api/profile-import": profile_calls.create_or_update,
        "POST /api/profile-merge": profile_calls.merge,
        "POST /api/data-privacy-deletion-jobs": profile_calls.erase,
        "POST /api/events": event_calls.create,
        "POST /api/event-bulk-create-jobs": event_calls.bulk_create,
        f"POST {_IMPORTS}": bulk.create,
        f"GET {_IMPORTS}": bulk.jobs,
        f"GET {_IMPORTS}/{{job_id}}": bulk.get,
        f"GET {_IMPORTS}/{{id}}/import-errors": bulk.errors,
        "GET /api/lists": lists.lists,
        "POST /api/lists": lists.create,
        "GET /api/lists/{id}": lists.get,
        "GET /api/lists/{id}/profiles": lists.members,
        f"GET {_MEMBERS}": lists.member_ids,
        f"POST {_MEMBERS}": lists.add,
        f"DELETE {_MEMBERS}": lists.remove,
        "POST /api/profile-subscription-bulk-create-jobs": subscriptions.subscribe,
        "POST /api/profile-subscription-bulk-delete-jobs": subscriptions.unsubscribe,
        "POST /api/profile-suppression-bulk-create-jobs": subscriptions.suppress,
        "POST /api/profile-suppression-bulk-delete-jobs": subscriptions.unsuppress,
    }
