"""What is left of a command when Klaviyo refuses one field of it.

Klaviyo names the field with a JSON pointer into the body that `schemas.klaviyo` built.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import UNSET, Raw

from schemas.commands import (
    CLEARABLE,
    ChangeConsent,
    Command,
    CreateEvent,
    EraseProfile,
    SuppressProfile,
    UpsertProfile,
)
from schemas.event import Field
from schemas.properties import MARKER, marker

__all__ = ["FIELDS", "without"]

# Klaviyo's attribute -> our name of the field.
FIELDS: Final[dict[str, Field]] = {
    "email": "email",
    "phone_number": "phone",
    "first_name": "first_name",
    "last_name": "last_name",
    "organization": "company",
    "title": "title",
    "image": "image_url",
    "locale": "locale",
    "location": "address",
    "properties": "custom_fields",
}
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_NAMES: Final = msgspec.json.Decoder(list[str])
_ENCODER: Final = msgspec.json.Encoder()


def without(command: Command, pointer: str) -> tuple[Command, Field] | None:
    """Return the command without the optional field at `pointer`, and our name for it.

    None if the pointer is not into such a field, the command does not carry it, or nobody
    would be left to send it for. An external id is never left out: without it the rest
    could land on somebody else.
    """
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")]
    match command:
        case UpsertProfile():
            return _profile_without(command, steps)
        case CreateEvent():
            return _event_without(command, steps)
        case ChangeConsent():
            return None  # its channels are left out where its jobs are composed
        case SuppressProfile() | EraseProfile():
            return None  # nothing in it is optional


def _profile_without(
    command: UpsertProfile, steps: list[str]
) -> tuple[Command, Field] | None:
    match steps:
        case ["", "data", "meta", *_] if command.unset:
            rest = msgspec.structs.replace(command, unset=frozenset())
            return rest, "custom_fields"
        case ["", "data", "attributes", "properties", *inner]:
            return _properties_without(command, inner)
        case ["", "data", "attributes", name, *inner]:
            if name in CLEARABLE and name not in command.attributes:
                return _anonymous(command, name)
            return _attribute_without(command, name, inner)
        case _:
            return None


def _event_without(
    command: CreateEvent, steps: list[str]
) -> tuple[Command, Field] | None:
    match steps:
        case ["", "data", "attributes", "profile", "data", "attributes", name]:
            return _person_without(command, name)
        case ["", "data", "attributes", "properties", *inner]:
            return _event_properties_without(command, inner)
        case ["", "data", "attributes", "time"] if command.time is not UNSET:
            return msgspec.structs.replace(command, time=UNSET), "occurred_at"
        case ["", "data", "attributes", "value"] if command.value is not None:
            return msgspec.structs.replace(command, value=None), "total"
        case ["", "data", "attributes", "value_currency"] if command.currency:
            return msgspec.structs.replace(command, currency=None), "currency"
        case _:
            return None


def _attribute_without(
    command: UpsertProfile, name: str, inner: list[str]
) -> tuple[Command, Field] | None:
    if name not in FIELDS or name not in command.attributes:
        return None
    attributes = dict(command.attributes)
    place = attributes.pop(name)
    if name == "location" and inner:
        # One bad part of an address; the others stay.
        others = {key: value for key, value in place.items() if key != inner[0]}
        if others and others != place:
            attributes[name] = others
    return msgspec.structs.replace(command, attributes=attributes), FIELDS[name]


def _properties_without(
    command: UpsertProfile, inner: list[str]
) -> tuple[Command, Field] | None:
    if not command.properties or (inner and inner[0] not in command.properties):
        return None
    refused = set(inner[:1]) or command.properties.keys()
    kept = {k: v for k, v in command.properties.items() if k not in refused}
    return msgspec.structs.replace(command, properties=kept), "custom_fields"


def _person_without(command: CreateEvent, name: str) -> tuple[Command, Field] | None:
    if name in CLEARABLE:
        return _anonymous(command, name)
    if name not in command.profile:
        return None
    names = {k: v for k, v in command.profile.items() if k != name}
    return msgspec.structs.replace(command, profile=names), FIELDS[name]


def _event_properties_without(
    command: CreateEvent, inner: list[str]
) -> tuple[Command, Field] | None:
    properties = _OBJECT.decode(command.properties)
    if inner:
        cut = inner[:1] if inner[0] in properties else []
    else:  # all together break a limit, and it is not said which: ours stand first
        names = [name for name in properties if name != MARKER]
        cut = names[(len(names) + 1) // 2 :]
    if not cut or cut == [MARKER]:
        return None
    kept = {name: raw for name, raw in properties.items() if name not in cut}
    kept[MARKER] = marker([*_marked(kept), *cut])
    return msgspec.structs.replace(
        command, properties=Raw(_ENCODER.encode(kept))
    ), "properties"


def _marked(properties: Mapping[str, Raw]) -> list[str]:
    """Return what was cut before; a property of the user's own says nothing."""
    try:
        return _NAMES.decode(properties.get(MARKER, b"[]"))
    except msgspec.ValidationError:
        return []


def _anonymous(command: Command, name: str) -> tuple[Command, Field] | None:
    """Return the command without an identifier, as long as another one is left."""
    own = CLEARABLE[name]
    who = command.identity
    if getattr(who, own) is None or len(who.names()) == 1:
        return None
    rest = msgspec.structs.replace(who, **{own: None})
    return msgspec.structs.replace(command, identity=rest), FIELDS[name]
