"""A record's value out of its envelope: which type of message, and where its body is.

CloudEvents come in structured mode (the event is the value) and binary mode (attributes
are headers `ce_...`, the value is the data); see "Kafka Protocol Binding for CloudEvents
1.0". Their type, id and time are the event's own, `data` holds the rest of the message.
"""

import binascii
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from schemas.event import Rejected, Skipped

__all__ = ["Attributes", "Message", "opened"]

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


class Attributes(msgspec.Struct, gc=False):
    """Those of a CloudEvent that are the event's own."""

    id: str | None = None
    time: str | None = None


class Message(msgspec.Struct, gc=False):
    """A message out of its envelope; `path` is where in the value the body stands."""

    tag: str | None
    body: bytes | Raw
    path: str = "$"
    attributes: Attributes | None = None  # of a CloudEvent


_HEAD: Final = msgspec.json.Decoder(_Head)
_ATTRIBUTES: Final = msgspec.json.Decoder(Attributes)
_TEXT: Final = msgspec.json.Decoder(str)


def opened(
    value: bytes,
    headers: dict[str, bytes | None],
    foreign: bool,  # noqa: FBT001  on the way of every record
) -> Message | Skipped | Rejected:
    """Return the message; `foreign` ones need neither a type nor any shape of ours."""
    structured = (headers.get("content-type") or b"").startswith(STRUCTURED)
    if "ce_type" in headers and not structured:
        return _binary(value, headers)
    try:
        head = _HEAD.decode(value)
    except msgspec.ValidationError:
        if not foreign:
            raise
        return Message(None, value)
    if structured or head.specversion is not UNSET:
        return _structured(value, head)
    if head.type:
        return Message(head.type, value)
    if not foreign and head.type is UNSET and _is_change_row(head):
        return Skipped("unknown_type")
    return Message(None, value)


def _structured(value: bytes, head: _Head) -> Message | Rejected:
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
    return Message(head.type, body, path, attributes)


def _binary(value: bytes, headers: dict[str, bytes | None]) -> Message | Rejected:
    tag = (headers["ce_type"] or b"").decode()
    if not tag:
        return Rejected("malformed", "decode", "$", "the header ce_type is blank")
    name, time = headers.get("ce_id"), headers.get("ce_time")
    attributes = Attributes(
        None if name is None else name.decode(),
        None if time is None else time.decode(),
    )
    return Message(tag, value, "$", attributes)


def _is_change_row(head: _Head) -> bool:
    """Return whether it is a Debezium change row, bare or in a schema envelope."""
    if head.payload is not UNSET:
        try:
            head = _HEAD.decode(head.payload)
        except msgspec.DecodeError:
            return False
    return head.op is not UNSET and (head.before is not UNSET or head.after is not UNSET)
