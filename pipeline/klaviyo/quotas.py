"""Klaviyo's official limits and scopes, per operation.

Source: Klaviyo's OpenAPI document, revision 2026-07-15, "Rate limits" and "Scopes" of
each operation. Operations named `a+b` are smaller buckets that a call of `a` with that
query parameter spends from as well. What an account really has is announced by the
RateLimit headers; these are the seeds until the first answer.
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
    "create_profile": Quota(75, 750, "profiles:write"),
    "update_profile": Quota(75, 750, "profiles:write"),
    "get_profile": Quota(75, 750, "profiles:read"),
    "get_profiles": Quota(75, 750, "profiles:read"),
    "create_or_update_profile": Quota(75, 750, "profiles:write"),
    "bulk_import_profiles": Quota(10, 150, "lists:write profiles:write"),
    "get_bulk_import_profiles_jobs": Quota(10, 150, "lists:read profiles:read"),
    "get_bulk_import_profiles_job": Quota(10, 150, "lists:read profiles:read"),
    "get_errors_for_bulk_import_profiles_job": Quota(10, 150, "profiles:read"),
    "get_profiles_for_bulk_import_profiles_job": Quota(10, 150, "profiles:read"),
    "merge_profiles": Quota(10, 150, "profiles:write"),
    "get_lists_for_profile": Quota(3, 60, "lists:read profiles:read"),
    "bulk_subscribe_profiles": Quota(
        75, 750, "lists:write profiles:write subscriptions:write"
    ),
    "bulk_unsubscribe_profiles": Quota(
        75, 750, "lists:write profiles:write subscriptions:write"
    ),
    "bulk_suppress_profiles": Quota(75, 750, "profiles:write subscriptions:write"),
    "get_bulk_suppress_profiles_job": Quota(75, 750, "subscriptions:read"),
    "bulk_unsuppress_profiles": Quota(75, 750, "subscriptions:write"),
    "get_bulk_unsuppress_profiles_job": Quota(75, 750, "subscriptions:read"),
    "request_profile_deletion": Quota(3, 60, "data-privacy:write"),
    "create_event": Quota(350, 3500, "events:write"),
    "bulk_create_events": Quota(10, 150, "events:write"),
    "get_events": Quota(350, 3500, "events:read"),
    "get_event": Quota(10, 150, "events:read"),
    "get_metrics": Quota(10, 150, "metrics:read"),
    "get_metric": Quota(10, 150, "metrics:read"),
    "get_properties_for_metric": Quota(1, 15, "metrics:read"),
    "get_lists": Quota(75, 750, "lists:read"),
    "create_list": Quota(10, 150, "lists:write"),
    "get_list": Quota(75, 750, "lists:read"),
    "get_profiles_for_list": Quota(75, 750, "lists:read profiles:read"),
    "get_profile_ids_for_list": Quota(75, 750, "lists:read profiles:read"),
    "add_profiles_to_list": Quota(10, 150, "lists:write profiles:write"),
    "remove_profiles_from_list": Quota(10, 150, "lists:write profiles:write"),
    "get_webhook_topics": Quota(1, 15, "webhooks:read"),
    "get_webhooks": Quota(1, 15, "webhooks:read"),
    "create_webhook": Quota(1, 15, "webhooks:write"),
    "get_webhook": Quota(1, 15, "webhooks:read"),
    "update_webhook": Quota(1, 15, "webhooks:write"),
    "delete_webhook": Quota(1, 15, "webhooks:write"),
    "get_data_sources": Quota(3, 60, "custom-objects:read"),
    "bulk_create_data_source_records": Quota(3, 15, "custom-objects:write"),
    "get_profiles+predictive_analytics": Quota(10, 150, "profiles:read"),
    "get_profiles_for_list+predictive_analytics": Quota(
        10, 150, "lists:read profiles:read"
    ),
    "get_profile+include_lists_or_segments": Quota(
        1, 15, "profiles:read lists:read|segments:read"
    ),
    "get_list+profile_count": Quota(1, 15, "lists:read"),
}
