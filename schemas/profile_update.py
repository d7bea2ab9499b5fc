"""What the reverse direction publishes: a profile as it is, and what changed in it."""

import hashlib
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

from schemas.moment import written
from schemas.profile_content import NEVER, Content

__all__ = ["ProfileChanged", "ProfileHeaders", "message"]

Kind: TypeAlias = Literal[
    "klaviyo.profile.created", "klaviyo.profile.updated", "klaviyo.profile.deleted"
]
# What Klaviyo says of a channel nobody ever spoke about: e-mail has implicit consent.
_IMPLICIT: Final[Any] = {"status": NEVER, "can_receive": True}
_SILENT: Final[Any] = {"status": NEVER, "can_receive": False}
_SORTED: Final = msgspec.json.Encoder(order="deterministic")


class Suppression(msgspec.Struct, omit_defaults=True):
    """Why and since when (RFC 3339) nothing is sent; Klaviyo's own words."""

    reason: str | None = None  # HARD_BOUNCE, INVALID_EMAIL, SPAM_COMPLAINT, ...
    at: str | None = None
    list_id: str | None = None  # of a list that was left; None: of the account


class Consent(msgspec.Struct, omit_defaults=True):
    """The state of one channel; `can_receive` is what counts."""

    status: str  # subscribed, unsubscribed, never_subscribed, or Klaviyo's newer word
    can_receive: bool
    at: str | None = None  # RFC 3339
    suppressions: list[Suppression] | None = None
    list_suppressions: list[Suppression] | None = None


class ChangedProfile(msgspec.Struct, omit_defaults=True):
    """The profile in a message; an absent field is empty in Klaviyo."""

    id: str
    external_id: str | None = None
    email: str | None = None
    phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    company: str | None = None
    locale: str | None = None
    title: str | None = None
    image_url: str | None = None
    address: dict[str, Any] | None = None
    last_active: str | None = None
    properties: dict[str, Any] | None = None
    consent: dict[str, Consent] | None = None  # email, sms, mobile_push, whatsapp


class ProfileChanged(msgspec.Struct, omit_defaults=True):
    """One change of one profile; `previous` holds the old value of a changed path.

    Both are empty where nothing changed: somebody asked for the profile as it is.
    """

    type: Kind
    id: str
    occurred_at: str
    observed_at: str
    profile: ChangedProfile
    changed: list[str] | None = None
    previous: dict[str, Any] | None = None


class ProfileHeaders(msgspec.Struct):
    """Headers of each change; our own forward direction ignores what has this origin."""

    origin: Literal["klaviyo"]
    subscription: str
    content_type: Literal["application/json"] = msgspec.field(name="content-type")


def message(
    kind: Literal["created", "updated", "deleted"],
    who: str,
    found: Content,
    *,
    occurred_at: str,
    observed_at: float,
    last_active: str | None = None,
    paths: list[str] | None = None,
    before: Content | None = None,
) -> bytes:
    """Return the message as JSON; `observed_at` in Unix seconds."""
    observed = written(datetime.fromtimestamp(int(observed_at), UTC))
    previous = None
    if before is not None and paths is not None:
        previous = {path: before.get(path) for path in paths}
    # With what it was: a profile may change, and change back, within one `updated`.
    digest = hashlib.sha256(_SORTED.encode((found, previous))).hexdigest()[:16]
    types: dict[str, Kind] = {
        "created": "klaviyo.profile.created",
        "updated": "klaviyo.profile.updated",
        "deleted": "klaviyo.profile.deleted",
    }
    occurred = occurred_at or observed
    suffix = "deleted" if kind == "deleted" else digest
    return _SORTED.encode(
        ProfileChanged(
            type=types[kind],
            id=f"{who}:{occurred}:{suffix}",
            occurred_at=occurred,
            observed_at=observed,
            profile=_person(who, found, last_active),
            changed=paths,
            previous=previous,
        )
    )


def _person(who: str, found: Content, last_active: str | None) -> ChangedProfile:
    person = ChangedProfile(id=who, last_active=last_active)
    for path, value in found.items():
        part, dot, name = path.partition(".")
        if dot:
            held = getattr(person, part) or {}
            held[name] = value
            setattr(person, part, held)
        else:
            setattr(person, path, value)
    spoken: Any = person.consent or {}  # as plain JSON, which is what is written
    person.consent = {"email": _IMPLICIT, "sms": _SILENT, **spoken}
    return person
