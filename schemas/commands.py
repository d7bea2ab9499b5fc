"""The closed union of what we may ask of Klaviyo.

A command says *what* should be true in Klaviyo, in our own words; `schemas.klaviyo` turns
it into the body of a request, `pipeline.forward` decides when and in which company it
goes.
"""

from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UnsetType

__all__ = [
    "ChangeConsent",
    "Channel",
    "Command",
    "CreateEvent",
    "EraseProfile",
    "Identity",
    "ListChange",
    "Said",
    "SuppressProfile",
    "UpsertProfile",
]

# Attributes that are identifiers: a value stands in `identity`, only a None stands here.
CLEARABLE: Final = {"email": "email", "phone_number": "phone"}


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who a command is about: at least one of the three is set.

    `email` is trimmed and lower-cased, at most 100 characters; `phone` is E.164. Both
    were valid when the command was made; what was not is left out. The
    order of strength is external_id, email, phone (Klaviyo, "Understanding identity
    resolution").
    """

    external_id: str | None = None
    email: str | None = None
    phone: str | None = None

    def names(self) -> tuple[str, ...]:
        """Return one key per identifier, unique over the kinds, the strongest first.

        For example `i:C-1`, `e:ada@shop.dev`, `p:+12025550123`.
        """
        names = []
        if self.external_id is not None:
            names.append("i:" + self.external_id)
        if self.email is not None:
            names.append("e:" + self.email)
        if self.phone is not None:
            names.append("p:" + self.phone)
        return tuple(names)


class UpsertProfile(msgspec.Struct):
    """Make these fields of one profile true; fields that are not named stay as they are.

    `attributes` holds Klaviyo's attribute names (first_name, organization, location, ...)
    without the identifiers; `None` clears a field, and `email` or `phone_number` stand
    here only as None, to be cleared. `location` is a dict of its own, merged key by key.
    `properties` are the custom properties to set; `unset` names those to remove; no name
    is in both.
    """

    identity: Identity
    attributes: dict[str, Any]
    properties: dict[str, Any]
    unset: frozenset[str] = frozenset()

    def merged(self, later: "UpsertProfile") -> "UpsertProfile | None":
        """Return the one update that does what this and then `later` would do.

        None when the two may be about different profiles: they merge only if the
        strongest identifier each names is of the same kind and equal. Neither side is
        changed.
        """
        if self.identity.names()[0] != later.identity.names()[0]:
            return None
        attributes = {**self.attributes, **later.attributes}
        if "location" in self.attributes and "location" in later.attributes:
            attributes["location"] = {
                **self.attributes["location"],
                **later.attributes["location"],
            }
        identifiers: dict[str, str | None] = {}
        for attribute, name in CLEARABLE.items():
            value: str | None = getattr(later.identity, name)
            if value is not None:
                attributes.pop(attribute, None)
            elif attribute not in later.attributes:
                value = getattr(self.identity, name)
            identifiers[name] = value
        kept = {k: v for k, v in self.properties.items() if k not in later.unset}
        return UpsertProfile(
            identity=Identity(self.identity.external_id, **identifiers),
            attributes=attributes,
            properties={**kept, **later.properties},
            unset=(self.unset - later.properties.keys()) | later.unset,
        )


class CreateEvent(msgspec.Struct, gc=False):
    """Record one event of one customer.

    `properties` is the JSON object of the event's properties, encoded once here because
    it is the bulk of the body and the same for every revision. `profile` are attributes
    that ride along beside the identifiers (names only). `time` is RFC
    3339 with an offset, UNSET if Klaviyo is to take that of receipt; `value` is a JSON
    number in major units, exact as in the source.
    """

    identity: Identity
    metric: str
    unique_id: str
    time: str | UnsetType
    properties: msgspec.Raw
    profile: dict[str, str]
    value: msgspec.Raw | None = None
    currency: str | None = None
    backfill: bool = False  # recorded without triggering flows: nobody gets a message


Channel: TypeAlias = Literal["email", "sms"]
ListChange: TypeAlias = Literal["add", "remove"]  # on the list, or off it


class Said(msgspec.Struct, frozen=True, gc=False):
    """What a customer said about one channel.

    `at` is RFC 3339 in UTC, None when the consent does not carry a time of its own.
    """

    subscribed: bool
    at: str | None = None


class ChangeConsent(msgspec.Struct):
    """Make true what one record says about a customer's consent and lists.

    `said` is when the record said it (RFC 3339 in UTC), for what has no time of its own.
    A channel stands here only if `identity` has its identifier: e-mail, or a valid phone.
    `lists` goes by name, in the order of the record.
    """

    identity: Identity
    said: str
    channels: dict[Channel, Said]
    lists: dict[str, ListChange]


class SuppressProfile(msgspec.Struct):
    """See that nobody sends this customer an e-mail any more; the profile stays."""

    identity: Identity


class EraseProfile(msgspec.Struct):
    """Delete all that Klaviyo holds about this customer, for good."""

    identity: Identity


Command: TypeAlias = (
    UpsertProfile | CreateEvent | ChangeConsent | SuppressProfile | EraseProfile
)
