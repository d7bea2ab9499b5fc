"""POST /api/events and POST /api/event-bulk-create-jobs.

Both only promise that a valid request was accepted: 202 with an empty body. A bulk
request is validated whole; one bad row refuses all of it. Limits per event: 400
properties (300 before 2025-04-15), strings of 100 KB, arrays of 4,000, nesting of 10,
64-bit integers, the profile 95 KB. Sources: Klaviyo, "Events API overview", and the
official documents.
"""

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from pipeline.sandbox.checks import attribute_problems, identity_problem, refuse
from pipeline.sandbox.events import Event
from pipeline.sandbox.formats import bad_currency, bad_phone, instant
from pipeline.sandbox.profile import Profile
from pipeline.sandbox.profiles import Conflict, identifiers_of
from pipeline.sandbox.state import State
from pipeline.sandbox.wire import Answer, Call, Json, Problem, Refused, dump

__all__ = ["bulk_create", "create"]

_MAX_BULK = 1_000  # events in one bulk request
_MAX_NAME = 128  # a metric's name is shorter
_MAX_UNIQUE_ID = 255  # characters
_MAX_STRING = 100_000  # bytes
_MAX_ARRAY = 4_000
_MAX_NESTING = 10
_INT64 = 2**63
_YEAR = 366 * 86_400  # s; "up to 1 year in the future"
_BULK = "/data/attributes/events-bulk-create/data"
# JSON of this size has no room for 4,001 members, each two bytes at least.
_SMALL = 2 * _MAX_ARRAY
_LONG_NUMBER = re.compile(rb"\d{19}")  # as long as an integer beyond 64 bits
_TOO_DEEP = f"Properties nest at most {_MAX_NESTING} deep."
_TEST_DOMAINS = ("@example.com", "@test.com")  # accepted, then dropped
_FLOOR_2000 = dt.datetime(2000, 1, 1, tzinfo=dt.UTC).timestamp()
_FLOOR_1990 = dt.datetime(1990, 1, 1, tzinfo=dt.UTC).timestamp()


@dataclass(slots=True)
class _Ready:
    """A checked event, ready to be recorded; `second` is its time, truncated."""

    metric: str
    unique_id: str
    second: int
    properties: bytes
    value: float | None
    currency: str | None
    backfill: bool


def create(state: State, call: Call) -> Answer:
    """Accept one event."""
    attributes = call.body["data"]["attributes"]
    person = attributes["profile"]["data"]
    problems = [*_profile_problems(state, person, "/data/attributes/profile/data")]
    ready = _checked(attributes, "/data/attributes", call, problems)
    refuse(problems)
    _accept(state, call, person, [ready])
    return Answer(202)


def bulk_create(state: State, call: Call) -> Answer:
    """Accept up to 1,000 events, grouped by profile, all or none."""
    entries = call.body["data"]["attributes"]["events-bulk-create"]["data"]
    count = sum(len(entry["attributes"]["events"]["data"]) for entry in entries)
    if not 0 < count <= _MAX_BULK:
        detail = f"A request holds 1 to {_MAX_BULK} events, this one {count}."
        raise Refused(400, [Problem(detail, _BULK)])
    problems: list[Problem] = []
    strict = call.revision >= "2025-01-15"  # older ones discard repeats afterwards
    seen: set[tuple[str, str, str]] = set()
    accepted: list[tuple[Json, list[_Ready]]] = []
    for i, entry in enumerate(entries):
        attributes = entry["attributes"]
        person = attributes["profile"]["data"]
        place = f"{_BULK}/{i}/attributes"
        problems += _profile_problems(state, person, f"{place}/profile/data")
        owner = _owner(state, person)
        group: list[_Ready] = []
        for j, item in enumerate(attributes["events"]["data"]):
            spot = f"{place}/events/data/{j}/attributes"
            ready = _checked(item["attributes"], spot, call, problems)
            ready.backfill |= bool(attributes.get("backfill"))
            group.append(ready)
            if strict and item["attributes"].get("unique_id"):
                key = (owner, ready.metric, ready.unique_id)
                if key in seen:
                    detail = f"unique_id '{ready.unique_id}' is repeated."
                    problems.append(Problem(detail, f"{spot}/unique_id"))
                seen.add(key)
        accepted.append((person, group))
    refuse(problems)
    for person, group in accepted:
        _accept(state, call, person, group)
    return Answer(202)


def _owner(state: State, person: Json) -> str:
    """Name the person of an event: the profile it resolves to, or its identifiers."""
    named = identifiers_of(person["attributes"])
    if person.get("id"):
        named["id"] = person["id"]
    found = state.profiles.resolve(named)
    return found[0].id if found else repr(named)


def _profile_problems(state: State, person: Json, place: str) -> Iterator[Problem]:
    attributes = person["attributes"]
    inner = f"{place}/attributes"
    missing = identity_problem(attributes, person.get("id"), inner, sms=True)
    if missing:
        yield missing
    # An invalid phone number counts only when there is no e-mail address.
    has_email = bool(attributes.get("email"))
    yield from attribute_problems(attributes, inner, phone=not has_email)
    if len(dump(person)) > state.settings.max_event_profile:
        yield Problem("The profile of an event must not exceed 95 KB.", place)


def _checked(event: Json, place: str, call: Call, problems: list[Problem]) -> _Ready:
    """Return the event ready to be recorded, and add what is wrong with it."""
    name = event["metric"]["data"]["attributes"]["name"]
    if not 0 < len(name) < _MAX_NAME:
        detail = f"A metric's name has 1 to {_MAX_NAME - 1} characters."
        problems.append(Problem(detail, f"{place}/metric/data/attributes/name"))
    unique = event.get("unique_id")
    if unique is not None and not 0 < len(unique) <= _MAX_UNIQUE_ID:
        detail = f"unique_id has 1 to {_MAX_UNIQUE_ID} characters."
        problems.append(Problem(detail, f"{place}/unique_id"))
    currency = event.get("value_currency")
    if currency is not None and (fault := bad_currency(currency)):
        problems.append(Problem(fault, f"{place}/value_currency"))
    at: float | None = call.now
    if (time := event.get("time")) is not None:
        at = instant(time)
        floor = _FLOOR_1990 if call.revision >= "2026-07-15" else _FLOOR_2000
        if at is None:
            problems.append(Problem("Invalid ISO 8601 date and time.", f"{place}/time"))
        elif not floor <= at <= call.now + _YEAR:
            problems.append(Problem("The time is out of range.", f"{place}/time"))
    second = int(at or 0)
    properties = event["properties"]
    # Not orjson: each of its results keeps the 4 KB it was written into.
    raw = msgspec.json.encode(properties)
    most = 400 if call.revision >= "2025-04-15" else 300
    if fault := _too_big(properties, raw, most):
        problems.append(Problem(fault, f"{place}/properties"))
    return _Ready(
        name,
        unique or str(second),
        second,
        raw,
        event.get("value"),
        currency,
        bool(event.get("backfill")),
    )


def _too_big(properties: Json, raw: bytes, most: int) -> str | None:
    """Return which limit the properties break, or None; `raw` is them as JSON."""
    if len(properties) > most:
        return f"An event has at most {most} properties."
    if len(raw) <= _SMALL and not _LONG_NUMBER.search(raw):
        # Too small for a long string or array: only the nesting is left to see, and few
        # brackets cannot nest deep.
        few = raw.count(b"{") + raw.count(b"[") <= _MAX_NESTING
        return _TOO_DEEP if not few and _nests(properties, 1) else None
    return _excess(properties, 1)


def _nests(value: Iterable[object], depth: int) -> bool:
    """Tell whether containers nest deeper than allowed."""
    for member in value.values() if isinstance(value, dict) else value:
        if isinstance(member, dict | list) and (
            depth >= _MAX_NESTING or _nests(member, depth + 1)
        ):
            return True
    return False


def _excess(value: object, depth: int) -> str | None:
    """Return which limit a property value breaks, or None."""
    found: str | None = None
    match value:
        case str() if len(value.encode()) > _MAX_STRING:
            found = "A string must not exceed 100 KB."
        case int() if not -_INT64 <= value < _INT64:
            found = "Integers are limited to 64 bits."
        case list() if len(value) > _MAX_ARRAY:
            found = f"An array has at most {_MAX_ARRAY} members."
        case dict() | list() if depth > _MAX_NESTING:
            found = _TOO_DEEP
        case dict() | list():
            members = value.values() if isinstance(value, dict) else value
            faults = (_excess(member, depth + 1) for member in members)
            found = next((fault for fault in faults if fault), None)
        case _:
            pass
    return found


def _accept(state: State, call: Call, person: Json, events: list[_Ready]) -> None:
    """Queue the events of one person for processing."""
    delay, now = state.settings.event_delay, call.now
    if delay:
        state.later(delay, lambda: _process(state, person, events, now))
    else:
        _process(state, person, events, now)


def _process(state: State, person: Json, events: list[_Ready], now: float) -> None:
    profile = _profile(state, person, len(events), now)
    if profile is None or not events:
        return
    for event in events:
        if event.unique_id in state.settings.lost_events:
            state.lose("lost_event", unique_id=event.unique_id)
            continue
        metric = state.events.metric(event.metric, now)
        state.events.add(
            Event(
                state.events.id(),
                profile.id,
                metric.id,
                event.unique_id,
                event.second,
                now,
                event.properties,
                event.value,
                event.currency,
                event.backfill,
            ),
            state.settings.keep_events,
        )
    newest = max(event.second for event in events)
    profile.last_event = max(profile.last_event or newest, newest)
    state.profiles.touch(profile, now)  # every event moves `updated`


def _profile(state: State, person: Json, count: int, now: float) -> Profile | None:
    """Create or update the profile of an event; None when the events are dropped."""
    attributes = person["attributes"]
    email = attributes.get("email")
    if email and email.lower().endswith(_TEST_DOMAINS):
        state.lose("test_domain", email=email, events=count)
        return None
    phone = attributes.get("phone_number")
    if phone and bad_phone(phone):
        state.lose("invalid_phone", email=email, phone_number=phone)
        attributes = {k: v for k, v in attributes.items() if k != "phone_number"}
    named = identifiers_of(attributes)
    sms = state.settings.sms_enabled or bool(person.get("id"))
    if not sms and list(named) == ["phone_number"]:
        state.lose("phone_only_without_sms", phone_number=phone, events=count)
        return None
    # From 2024-02-15 on, POST /api/events has meta inside the profile's attributes.
    meta = person.get("meta") or attributes.get("meta")
    try:
        return state.profiles.upsert(
            attributes,
            identifier=person.get("id"),
            meta=meta,
            now=now,
            merges=state.settings.identity == "merge",
            clears=False,
        ).profile
    except Conflict as conflict:
        # Nobody is there to be told: the stronger profile gets the event and keeps its
        # identifiers, the clashing one is not applied.
        kept = {k: v for k, v in attributes.items() if k not in named}
        state.profiles.write(conflict.target, kept, meta, now, clears=False)
        return conflict.target
    except Refused:
        state.lose("unknown_profile_id", id=person.get("id"), events=count)
        return None
