"""What of a profile in Klaviyo counts as its content, and what changed in it.

`Content` is flat and canonical: path (`first_name`, `address.city`, `properties.tier`,
`consent.email`) -> value; empty is absent, so two profiles are equal exactly if nothing a
reader cares about differs. What Klaviyo sets by itself (updated, last_event_date, ...) is
never content: every event moves it.

Source of the fields: Klaviyo's OpenAPI documents, ProfileResponseObject.
"""

import re
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, Raw

from schemas.commands import (
    ChangeConsent,
    Command,
    CreateEvent,
    EraseProfile,
    SuppressProfile,
    UpsertProfile,
)
from schemas.moment import parsed, written
from schemas.phone import phone

__all__ = [
    "NEVER",
    "Content",
    "Row",
    "carried",
    "changed",
    "content",
    "row",
    "sent",
]

Content: TypeAlias = dict[str, Any]

# Klaviyo's attribute -> our field.
_FIELDS: Final = {
    "external_id": "external_id",
    "email": "email",
    "phone_number": "phone",
    "first_name": "first_name",
    "last_name": "last_name",
    "organization": "company",
    "locale": "locale",
    "title": "title",
    "image": "image_url",
}
_PARTS: Final = {"location": "address", "properties": "properties"}
_SERVER_SET: Final = {("location", "ip")}
_CHANNELS: Final = ("email", "sms", "mobile_push", "whatsapp")
NEVER: Final = "never_subscribed"
# Bytes of a profile's content. The message carries it and what it was before, and a
# broker takes 1 MB unless told otherwise.
LARGEST: Final = 400_000
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)")
_WHOLE: Final = 2**53  # beyond it a JSON number is not exact


class Row(msgspec.Struct, frozen=True):
    """One profile as a page of Klaviyo's listing gives it.

    `known` are the parts the answer spoke of; what it left out is not gone.
    """

    id: str
    updated: str  # RFC 3339, as Klaviyo wrote it; blank if it did not
    at: float  # the same in Unix seconds, 0 for blank
    last_active: str | None
    known: frozenset[str]
    content: Content
    lost: int = 0  # properties left out because of their size

    def __repr__(self) -> str:  # the rest is a customer's
        return f"Row({self.id})"


class _Resource(msgspec.Struct):
    id: str
    attributes: dict[str, Any]


_ROW: Final = msgspec.json.Decoder(_Resource)
_SORTED: Final = msgspec.json.Encoder(order="deterministic")


def row(raw: Raw | bytes) -> Row:
    """Read one resource of GET /api/profiles. Raises `msgspec.MsgspecError`."""
    resource = _ROW.decode(raw)
    given = resource.attributes
    found, lost = _fitting(content(given))
    updated = given.get("updated")
    at = _instant(updated)  # may lie in the future; no cursor is made of it alone
    last = given.get("last_event_date")
    known = {_FIELDS[name] for name in _FIELDS.keys() & given.keys()}
    known |= {_PARTS[name] for name in _PARTS.keys() & given.keys()}
    channels = given.get("subscriptions")
    if isinstance(channels, dict):
        known |= {f"consent.{name}" for name in _CHANNELS if name in channels}
    return Row(
        id=resource.id,
        updated=updated if at and isinstance(updated, str) else "",
        at=at,
        last_active=last if isinstance(last, str) else None,
        known=frozenset(known),
        content=found,
        lost=lost,
    )


def content(attributes: dict[str, Any]) -> Content:
    """Return Klaviyo's attributes in canonical form, without what is empty."""
    found: Content = {}
    for name, field in _FIELDS.items():
        _put(found, field, _identifier(field, attributes.get(name)))
    for name, part in _PARTS.items():
        values = attributes.get(name)
        if isinstance(values, dict):
            for key, value in values.items():
                if (name, key) in _SERVER_SET:
                    continue
                _put(found, f"{part}.{key}", value)
    channels = attributes.get("subscriptions")
    if isinstance(channels, dict):
        for channel in _CHANNELS:
            if (state := _consent(channel, channels.get(channel))) is not None:
                found[f"consent.{channel}"] = state
    return found


def sent(command: Command) -> Content:
    """Return what a command makes true, path -> value; None where it clears.

    Compared with what comes back to tell our own writes from other people's.
    """
    if isinstance(command, SuppressProfile | EraseProfile):
        return {}  # Klaviyo does it some time later; it is news to others then
    if isinstance(command, ChangeConsent):
        # The rest of a state is Klaviyo's; it is compared by the status alone.
        return {
            f"consent.{channel}": {
                "status": "subscribed" if said.subscribed else "unsubscribed"
            }
            for channel, said in command.channels.items()
        }
    who = command.identity
    # E-mail and phone are canonical already.
    given_names = {"email": who.email, "phone": who.phone}
    found: Content = {path: v for path, v in given_names.items() if v is not None}
    _put(found, "external_id", who.external_id)
    match command:
        case CreateEvent():
            for name, value in command.profile.items():
                canonical = _canonical(value)
                found[_FIELDS[name]] = None if canonical is UNSET else canonical
            return found
        case UpsertProfile():
            given = command.attributes
            made = content({**given, "properties": command.properties})
            named = [_FIELDS[name] for name in given.keys() & _FIELDS.keys()]
            named += [f"address.{key}" for key in given.get("location") or ()]
            named += [f"properties.{key}" for key in command.properties]
            named += [f"properties.{key}" for key in command.unset]
            return found | {path: made.get(path) for path in named}


def _instant(text: object) -> float:
    at = parsed(text) if isinstance(text, str) else None
    return at.timestamp() if at else 0.0


def _identifier(field: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    match field:
        case "email":
            return value.strip().lower()
        case "phone":
            # One that Klaviyo kept from old days may be no number at all.
            return phone(value, None) or value
        case _:
            return value


def _put(found: Content, path: str, value: object) -> None:
    canonical = _canonical(value)
    if canonical is not UNSET:
        found[path] = canonical


def _canonical(value: object) -> Any:  # noqa: ANN401, PLR0911  any JSON value; one each
    """Return one form for values that mean the same; UNSET for what is empty."""
    match value:
        case None:
            return UNSET
        case bool():
            return value
        case float() if value.is_integer() and abs(value) < _WHOLE:
            return int(value)
        case str():
            text = value.strip()
            if _TIME.fullmatch(text) and (at := parsed(text)) is not None:
                return written(at)
            return text or UNSET
        case list():
            members = (_canonical(member) for member in value)
            return [m for m in members if m is not UNSET] or UNSET
        case dict():
            entries = ((k, _canonical(v)) for k, v in sorted(value.items()))
            return {k: v for k, v in entries if v is not UNSET} or UNSET
        case _:
            return value


def _consent(channel: str, kinds: object) -> dict[str, Any] | None:
    """Return the state of a channel; None for one nobody ever spoke about."""
    state = kinds.get("marketing") if isinstance(kinds, dict) else None
    if not isinstance(state, dict):
        return None
    word = state.get("consent")
    status = word.lower() if isinstance(word, str) and word else NEVER
    can = state.get(f"can_receive_{channel.removeprefix('mobile_')}_marketing")
    suppressions = _suppressions(state.get("suppression"))
    lists = _suppressions(state.get("list_suppressions"))
    if status == NEVER and not suppressions and not lists:
        return None
    found: dict[str, Any] = {"status": status, "can_receive": can is True}
    if isinstance(at := state.get("consent_timestamp"), str):
        found["at"] = _canonical(at)
    if suppressions:
        found["suppressions"] = suppressions
    if lists:
        found["list_suppressions"] = lists
    return found


def _suppressions(given: object) -> list[dict[str, str]]:
    found = []
    for each in given if isinstance(given, list) else ():
        if isinstance(each, dict):
            said = {
                "reason": each.get("reason"),
                "at": _canonical(each.get("timestamp")),
                "list_id": each.get("list_id"),
            }
            found.append({k: v for k, v in said.items() if isinstance(v, str)})
    return sorted(found, key=lambda each: sorted(each.items()))


def _fitting(found: Content) -> tuple[Content, int]:
    """Leave the largest properties out until the rest fits; says how many."""
    sizes = {
        path: len(_SORTED.encode(value)) + len(path) for path, value in found.items()
    }
    total, lost = sum(sizes.values()), 0
    for path in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if total <= LARGEST:
            break
        total -= sizes[path]
        lost += 1
        found = {name: value for name, value in found.items() if name != path}
    return found, lost


# -- what changed ------------------------------------------------------------------------


def carried(before: Content, now: Row) -> Content:
    """Return what is true now: what the answer did not speak of stays as it was."""
    kept = {
        path: value
        for path, value in before.items()
        if path not in now.known and path.partition(".")[0] not in now.known
    }
    return {**kept, **now.content}


def changed(before: Content, now: Content) -> list[str]:
    """Return the paths that differ, sorted."""
    return sorted(
        path
        for path in before.keys() | now.keys()
        if not _same(before.get(path), now.get(path))
    )


def _same(one: object, other: object) -> bool:
    # 1 equals True in Python but not in JSON.
    return one == other and (
        type(one) is type(other) or not isinstance(one, bool | int | float)
    )
