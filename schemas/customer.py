"""The customer as shops send it, and what of it becomes a Klaviyo profile."""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from schemas.commands import Identity, UpsertProfile
from schemas.event import Context, Field, Losses, Plan, Rejected, SkipReason
from schemas.identity import identity, nobody
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


class ConsentState(msgspec.Struct, gc=False):
    """What a customer said about one channel, and when."""

    status: str | None = None
    at: str | None = None


class Consent(msgspec.Struct, gc=False):
    """Consent by channel."""

    email: ConsentState | None = None
    sms: ConsentState | None = None


class Lists(msgspec.Struct, gc=False):
    """Names of lists to be put on and taken off."""

    add: list[str] | None = None
    remove: list[str] | None = None


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
# Instructions that stand between the custom fields (contract 4).
_INSTRUCTIONS: Final = ("LIST_", "UCLIST_")


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


def upsert(customer: Customer, context: Context) -> Plan | Rejected:
    """Return the one update of the customer's profile."""
    losses = Losses()
    who = identify(customer, context, losses)
    if isinstance(who, Rejected):
        return who
    properties, unset, instructed = _custom(customer.custom_fields or {}, losses)
    update = UpsertProfile(who, _attributes(customer, losses), properties, unset)
    skipped: tuple[SkipReason, ...] = ()
    if instructed or _consents(customer):
        skipped = ("consent_off",)
    return Plan([update], skipped, tuple(losses.degraded))


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
) -> tuple[dict[str, Any], frozenset[str], bool]:
    """Return properties to set, names to remove, and if an instruction stood there."""
    properties: dict[str, Any] = {}
    unset = set()
    instructed = False
    for name, raw in fields.items():
        if not name:
            losses.lose("custom_fields")
        elif name == "SubscribeProfile" or name.startswith(_INSTRUCTIONS):
            instructed = True
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


def _consents(customer: Customer) -> bool:
    consent, lists = customer.consent, customer.lists
    said = consent is not None and any(
        channel is not None and channel.status for channel in (consent.email, consent.sms)
    )
    return said or (lists is not None and bool(lists.add or lists.remove))
