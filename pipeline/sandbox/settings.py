"""Everything about the sandbox that can be changed while it runs."""

from typing import Any, Literal, TypeAlias

import msgspec

__all__ = ["Settings"]

Seconds: TypeAlias = float


class Settings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Settings of the account and of the server; `PUT /sandbox/settings` changes any."""

    # Limits
    limits: bool = True  # off: nothing is refused and the headers announce huge windows
    limit_header: Literal["list", "number"] = "list"  # form of RateLimit-Limit
    window_alignment: Literal["clock", "first"] = "clock"  # multiples, or first request
    limit_overrides: dict[
        str, tuple[int, int]
    ] = {}  # "POST /api/events": (burst, steady)

    # Credentials
    key: str | None = None  # the only key accepted; None: every key that starts with pk_
    revoked_keys: list[str] = []  # answered with 401; "*" is every key and token
    missing_scopes: list[str] = []  # an operation that needs one is answered with 403
    forbidden: list[str] = []  # operations answered with 403, as "POST /api/events"

    # OAuth
    account_id: str = "SaNdBx"  # whose consent is asked for, and who answers
    oauth_client_id: str = "sandbox"
    oauth_client_secret: str = "sandbox"  # noqa: S105 - known to everybody on purpose
    oauth_redirects: list[str] = []  # redirect URLs that are registered; none is any
    oauth_token_seconds: int = 3600  # life of an access token
    oauth_code_seconds: Seconds = 600.0  # life of an authorization code
    oauth_rotate: bool = True  # a refresh gives a new refresh token and ends the old
    oauth_refreshes: int = 10  # a minute, unless limits are off
    oauth_withheld: list[str] = []  # scopes the user does not grant

    # Revisions
    today: str = "2026-11-23"  # decides which revisions are alive

    # Data
    identity: Literal["conflict", "merge"] = "conflict"  # identifiers hit two profiles
    sms_enabled: bool = True  # off: a phone number alone does not identify a profile
    opt_in: Literal["single_opt_in", "double_opt_in"] = "single_opt_in"  # the default
    failing_rows: list[str] = []  # identifiers whose rows fail in a bulk import
    lost_events: list[str] = []  # unique_ids that are accepted and then not recorded
    lower_bound_margin: Seconds = 3.0  # a filter bound nearer to now than this is 400

    # Delays
    latency: Seconds | tuple[Seconds, Seconds] = 0.0  # before a call is processed
    import_queued: Seconds = 0.0  # a bulk import job waits this long
    import_processing: Seconds = 0.0  # and then works this long
    event_delay: Seconds = 0.0  # until an accepted event is processed
    subscribe_delay: Seconds = 0.0  # until a subscribe or unsubscribe job is applied
    suppress_delay: Seconds = 0.0  # until a suppression job is applied
    index_delay: Seconds = 0.0  # until listings show that a profile has changed
    merge_delay: Seconds = 0.0  # until a profile merge or deletion is applied

    # Bounds; Klaviyo says "5 MB" and "100 KB", the smaller reading is enforced
    max_body: int = 5_000_000  # bytes after decompression
    max_profile: int = 100_000  # bytes of one profile
    max_event_profile: int = 95_000  # bytes of the profile inside an event

    # Ledger
    keep_bodies: bool = False  # keep the body of each request in the ledger
    keep_requests: int = 20_000  # entries in the ledger
    keep_events: int | None = None  # events kept whole; beyond, only what deduplicates

    def changed(self, patch: dict[str, Any]) -> "Settings":
        """Return the settings with the fields of `patch` set.

        Raises `msgspec.ValidationError` for an unknown field or a wrong type.
        """
        return msgspec.convert({**msgspec.structs.asdict(self), **patch}, Settings)
