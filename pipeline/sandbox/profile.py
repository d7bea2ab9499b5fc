"""One profile: what Klaviyo keeps about a person, and how a write changes it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.sandbox.consent import Consent
from pipeline.sandbox.formats import stamp
from pipeline.sandbox.wire import Json

__all__ = [
    "FIELDS",
    "IDENTIFIERS",
    "Profile",
    "apply_attributes",
    "apply_patch",
    "resource",
]

# Strongest first: the order of identity resolution, after the profile id itself.
IDENTIFIERS = ("external_id", "email", "phone_number")
FIELDS = ("first_name", "last_name", "organization", "locale", "title", "image")
_PLACES = (
    "address1",
    "address2",
    "city",
    "country",
    "latitude",
    "longitude",
    "region",
    "zip",
    "timezone",
    "ip",
)


@dataclass(slots=True)
class Profile:
    """A profile; times are whole Unix seconds."""

    id: str
    created: int
    updated: int
    listed: int | None = None  # `updated` as listings know it; None: not there yet
    identifiers: dict[str, str] = field(default_factory=dict)
    secondary_emails: list[str] = field(default_factory=list)
    fields: Json = field(default_factory=dict)
    location: Json = field(default_factory=dict)
    properties: Json = field(default_factory=dict)
    last_event: int | None = None
    consent: Consent = field(default_factory=Consent)


def apply_attributes(profile: Profile, attributes: Json, *, clears: bool) -> bool:
    """Write all but the identifiers; return whether anything changed.

    An absent field is left alone. `properties` and `location` are merged key by key. With
    `clears` a null clears its field (PATCH, profile-import); without it a null is ignored
    (bulk import, events). A null inside `properties` is a value like any other where
    nulls clear: only `unset` removes a key.
    """
    changed = False
    for name in FIELDS:
        if name in attributes:
            changed |= _put(profile.fields, name, attributes[name], clears=clears)
    for name, held in (
        ("location", profile.location),
        ("properties", profile.properties),
    ):
        if name not in attributes:
            continue
        given = attributes[name]
        if given is None:
            changed |= clears and bool(held)
            if clears:
                held.clear()
            continue
        for key, value in given.items():
            if name == "properties" and value is None and clears:
                changed |= key not in held or held[key] is not None
                held[key] = None
            else:
                changed |= _put(held, key, value, clears=clears)
    return changed


def _put(target: Json, name: str, value: object, *, clears: bool) -> bool:
    if value is None:
        return clears and target.pop(name, None) is not None
    # 1 equals True in Python but not in JSON.
    if name in target and target[name] == value and type(target[name]) is type(value):
        return False
    target[name] = value
    return True


def apply_patch(profile: Profile, patch: Json | None) -> bool:
    """Append to, unappend from and unset properties; return whether any changed.

    Appending a value that is already there leaves one.
    """
    if not patch:
        return False
    before = dict(profile.properties)
    for name, value in (patch.get("append") or {}).items():
        held = _members(profile.properties.get(name))
        profile.properties[name] = [*held, *(v for v in _members(value) if v not in held)]
    for name, value in (patch.get("unappend") or {}).items():
        if name in profile.properties:
            gone = _members(value)
            profile.properties[name] = [
                v for v in _members(profile.properties[name]) if v not in gone
            ]
    unset = patch.get("unset") or []
    for name in [unset] if isinstance(unset, str) else unset:
        profile.properties.pop(name, None)
    return profile.properties != before


def _members(value: object) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def resource(
    profile: Profile,
    origin: str,
    *,
    only: Iterable[str] = (),
    subscriptions: bool = False,
) -> Json:
    """Return the profile as a JSON:API resource.

    `only` is the sparse fieldset of fields[profile]; a dotted name keeps its first part.
    `subscriptions` is shown on request alone.
    """
    attributes: Json = {
        **{name: profile.identifiers.get(name) for name in ("email", "phone_number")},
        "external_id": profile.identifiers.get("external_id"),
        **{name: profile.fields.get(name) for name in FIELDS},
        "created": stamp(profile.created),
        "updated": stamp(profile.updated),
        "last_event_date": None
        if profile.last_event is None
        else stamp(profile.last_event),
        "location": {name: profile.location.get(name) for name in _PLACES},
        "properties": profile.properties,
    }
    if subscriptions:
        attributes["subscriptions"] = profile.consent.document()
    if only:
        kept = {name.partition(".")[0] for name in only}
        attributes = {name: v for name, v in attributes.items() if name in kept}
    link = f"{origin}/api/profiles/{profile.id}"
    return {
        "type": "profile",
        "id": profile.id,
        "attributes": attributes,
        "relationships": {
            name: {
                "links": {
                    "self": f"{link}/relationships/{name}",
                    "related": f"{link}/{name}",
                }
            }
            for name in ("lists", "segments")
        },
        "links": {"self": link},
    }
