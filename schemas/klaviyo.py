"""Commands as the bodies of Klaviyo's requests, in the revision that is really served.

Shapes from Klaviyo's OpenAPI documents 2024-02-15 ... 2026-07-15. The bytes are
deterministic: identical commands give identical requests.
"""

from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw, UnsetType

from schemas.commands import CreateEvent, Identity, UpsertProfile
from schemas.refusal import without

__all__ = [
    "BACKFILL_SINCE",
    "OLDEST_SPOKEN",
    "event",
    "identifiers",
    "metric",
    "most_properties",
    "profile",
    "profile_import",
    "without",
]

# The first revision with POST /api/profile-import; Klaviyo serves none older any more.
OLDEST_SPOKEN: Final = "2024-02-15"
# The first revision whose events have `backfill`, single and in bulk alike. It is written
# only when it is true, and then always: an older one refuses it rather than mail people.
BACKFILL_SINCE: Final = "2026-04-15"


class _Since(NamedTuple):
    """A field that not every spoken revision has."""

    name: str
    revision: str
    source: str


# Everything else we send stands in every revision from OLDEST_SPOKEN on, in the same
# place (also meta.patch_properties: data.meta of profile-import throughout).
_FIELDS: Final = (
    _Since("locale", "2024-07-15", "profile-import request: first in that document"),
)


class _Metric(msgspec.Struct, frozen=True, tag_field="type", tag="metric"):
    attributes: dict[str, str]


class _Profile(msgspec.Struct, tag_field="type", tag="profile", gc=False):
    attributes: dict[str, str]


class _Data(msgspec.Struct, frozen=True, gc=False):
    data: Any


class _EventAttributes(msgspec.Struct, omit_defaults=True, gc=False):
    properties: Raw
    time: str | UnsetType
    unique_id: str
    metric: _Data
    profile: _Data
    value: Raw | None = None
    value_currency: str | None = None
    backfill: bool = False


class _Event(msgspec.Struct, tag_field="type", tag="event", gc=False):
    attributes: _EventAttributes


_ENCODER: Final = msgspec.json.Encoder()
# Merged updates name their fields in another order than single ones; the bytes do not.
_SORTED: Final = msgspec.json.Encoder(order="deterministic")


def profile_import(command: UpsertProfile, revision: str) -> bytes:
    """Return the body of POST /api/profile-import: absent is left alone, null clears."""
    return b'{"data":%b}' % profile(command, revision)


def profile(command: UpsertProfile, revision: str) -> bytes:
    """Return the profile object of profile-import and of a row of a bulk import."""
    attributes: dict[str, Any] = {**command.attributes, **identifiers(command.identity)}
    for field in _unknown(revision):
        attributes.pop(field, None)
    if command.properties:
        attributes["properties"] = command.properties
    data: dict[str, Any] = {"type": "profile", "attributes": attributes}
    if command.unset:
        data["meta"] = {"patch_properties": {"unset": sorted(command.unset)}}
    return _SORTED.encode(data)


def event(command: CreateEvent, revision: str) -> bytes:  # noqa: ARG001  all know it
    """Return the body of POST /api/events, the same in every revision so far."""
    person = _Profile({**identifiers(command.identity), **command.profile})
    attributes = _EventAttributes(
        command.properties,
        command.time,
        command.unique_id,
        metric(command.metric),
        _Data(person),
        command.value,
        command.currency,
        command.backfill,
    )
    return _ENCODER.encode(_Data(_Event(attributes)))


def identifiers(who: Identity) -> dict[str, str]:
    """Return the identifiers under Klaviyo's names."""
    names = {}
    if who.external_id is not None:
        names["external_id"] = who.external_id
    if who.email is not None:
        names["email"] = who.email
    if who.phone is not None:
        names["phone_number"] = who.phone
    return names


@lru_cache(maxsize=64)  # there are five metrics; users may name some more
def metric(name: str) -> _Data:
    """Return the reference to a metric, by its name."""
    return _Data(_Metric({"name": name}))


def most_properties(revision: str) -> int:
    """Return how many properties an event may have, by POST /api/events.

    `revision` may be the one asked for: Klaviyo never serves an older one.
    """
    return 400 if revision >= "2025-04-15" else 300


@lru_cache(maxsize=64)
def _unknown(revision: str) -> tuple[str, ...]:
    """Fields that a revision (YYYY-MM-DD) does not know yet."""
    return tuple(field.name for field in _FIELDS if revision < field.revision)
