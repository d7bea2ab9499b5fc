"""The customer as shops send it, and what of it becomes a Klaviyo profile."""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from schemas.commands import Command, Identity, UpsertProfile
from schemas.consent import (
    LISTS,
    SUBSCRIBE,
    Consent,
    ConsentState,
    Lists,
    instructions,
)
from schemas.event import Context, Field, Losses, Plan, Rejected, SkipReason
from schemas.identity import identity, nobody
from schemas.moment import moment
from schemas.properties import NULL, PROFILE_LEVELS, fitting, value_of

__all__ = [
    "Address",
    "Consent",
    "ConsentState",
    "Customer",
    "Lists",
    "identify",
    "upsert",
]

Text = str | UnsetType | None  # absent = left alone, null = cleared


class Address(msgspec.Struct, gc=False):
    """Where the customer lives; the names are also Klaviyo's (`location`)."""

    address1: Text = UNSET
    address2: Text = UNSET
    city: Text = UNSET
    region: Text = UNSET
    zip: Text = UNSET
    country: Text = UNSET


class Customer(msgspec.Struct):
    """One customer. `id` is the shop's own and becomes the profile's external_id."""

    id: str | None = None
    email: Text = UNSET
    phone: Text = UNSET
    first_name: Text = UNSET
    last_name: Text = UNSET
    company: Text = UNSET
    locale: Text = UNSET
    title: Text = UNSET
    image_url: Text = UNSET
    address: Address | UnsetType | None = UNSET
    consent: Consent | None = None
    lists: Lists | None = None
    custom_fields: dict[str, Raw] | None = None


# Ours -> Klaviyo's, for the fields that need no repair.
_PLAIN: Final = {
    "first_name": "first_name",
    "last_name": "last_name",
    "company": "organization",
    "title": "title",
}
_LOCATION: Final = Address.__struct_fields__
# BCP 47 as Klaviyo reads it: language, script, region (profile-import, `locale`); POSIX
# names (en_US.UTF-8) carry the same and are rewritten.
_LOCALE: Final = re.compile(
    r"([A-Za-z]{2,3})(?:[-_]([A-Za-z]{4}))?(?:[-_]([A-Za-z]{2}|[0-9]{3}))?(?:[.@].*)?"
)
_URL: Final = re.compile(r"https?://[^\s/?#]+(?:[/?#]\S*)?", re.IGNORECASE)


def identify(customer: Customer, context: Context, losses: Losses) -> Identity | Rejected:
    """Return who the customer is, or why nobody can tell.

    The phone is read with the country of the address; the default country stands in only
    where the address names none, because a number read with a wrong country is somebody
    else's.
    """
    country = context.default_country
    if isinstance(customer.address, Address):
        named = customer.address.country
        if named is not UNSET and named is not None and named.strip():
            country = named
    who = identity(customer.id, customer.email, customer.phone, country, losses)
    return who or nobody("$.customer")


def upsert(
    customer: Customer, context: Context, occurred_at: str | None, timestamp_ms: int
) -> Plan | Rejected:
    """Return the one update of the customer's profile, and then of the consent.

    The times are those of `Event.commands`.
    """
    losses = Losses()
    who = identify(customer, context, losses)
    if isinstance(who, Rejected):
        return who
    properties, unset, instructed = _custom(customer.custom_fields or {}, losses)
    update = UpsertProfile(who, _attributes(customer, losses), properties, unset)
    commands: list[Command] = [update]
    skipped: tuple[SkipReason, ...] = ()
    if instructed or _speaks(customer):
        if context.consent:
            said = moment(occurred_at, timestamp_ms, losses)
            change = instructions(
                who, instructed, customer.consent, customer.lists, said, losses
            )
            commands += [change] if change else []
        else:
            skipped = ("consent_off",)
    return Plan(commands, skipped, tuple(losses.degraded))


def _attributes(customer: Customer, losses: Losses) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if customer.email is None:
        attributes["email"] = None
    if customer.phone is None:
        attributes["phone_number"] = None
    for field, attribute in _PLAIN.items():
        if (value := getattr(customer, field)) is not UNSET:
            attributes[attribute] = value
    for name, attribute, repaired in _REPAIRED:
        if (value := getattr(customer, name)) is None:
            attributes[attribute] = None
        elif value is not UNSET and (text := value.strip()):
            if (usable := repaired(text)) is None:
                losses.lose(name)
            else:
                attributes[attribute] = usable
    if location := _location(customer.address):
        attributes["location"] = location
    return attributes


def _location(address: Address | UnsetType | None) -> dict[str, str | None]:
    if address is UNSET:
        return {}
    if address is None:
        return dict.fromkeys(_LOCATION)
    values = ((key, getattr(address, key)) for key in _LOCATION)
    return {key: value for key, value in values if value is not UNSET}


def _locale(text: str) -> str | None:
    """Return the language tag in its usual case, None if it is none."""
    found = _LOCALE.fullmatch(text)
    if found is None:
        return None
    language, script, country = found.groups()
    parts = (
        language.lower(),
        script.title() if script else None,
        country.upper() if country else None,
    )
    return "-".join(filter(None, parts))


def _image(text: str) -> str | None:
    """Return the URL, None if it is nothing a browser would load."""
    if not _URL.fullmatch(text):
        return None
    if text.startswith(("https:", "http:")):
        return text
    scheme, _, rest = text.partition(":")
    return f"{scheme.lower()}:{rest}"


_REPAIRED: Final[tuple[tuple[Field, str, Callable[[str], str | None]], ...]] = (
    ("locale", "locale", _locale),
    ("image_url", "image", _image),
)


def _custom(
    fields: dict[str, Raw], losses: Losses
) -> tuple[dict[str, Any], frozenset[str], dict[str, Raw]]:
    """Return properties to set, names to remove, and instructions that stood there."""
    properties: dict[str, Any] = {}
    unset = set()
    instructed: dict[str, Raw] = {}
    for name, raw in fields.items():
        if not name:
            losses.lose("custom_fields")
        elif name == SUBSCRIBE or name.startswith(LISTS):
            instructed[name] = raw
        elif raw == NULL:
            unset.add(name)
        else:
            value = value_of(raw)
            fit = fitting(value, PROFILE_LEVELS)
            if fit != value or fit is UNSET:
                losses.lose("custom_fields")
            if fit is not UNSET:
                properties[name] = fit
    return properties, frozenset(unset), instructed


def _speaks(customer: Customer) -> bool:
    """Whether the typed parts say anything about consent or lists."""
    consent, lists = customer.consent, customer.lists
    said = consent is not None and any(
        channel is not None and channel.status for channel in (consent.email, consent.sms)
    )
    return said or (lists is not None and bool(lists.add or lists.remove))
