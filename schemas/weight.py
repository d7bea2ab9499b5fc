"""A profile that is larger than Klaviyo takes, made to fit."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from schemas.commands import UpsertProfile
from schemas.event import Field
from schemas.klaviyo import profile_import
from schemas.refusal import FIELDS

__all__ = ["LARGEST", "lighter"]

LARGEST: Final = 100_000  # bytes, "100 KB per profile, any way in", read strictly
_ENCODER: Final = msgspec.json.Encoder()


def lighter(
    command: UpsertProfile, revision: str
) -> tuple[UpsertProfile, list[Field]] | None:
    """Return the update without its largest fields, and our names of these.

    As few as make the body fit; None when it fits already, or never will: who it is about
    is not left out.
    """
    excess = len(profile_import(command, revision)) - LARGEST
    if excess <= 0:
        return None
    attributes, properties = dict(command.attributes), dict(command.properties)
    unset, lost = command.unset, dict[Field, None]()
    for weight, place, name in sorted(_weights(command), reverse=True):
        if excess <= 0:
            break
        excess -= weight
        if place == "attributes":
            del attributes[name]
            lost[FIELDS[name]] = None
        else:
            properties.pop(name, None)
            unset -= {name}
            lost["custom_fields"] = None
    if excess > 0:
        return None
    return UpsertProfile(command.identity, attributes, properties, unset), list(lost)


def _weights(command: UpsertProfile) -> Iterator[tuple[int, str, str]]:
    """Yield each field that may go: bytes it takes at least, where it is, its name."""

    def size(value: Any) -> int:  # noqa: ANN401  any JSON value
        return len(_ENCODER.encode(value))

    for name, value in command.attributes.items():
        yield size(value), "attributes", name
    for name, value in command.properties.items():
        yield size(name) + size(value), "properties", name
    for name in command.unset:
        yield size(name), "unset", name
