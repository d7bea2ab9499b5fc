"""Which endpoint carries what, and how much of it at a time."""

from typing import Final

import msgspec

from pipeline.records import Kind
from schemas import bulk_events, bulk_profiles, subscriptions

__all__ = ["ROUTES", "Route"]


class Route(msgspec.Struct, frozen=True):
    """An endpoint that can carry items: which kind, and how many in one request."""

    operation: str
    kind: Kind
    rows: int = 1
    bytes: int | None = None  # of a bulk request
    since: str = ""  # the first revision that has it
    jobs: int | None = None  # asynchronous: so many may be under way, whatever the wire


JOBS: Final = 50  # imports under way at a time; Klaviyo takes seconds for one
# Those for one kind of item together, the smallest first.
ROUTES: Final = (
    (
        Route("create_or_update_profile", "single"),
        Route(
            "bulk_import_profiles",
            "profile",
            bulk_profiles.ROWS,
            bulk_profiles.BYTES,
            jobs=JOBS,
        ),
    ),
    (
        Route("create_event", "event"),
        Route(
            "bulk_create_events",
            "event",
            bulk_events.ROWS,
            bulk_events.BYTES,
            bulk_events.SINCE,
        ),
    ),
    (Route("bulk_suppress_profiles", "suppress"),),
    (Route("request_profile_deletion", "erase"),),
    (
        Route("bulk_subscribe_profiles", "consent", subscriptions.LARGEST),
        Route("bulk_subscribe_profiles", "late", subscriptions.LARGEST),
    ),
)
