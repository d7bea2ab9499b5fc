"""The calls that list: accounts, profiles, events, metrics."""

from collections.abc import Iterable, Iterator

from pipeline.sandbox.events import Event
from pipeline.sandbox.listing import (
    Condition,
    conditions,
    order,
    page_size,
    paged,
    sort_key,
)
from pipeline.sandbox.profile import Profile
from pipeline.sandbox.profile_calls import shown
from pipeline.sandbox.profiles import folded
from pipeline.sandbox.state import State
from pipeline.sandbox.wire import Answer, Call, Json, Problem, Refused

__all__ = ["Readers", "accounts", "metrics", "profile_value"]

_METRICS_PAGE = 200
_EVENTS_PAGE = 200
_SUPPRESSION = "subscriptions.email.marketing.suppression."
_LISTS = "subscriptions.email.marketing.list_suppressions."
_PAGED_BY = ("updated", f"{_SUPPRESSION}timestamp", f"{_LISTS}timestamp")


def accounts(state: State, call: Call) -> Answer:
    """GET /api/accounts: the one account of the key."""
    name = state.settings.account_id
    link = f"{call.origin}/api/accounts/{name}"
    account: Json = {
        "type": "account",
        "id": name,
        "attributes": {
            "test_account": True,
            "contact_information": {
                "default_sender_name": "Sandbox",
                "default_sender_email": "sandbox@sandbox.invalid",
                "website_url": None,
                "organization_name": "Sandbox",
                "street_address": dict.fromkeys(
                    ("address1", "address2", "city", "region", "country", "zip")
                ),
            },
            "industry": None,
            "timezone": "UTC",
            "preferred_currency": "USD",
            "public_api_key": name,
            "locale": "en-US",
        },
        "links": {"self": link},
    }
    return Answer.json(200, {"data": [account], "links": {"self": call.url}})


def metrics(state: State, call: Call) -> Answer:
    """GET /api/metrics: 200 a page, in the order of their creation."""
    wanted = conditions(call, state.settings.lower_bound_margin)
    # Filtering on integration.category has been seen to return nothing.
    fits = all(
        condition.field == "integration.name" and condition.holds("API")
        for condition in wanted
    )
    found = state.events.metrics() if fits else []
    page = paged(
        call,
        lambda: enumerate(found),
        lambda row: row[0],
        lambda row: row[1].id,
        cache=order(),
        version=0,
        descending=False,
        size=_METRICS_PAGE,
    )
    data = [metric.resource(call.origin) for _, metric in page.rows]
    return Answer.json(200, {"data": data, "links": page.links})


def profile_value(profile: Profile, field: str) -> object:
    """Return a profile's value for a filter or sort field; times in Unix seconds."""
    consent = profile.consent
    match field:
        case "id":
            return profile.id
        case "created":
            return profile.created
        case "updated":
            return profile.listed
        case _ if field == f"{_SUPPRESSION}timestamp":
            return max((int(at) for at in consent.suppressions.values()), default=None)
        case _ if field == f"{_LISTS}timestamp":
            return max(
                (int(at) for at in consent.list_suppressions.values()), default=None
            )
        case _:
            return profile.identifiers.get(field)


def _fits(profile: Profile, condition: Condition) -> bool:
    """Tell whether a profile passes; of several suppressions one is enough."""
    field, consent = condition.field, profile.consent
    found: Iterable[object]
    match field:
        case _ if field == f"{_SUPPRESSION}timestamp":
            found = (int(at) for at in consent.suppressions.values())
        case _ if field == f"{_SUPPRESSION}reason":
            found = consent.suppressions
        case _ if field == f"{_LISTS}timestamp":
            found = (int(at) for at in consent.list_suppressions.values())
        case _ if field == f"{_LISTS}list_id":
            found = consent.list_suppressions
        case _ if field == f"{_LISTS}reason":
            found = ["UNSUBSCRIBE"] if consent.list_suppressions else []
        case _:
            found = [profile_value(profile, field)]
    return any(condition.holds(value) for value in found)


class Readers:
    """Listings that keep their order between pages."""

    def __init__(self, state: State) -> None:
        """List what `state` holds."""
        self._state = state
        self._profiles = order()
        self._events = order()

    def profiles(self, state: State, call: Call) -> Answer:
        """GET /api/profiles."""
        wanted = conditions(call, state.settings.lower_bound_margin)
        fields = [condition.field for condition in wanted]
        suppressed = next((f for f in fields if f.startswith("subscriptions.")), None)
        if suppressed and "sort" in call.query:
            detail = f"'sort' is not supported with a filter on '{suppressed}'."
            raise Refused(400, [Problem(detail, parameter="sort")])
        # Pages follow the filter: by `updated` when that is filtered, else by id.
        default = next((f for f in fields if f in _PAGED_BY), "id")
        field, descending = sort_key(call, default)

        def rows() -> Iterable[Profile]:
            exact = next((c for c in wanted if c.operator in ("equals", "any")), None)
            if exact and exact.field in ("id", "email", "phone_number", "external_id"):
                held = (
                    state.profiles.owner(exact.field, value) for value in exact.values
                )
                found: Iterable[Profile] = {p.id: p for p in held if p}.values()
                rest = [c for c in wanted if c is not exact]
            else:
                found = (p for p in state.profiles if p.listed is not None)
                rest = wanted
            return (p for p in found if all(_fits(p, c) for c in rest))

        def value(profile: Profile) -> object:
            key = profile_value(profile, field)
            if field in ("id", "created", "updated"):
                return key
            return [
                key is not None,
                folded(field, key) if isinstance(key, str) else key or 0,
            ]

        page = paged(
            call,
            rows,
            value,
            lambda profile: profile.id,
            cache=self._profiles,
            version=state.profiles.version,
            descending=descending,
            size=page_size(call, 20),
        )
        data = [shown(call, profile) for profile in page.rows]
        return Answer.json(200, {"data": data, "links": page.links})

    def events(self, state: State, call: Call) -> Answer:
        """GET /api/events; the default order is the newest first."""
        wanted = conditions(call, state.settings.lower_bound_margin)
        _, descending = sort_key(call, "-datetime")
        owner = next((c.values[0] for c in wanted if c.field == "profile_id"), None)
        metric = next((c.values[0] for c in wanted if c.field == "metric_id"), None)
        times = [c for c in wanted if c.field in ("datetime", "timestamp")]

        def rows() -> Iterator[Event]:
            source = state.events if owner is None else state.events.of_profile(owner)
            return (
                event
                for event in source
                if metric in (None, event.metric)
                and all(c.holds(event.time) for c in times)
            )

        page = paged(
            call,
            rows,
            lambda event: event.time,
            lambda event: event.id,
            cache=self._events,
            version=state.events.version,
            descending=descending,
            size=page_size(call, _EVENTS_PAGE),
        )
        document: Json = {
            "data": [event.resource(call.origin) for event in page.rows],
            "links": page.links,
        }
        if included := self._included(call, page.rows):
            document["included"] = included
        return Answer.json(200, document)

    def _included(self, call: Call, events: list[Event]) -> list[Json]:
        asked = call.query.get("include", "").split(",")
        found: list[Json] = []
        if "metric" in asked:
            ids = {event.metric for event in events}
            known = self._state.events.metrics()
            found += [m.resource(call.origin) for m in known if m.id in ids]
        if "profile" in asked:
            ids = {event.profile for event in events}
            found += [shown(call, self._state.profiles.by_id[i]) for i in sorted(ids)]
        return found
