"""Bodies of the requests about consent and lists, in the revision that is served.

    subscribe     POST /api/profile-subscription-bulk-create-jobs
    unsubscribe   POST /api/profile-subscription-bulk-delete-jobs
    members       POST or DELETE /api/lists/{id}/relationships/profiles
    new_list      POST /api/lists

Shapes and limits from Klaviyo's OpenAPI documents 2023-10-15 ... 2026-07-15. A row takes
identifiers and `subscriptions`, nothing else: any other field of a profile is refused.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from schemas.commands import Channel

__all__ = [
    "LARGEST",
    "UNSUBSCRIBED",
    "Place",
    "Row",
    "historical",
    "members",
    "new_list",
    "place",
    "subscribe",
    "subscribed",
    "unsubscribe",
]

UNSUBSCRIBED: Final = 100  # profiles in one unsubscribe job, every revision
# From here on a job takes 1,000 profiles, and consent may carry a time of its own.
_LARGE_SINCE: Final = "2024-07-15"
# Before, an unsubscribe job takes its channels from the identifiers that stand in a row.
_NAMED_SINCE: Final = "2024-10-15"
_SMALL: Final = 100  # profiles in one subscribe job before
LARGEST: Final = 1_000  # and since; as many profile ids go in one call for a list

Status: TypeAlias = Literal["SUBSCRIBED", "UNSUBSCRIBED"]
_IDENTIFIERS: Final[dict[Channel, str]] = {"email": "email", "sms": "phone_number"}
_POINTER: Final = re.compile(r"/data(?:/attributes/profiles/data)?/(\d+)(/.*)?")
_SORTED: Final = msgspec.json.Encoder(order="deterministic")


class Row(msgspec.Struct, frozen=True):
    """One profile of a job: by channel its identifier, and the consent's own time."""

    identifiers: Mapping[Channel, str]
    consented: Mapping[Channel, str] = {}  # RFC 3339; with `historical` for each channel

    def without(self, channel: Channel) -> "Row":
        """Return the row without one channel."""
        rest = {k: v for k, v in self.identifiers.items() if k != channel}
        return Row(rest, {k: v for k, v in self.consented.items() if k != channel})


class Place(msgspec.Struct, frozen=True):
    """What a pointer of a refusal names: a row, and of it a channel or its time."""

    row: int
    channel: Channel | None = None
    time: bool = False


def subscribed(revision: str) -> int:
    """Return how many profiles one subscribe job may hold."""
    return LARGEST if revision >= _LARGE_SINCE else _SMALL


def historical(revision: str) -> bool:
    """Whether consent may carry its own time."""
    return revision >= _LARGE_SINCE


def subscribe(
    rows: Sequence[Row], group: str | None, *, source: str, history: bool
) -> bytes:
    """Return a subscribe job; `group` is a list's id, `source` where consent comes from.

    `history` imports consent given before, each channel of each row with its time: no
    double opt-in, no flow of the list.
    """
    attributes: dict[str, Any] = {
        "custom_source": source,
        "profiles": {"data": [_row(row, "SUBSCRIBED") for row in rows]},
    }
    if history:
        attributes["historical_import"] = True
    return _job("profile-subscription-bulk-create-job", attributes, group)


def unsubscribe(rows: Sequence[Row], revision: str) -> bytes:
    """Return an unsubscribe job, from everything on the channels of each row.

    One from a list alone is never made: "Profiles not in the specified list will be
    globally unsubscribed" (Klaviyo), and who has just left it by the same job, sent twice
    after a time-out, is not in it any more. Who leaves a list is taken off it instead.
    """
    data = [_row(row, "UNSUBSCRIBED") for row in rows]
    if revision < _NAMED_SINCE:
        for each in data:
            del each["attributes"]["subscriptions"]
    attributes = {"profiles": {"data": data}}
    return _job("profile-subscription-bulk-delete-job", attributes, None)


def members(ids: Sequence[str]) -> bytes:
    """Return the body that adds profiles to a list or removes them."""
    return _SORTED.encode({"data": [{"type": "profile", "id": each} for each in ids]})


def new_list(name: str) -> bytes:
    """Return the body that creates a list."""
    return _SORTED.encode({"data": {"type": "list", "attributes": {"name": name}}})


def place(pointer: str) -> Place | None:
    """Return what a pointer names; None if that is no row."""
    found = _POINTER.fullmatch(pointer)
    if found is None:
        return None
    rest = found[2] or ""
    for channel, identifier in _IDENTIFIERS.items():
        if rest.startswith(f"/attributes/{identifier}"):
            return Place(int(found[1]), channel)
        if rest.startswith(f"/attributes/subscriptions/{channel}"):
            return Place(int(found[1]), channel, rest.endswith("/consented_at"))
    return Place(int(found[1]))


def _row(row: Row, status: Status) -> dict[str, Any]:
    subscriptions: dict[str, Any] = {}
    for channel in row.identifiers:
        marketing: dict[str, str] = {"consent": status}
        if (at := row.consented.get(channel)) is not None:
            marketing["consented_at"] = at
        subscriptions[channel] = {"marketing": marketing}
    attributes = {_IDENTIFIERS[channel]: v for channel, v in row.identifiers.items()}
    return {
        "type": "profile",
        "attributes": {**attributes, "subscriptions": subscriptions},
    }


def _job(kind: str, attributes: dict[str, Any], group: str | None) -> bytes:
    data: dict[str, Any] = {"type": kind, "attributes": attributes}
    if group is not None:
        data["relationships"] = {"list": {"data": {"type": "list", "id": group}}}
    return _SORTED.encode({"data": data})
