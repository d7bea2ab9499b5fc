"""Who somebody is at Klaviyo, and what they said there about being written to.

Shapes from Klaviyo's OpenAPI documents 2024-02-15 ... 2026-07-15: GET /api/profiles with
additional-fields[profile]=subscriptions. A suppression overrides consent.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

import msgspec

from schemas.commands import Channel

__all__ = ["PEOPLE", "Held", "Kind", "Person", "path", "portions"]

Kind: TypeAlias = Literal["email", "phone_number", "external_id"]
ANY: Final = 100  # values in one any(...), and rows of a page
LONGEST: Final = 6_000  # characters of a query; servers refuse lines beyond 8 KB
# Subscribing lifts UNSUBSCRIBE, SPAM_COMPLAINT and USER_SUPPRESSED, but not these.
_STAYING: Final = frozenset({"HARD_BOUNCE", "INVALID_EMAIL"})


class _Suppression(msgspec.Struct):
    reason: str = ""
    timestamp: str | None = None
    list_id: str | None = None


class _Marketing(msgspec.Struct):
    consent: str | None = None
    consent_timestamp: str | None = None
    last_updated: str | None = None
    suppression: list[_Suppression] | None = None
    list_suppressions: list[_Suppression] | None = None


class _Kinds(msgspec.Struct):
    marketing: _Marketing | None = None


class _Subscriptions(msgspec.Struct):
    email: _Kinds | None = None
    sms: _Kinds | None = None


class _Attributes(msgspec.Struct):
    email: str | None = None
    phone_number: str | None = None
    external_id: str | None = None
    subscriptions: _Subscriptions | None = None


class _Resource(msgspec.Struct):
    id: str
    attributes: _Attributes


class _Page(msgspec.Struct):
    data: list[_Resource]

    def people(self) -> "list[Person]":
        """Return the rows, as far as we look at them."""
        return [_person(each) for each in self.data]


PEOPLE: Final = msgspec.json.Decoder(_Page)


class Held(msgspec.Struct, frozen=True):
    """What Klaviyo holds about one channel of one person; times are Unix seconds.

    `off` is since when the person must not be subscribed for an older consent: the time
    of unsubscribing or of the newest suppression; infinite if Klaviyo names none.
    """

    subscribed: bool = False  # and nothing lies on it that subscribing would lift
    unsubscribed: bool = False
    off: float | None = None


class Person(msgspec.Struct, frozen=True):
    """One profile."""

    id: str
    email: str | None = None
    phone: str | None = None
    external_id: str | None = None
    channels: dict[Channel, Held] = {}
    off_lists: dict[str, float] = {}  # list id -> when the person unsubscribed from it

    def __repr__(self) -> str:  # the rest is a customer's
        return f"Person({self.id})"


def path(kind: Kind, values: Sequence[str]) -> str:
    """Return the path that shows who has these."""
    wanted = msgspec.json.encode(list(values)).decode()
    query = {
        "filter": f"any({kind},{wanted})",
        "fields[profile]": "email,phone_number,external_id,subscriptions",
        "additional-fields[profile]": "subscriptions",
        "page[size]": str(ANY),
    }
    text = "&".join(f"{quote(k)}={quote(v, safe='')}" for k, v in query.items())
    return f"/api/profiles?{text}"


def portions(values: Sequence[str]) -> Iterator[list[str]]:
    """Split what is asked for so that each portion fits in one query."""
    portion: list[str] = []
    length = 0
    for value in values:
        size = len(quote(value, safe="")) + len(quote('"",', safe=""))
        if portion and (len(portion) == ANY or length + size > LONGEST):
            yield portion
            portion, length = [], 0
        portion.append(value)
        length += size
    if portion:
        yield portion


def _person(resource: _Resource) -> Person:
    given = resource.attributes
    channels: dict[Channel, Held] = {}
    off_lists: dict[str, float] = {}
    if given.subscriptions is not None:
        for channel in ("email", "sms"):
            kinds: _Kinds | None = getattr(given.subscriptions, channel)
            if kinds is not None and kinds.marketing is not None:
                channels[channel] = _held(kinds.marketing)
                for each in kinds.marketing.list_suppressions or ():
                    if each.list_id is not None:
                        off_lists[each.list_id] = _instant(each.timestamp)
    return Person(
        resource.id,
        given.email.lower() if given.email else None,
        given.phone_number,
        given.external_id,
        channels,
        off_lists,
    )


def _held(marketing: _Marketing) -> Held:
    word = (marketing.consent or "").upper()
    suppressions = marketing.suppression or []
    off = [_instant(each.timestamp) for each in suppressions]
    if word == "UNSUBSCRIBED":
        off.append(_instant(marketing.consent_timestamp or marketing.last_updated))
    lifted = [each for each in suppressions if each.reason not in _STAYING]
    return Held(
        subscribed=word == "SUBSCRIBED" and not lifted,
        unsubscribed=word == "UNSUBSCRIBED",
        off=max(off, default=None),
    )


def _instant(text: str | None) -> float:
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return math.inf  # unknown: nobody is subscribed again on a guess
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
