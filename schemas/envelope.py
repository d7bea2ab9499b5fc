"""How a record's bytes become one event: plain JSON and CloudEvents 1.0.

CloudEvents come in structured mode (the event is the value) and binary mode (attributes
are headers `ce_...`, the value is the data); see "Kafka Protocol Binding for CloudEvents
1.0". Their type, id and time are the event's own, `data` holds the rest of the message.
"""

import binascii
import codecs
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from schemas.event import Event, Rejected, Skipped
from schemas.registry import EVENT_TYPES

__all__ = ["Headers", "decode"]

Headers = Sequence[tuple[str, bytes]]

ORIGIN: Final = ("origin", b"klaviyo")  # what the reverse direction writes on its records
STRUCTURED: Final = b"application/cloudevents"


class _Head(msgspec.Struct, gc=False):
    """What tells the kinds of message apart; `Raw` is neither decoded nor copied."""

    type: str | UnsetType | None = UNSET
    specversion: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    data_base64: Raw | UnsetType = UNSET
    payload: Raw | UnsetType = UNSET
    before: Raw | UnsetType = UNSET
    after: Raw | UnsetType = UNSET
    op: Raw | UnsetType = UNSET


class _Attributes(msgspec.Struct, gc=False):
    id: str | None = None
    time: str | None = None


_HEAD: Final = msgspec.json.Decoder(_Head)
_ATTRIBUTES: Final = msgspec.json.Decoder(_Attributes)
_TEXT: Final = msgspec.json.Decoder(str)
_TOO_DEEP: Final = Rejected("malformed", "decode", "$", "nested too deep")
_NOT_UTF8: Final = Rejected("malformed", "decode", "$", "invalid UTF-8")


def decode(value: bytes | None, headers: Headers) -> Event | Skipped | Rejected:
    """Return the event, or how the record ends without one. Never raises.

    `value` and `headers` are those of the Kafka record; a header's value may be None.
    """
    named = dict(headers) if headers else {}
    if named.get(ORIGIN[0]) == ORIGIN[1]:
        return Skipped("own_origin")
    if value is None:
        return Skipped("tombstone")
    return _guarded(value, named)


def _guarded(value: bytes, headers: dict[str, bytes]) -> Event | Skipped | Rejected:
    """Turn everything that reading can raise into a value."""
    try:
        if not value.isascii():
            value.decode()  # msgspec does not look into what it skips
            value = value.removeprefix(codecs.BOM_UTF8)
        return _read(value, headers)
    except UnicodeDecodeError:
        return _NOT_UTF8
    except msgspec.ValidationError as error:
        return _mistyped(error, "$")
    except msgspec.DecodeError as error:
        return Rejected("malformed", "decode", "$", str(error))
    except RecursionError:
        return _TOO_DEEP


def _read(value: bytes, headers: dict[str, bytes]) -> Event | Skipped | Rejected:
    structured = (headers.get("content-type") or b"").startswith(STRUCTURED)
    if "ce_type" in headers and not structured:
        return _binary(value, headers)
    head = _HEAD.decode(value)
    if structured or head.specversion is not UNSET:
        return _structured(value, head)
    if not head.type:
        if head.type is UNSET and _is_change_row(head):
            return Skipped("unknown_type")
        return Rejected("malformed", "decode", "$", "the message has no `type`")
    return _typed(head.type, value, "$")


def _typed(tag: str, body: bytes | Raw, path: str) -> Event | Skipped | Rejected:
    """Decode the body of a message of that type; `path` is where the body stands."""
    known = EVENT_TYPES.get(tag)
    if known is None:
        return Skipped("unknown_type")
    try:
        return known.decoder.decode(body)
    except msgspec.ValidationError as error:
        return _mistyped(error, path)


def _structured(value: bytes, head: _Head) -> Event | Skipped | Rejected:
    if not head.type:
        return Rejected("malformed", "decode", "$", "the CloudEvent has no `type`")
    attributes = _ATTRIBUTES.decode(value)
    body: bytes | Raw
    if head.data is not UNSET:
        body, path = head.data, "$.data"
    elif head.data_base64 is not UNSET:
        path = "$.data_base64"
        try:
            body = binascii.a2b_base64(_TEXT.decode(head.data_base64), strict_mode=True)
            body.decode()
        except ValueError:
            return Rejected("malformed", "decode", path, "not the base64 of a JSON text")
    else:
        body, path = b"null", "$.data"
    event = _typed(head.type, body, path)
    return _attributed(event, attributes.id, attributes.time)


def _binary(value: bytes, headers: dict[str, bytes]) -> Event | Skipped | Rejected:
    tag = (headers["ce_type"] or b"").decode()
    if not tag:
        return Rejected("malformed", "decode", "$", "the header ce_type is blank")
    event = _typed(tag, value, "$")
    name, time = headers.get("ce_id"), headers.get("ce_time")
    return _attributed(
        event,
        None if name is None else name.decode(),
        None if time is None else time.decode(),
    )


def _attributed(
    event: Event | Skipped | Rejected, name: str | None, time: str | None
) -> Event | Skipped | Rejected:
    if isinstance(event, Event):
        event.id = name
        event.occurred_at = time
    return event


def _is_change_row(head: _Head) -> bool:
    """Return whether it is a Debezium change row, bare or in a schema envelope."""
    if head.payload is not UNSET:
        try:
            head = _HEAD.decode(head.payload)
        except msgspec.DecodeError:
            return False
    return head.op is not UNSET and (head.before is not UNSET or head.after is not UNSET)


def _mistyped(error: msgspec.ValidationError, path: str) -> Rejected:
    """Say which value has the wrong JSON type; msgspec names types, never values."""
    message, _, place = str(error).partition(" - at `$")
    place = place.removesuffix("`")
    # Should a message quote a value (enumerations do), it ends there.
    message = message.partition("'")[0].rstrip()
    where = path + place
    if where == "$" and message.startswith("Expected"):  # the value is no object at all
        return Rejected("malformed", "decode", where, message)
    return Rejected("schema", "decode", where, message)
