"""Klaviyo's official limits and scopes, per operation.

Source: Klaviyo's OpenAPI document, revision 2026-07-15, "Rate limits" and "Scopes" of
each operation that we call. What an account really has is announced by the RateLimit
headers; these are the seeds until the first answer.
"""

from typing import Final, NamedTuple

__all__ = ["QUOTAS", "Quota"]


class Quota(NamedTuple):
    """Calls per fixed window of 1 s (burst) and 60 s (steady), and the scopes needed."""

    burst: int
    steady: int
    scopes: str


QUOTAS: Final[dict[str, Quota]] = {
    "get_accounts": Quota(1, 15, "accounts:read"),
    "get_profile": Quota(75, 750, "profiles:read"),
    "get_profiles": Quota(75, 750, "profiles:read"),
    "create_or_update_profile": Quota(75, 750, "profiles:write"),
    "bulk_import_profiles": Quota(10, 150, "lists:write profiles:write"),
    "get_bulk_import_profiles_jobs": Quota(10, 150, "lists:read profiles:read"),
    "get_bulk_import_profiles_job": Quota(10, 150, "lists:read profiles:read"),
    "get_errors_for_bulk_import_profiles_job": Quota(10, 150, "profiles:read"),
    "merge_profiles": Quota(10, 150, "profiles:write"),
    "bulk_subscribe_profiles": Quota(
        75, 750, "lists:write profiles:write subscriptions:write"
    ),
    "bulk_unsubscribe_profiles": Quota(
        75, 750, "lists:write profiles:write subscriptions:write"
    ),
    "bulk_suppress_profiles": Quota(75, 750, "profiles:write subscriptions:write"),
    "request_profile_deletion": Quota(3, 60, "data-privacy:write"),
    "create_event": Quota(350, 3500, "events:write"),
    "bulk_create_events": Quota(10, 150, "events:write"),
    "get_events": Quota(350, 3500, "events:read"),
    "get_metrics": Quota(10, 150, "metrics:read"),
    "get_lists": Quota(75, 750, "lists:read"),
    "create_list": Quota(10, 150, "lists:write"),
    "add_profiles_to_list": Quota(10, 150, "lists:write profiles:write"),
    "remove_profiles_from_list": Quota(10, 150, "lists:write profiles:write"),
}
