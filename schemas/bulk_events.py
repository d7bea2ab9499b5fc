"""The body of a bulk event request, put together from parts that are encoded once.

    {"data": {"type": "event-bulk-create-job", "attributes": {"events-bulk-create":
        {"data": [ {"type": "event-bulk-create", "attributes": {
            "profile": {"data": PERSON}, "events": {"data": [ROW, ...]}}}, ... ]}}}}

PERSON and ROW are bytes, so that whoever fills a request knows its size to the byte.
Limits (1,000 events, 5 MB, no unique_id twice) from Klaviyo's documents 2024-05-15, the
first with the endpoint, to 2026-07-15; the repeat is refused from 2025-01-15 on.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, UnsetType

from schemas.commands import CreateEvent
from schemas.klaviyo import identifiers, metric

__all__ = [
    "BYTES",
    "EMPTY",
    "ENTRY",
    "ROWS",
    "SINCE",
    "Place",
    "body",
    "person",
    "place",
    "rows",
]

SINCE: Final = "2024-05-15"  # first revision with POST /api/event-bulk-create-jobs
ROWS: Final = 1000  # events in one request
BYTES: Final = 5_000_000  # "5 MB", read strictly

_OPEN: Final = (
    b'{"data":{"type":"event-bulk-create-job","attributes":{"events-bulk-create":'
    b'{"data":['
)
_CLOSE: Final = b"]}}}}"
_ENTRY: Final = b'{"type":"event-bulk-create","attributes":{"profile":{"data":'
_EVENTS: Final = b'},"events":{"data":['
_END: Final = b"]}}}"
_NEXT: Final = _END + b"," + _ENTRY
_LAST: Final = _END + _CLOSE
EMPTY: Final = len(_OPEN) + len(_CLOSE)  # bytes of a request with no entry
ENTRY: Final = len(_ENTRY) + len(_EVENTS) + len(_END) + 1  # of one entry, comma included


class _Attributes(msgspec.Struct, omit_defaults=True, gc=False):
    properties: Raw
    time: str | UnsetType
    unique_id: str
    metric: msgspec.Struct
    value: Raw | None = None
    value_currency: str | None = None
    backfill: bool = False  # of the row; the entry's own flag is left out


class _Row(msgspec.Struct, tag_field="type", tag="event", gc=False):
    attributes: _Attributes


class _Person(msgspec.Struct, tag_field="type", tag="profile", gc=False):
    attributes: dict[str, str]


class Place(NamedTuple):
    """Where a pointer into a bulk body points.

    Entry, event in it (None: all of them), and the pointer to the same place in the body
    of a single event.
    """

    entry: int
    row: int | None
    pointer: str


_ENCODE: Final = msgspec.json.Encoder().encode
_POINTER: Final = re.compile(
    r"/data/attributes/events-bulk-create/data/(\d+)"
    r"(?:/attributes/events/data/(\d+)(?:/attributes)?)?(.*)"
)


def rows(commands: Iterable[CreateEvent]) -> bytes:
    """Encode events without their profile, with commas between them."""
    return _ENCODE(
        [
            _Row(
                _Attributes(
                    command.properties,
                    command.time,
                    command.unique_id,
                    metric(command.metric),
                    command.value,
                    command.currency,
                    command.backfill,
                )
            )
            for command in commands
        ]
    )[1:-1]


def person(command: CreateEvent) -> bytes:
    """Encode the profile the event is about."""
    attributes = identifiers(command.identity)
    attributes.update(command.profile)
    return _ENCODE(_Person(attributes))


def body(persons: Sequence[bytes], rows: Sequence[bytes]) -> bytes:
    """Join persons and their rows; what stands together of one becomes one entry."""
    parts = [_OPEN]
    last: bytes | None = None
    for who, row in zip(persons, rows, strict=True):
        if who == last:
            parts += (b",", row)
        else:
            parts += (_ENTRY if last is None else _NEXT, who, _EVENTS, row)
            last = who
    parts.append(_CLOSE if last is None else _LAST)
    return b"".join(parts)


def place(pointer: str) -> Place | None:
    """Find the row a fault's pointer is about; None if it is about the whole request."""
    found = _POINTER.fullmatch(pointer)
    if found is None:
        return None
    entry, event, rest = int(found[1]), found[2], found[3]
    if event is not None:
        return Place(entry, int(event), f"/data/attributes{rest}")
    return Place(entry, None, f"/data{rest}")
