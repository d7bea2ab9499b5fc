"""What Klaviyo holds, read back: the queries, and the shapes of their answers.

Filters and fields from Klaviyo's documents 2024-02-15 ... 2026-07-15, the same in all.
A query is percent-encoded here, once: a bare `+` in it would be read as a space.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from pipeline.klaviyo.retry import Kind

__all__ = [
    "EVENTS",
    "PROFILES",
    "Event",
    "Profile",
    "Unread",
    "askable",
    "events_path",
    "profiles_path",
]


class Profile(msgspec.Struct, frozen=True):
    """A profile as it is shown: Klaviyo's id of it, and all its attributes."""

    id: str
    attributes: dict[str, Any]

    def __repr__(self) -> str:  # the attributes are a customer's
        return f"Profile({self.id})"


class Event(msgspec.Struct, frozen=True):
    """An event as it is shown; `metric` is the name, blank when Klaviyo has none."""

    id: str
    metric: str
    properties: dict[str, Any]

    def __repr__(self) -> str:  # the properties are a customer's
        return f"Event({self.id})"


class Unread(msgspec.Struct, frozen=True):
    """A read that came to nothing, and why."""

    kind: Kind


class _Profiles(msgspec.Struct):
    data: list[Profile]


class _Id(msgspec.Struct):
    id: str


class _Reference(msgspec.Struct):
    data: _Id | None = None


class _Relationships(msgspec.Struct):
    metric: _Reference = msgspec.field(default_factory=_Reference)


class _EventAttributes(msgspec.Struct):
    event_properties: dict[str, Any] | None = None


class _EventData(msgspec.Struct):
    id: str
    attributes: _EventAttributes
    relationships: _Relationships = msgspec.field(default_factory=_Relationships)


class _MetricAttributes(msgspec.Struct):
    name: str | None = None


class _Included(msgspec.Struct):
    id: str
    attributes: _MetricAttributes = msgspec.field(default_factory=_MetricAttributes)


class _Links(msgspec.Struct):
    next: str | None = None


class _Events(msgspec.Struct):
    """One page of GET /api/events with include=metric."""

    data: list[_EventData]
    included: list[_Included] = []
    links: _Links = msgspec.field(default_factory=_Links)

    def events(self) -> list[Event]:
        """The events, each with the name of its metric."""
        names = {each.id: each.attributes.name or "" for each in self.included}
        found = []
        for each in self.data:
            metric = each.relationships.metric.data
            name = names.get(metric.id, "") if metric else ""
            found.append(Event(each.id, name, each.attributes.event_properties or {}))
        return found

    def following(self) -> str:
        """The cursor of the next page; blank when there is none."""
        query = parse_qs(urlsplit(self.links.next or "").query)
        return query.get("page[cursor]", [""])[0]


PROFILES: Final = msgspec.json.Decoder(_Profiles)
EVENTS: Final = msgspec.json.Decoder(_Events)


def askable(value: str) -> bool:
    """Whether a filter can hold it: how to write a quote in one is not documented."""
    return not set(value) & {'"', "\\"}


def profiles_path(kind: str, value: str) -> str:
    """The profile with that external_id, email or phone_number."""
    wanted = f'equals({kind},"{value}")'
    return f"/api/profiles?filter={quote(wanted, safe='')}"


def events_path(profile: str, at: datetime, cursor: str) -> str:
    """The events of a profile in the second of `at`, with their metrics."""
    start = at.astimezone(UTC).replace(microsecond=0)
    end = start + timedelta(seconds=1)
    wanted = (
        f'equals(profile_id,"{profile}"),'
        f"greater-or-equal(datetime,{start:%Y-%m-%dT%H:%M:%SZ}),"
        f"less-than(datetime,{end:%Y-%m-%dT%H:%M:%SZ})"
    )
    path = f"/api/events?filter={quote(wanted, safe='')}&include=metric&sort=datetime"
    return f"{path}&page%5Bcursor%5D={quote(cursor, safe='')}" if cursor else path
