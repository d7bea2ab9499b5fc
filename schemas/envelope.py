"""How a record's bytes become one event: plain JSON, CloudEvents 1.0, mapped messages.

A mapping (`schemas.mapping`) sees what is in the envelope: the `data` of a CloudEvent,
the `payload` of a Debezium row. What it builds is decoded as plain JSON is.
"""

import codecs
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from schemas import debezium
from schemas.event import Event, Rejected, Skipped
from schemas.mapping import Mapped, Mapping
from schemas.message import Attributes, Message, opened
from schemas.registry import ANY, EVENT_TYPES

__all__ = ["Headers", "decode"]

Headers = Sequence[tuple[str, bytes | None]]

ORIGIN: Final = ("origin", b"klaviyo")  # what the reverse direction writes on its records

_ENVELOPED: Final = {"ce_type", "content-type"}  # headers that tell of an envelope
_JSON: Final = msgspec.json.Decoder()
_ENCODE: Final = msgspec.json.Encoder().encode
_TOO_DEEP: Final = Rejected("malformed", "decode", "$", "nested too deep")
_NOT_UTF8: Final = Rejected("malformed", "decode", "$", "invalid UTF-8")
_UNTYPED: Final = Rejected("malformed", "decode", "$", "the message has no `type`")
_WIRE_FORMAT: Final = Rejected(
    "malformed",
    "decode",
    "$",
    "no JSON; if it is in Confluent's wire format, set schema_registry.url",
)
_UNKNOWN: Final = Skipped("unknown_type")
_TOMBSTONE: Final = Skipped("tombstone")

Ended = Skipped | Rejected


def decode(
    value: bytes | None,
    headers: Headers,
    key: bytes | None = None,
    mappings: Sequence[Mapping] = (),
) -> Event | Mapped | Ended:
    """Return the event, or how the record ends without one. Never raises.

    `value`, `headers` and `key` are those of the Kafka record; a header's value may be
    None. `mappings` are those of its topic (`Mappings.of`).
    """
    named = dict(headers) if headers else {}
    if named.get(ORIGIN[0]) == ORIGIN[1]:
        return Skipped("own_origin")
    if value is None:
        if key is None or not any(one.tombstones for one in mappings):
            return _TOMBSTONE
        return _guarded(key, {}, mappings, tombstone=True)
    if value[:1] == b"\0":  # no JSON begins so
        return _WIRE_FORMAT
    return _guarded(value, named, mappings)


def _guarded(
    value: bytes,
    headers: dict[str, bytes | None],
    mappings: Sequence[Mapping],
    *,
    tombstone: bool = False,
) -> Event | Mapped | Ended:
    """Turn everything that reading can raise into a value."""
    try:
        if not value.isascii():
            value.decode()  # msgspec does not look into what it skips
            value = value.removeprefix(codecs.BOM_UTF8)
        if tombstone:
            return _buried(value, mappings)
        plain = None if mappings else _plain(value, headers)
        return plain or _read(value, headers, mappings)
    except UnicodeDecodeError:
        return _NOT_UTF8
    except msgspec.ValidationError as error:
        return _mistyped(error, "$")
    except msgspec.DecodeError as error:
        return Rejected("malformed", "decode", "$", str(error))
    except RecursionError:
        return _TOO_DEEP


def _plain(value: bytes, headers: dict[str, bytes | None]) -> Event | None:
    """Return the event of a message that is surely in no envelope: read at one go.

    What is no such message, or is a faulty one, is looked into by `_read`.
    """
    if headers and not _ENVELOPED.isdisjoint(headers):
        return None
    if b'"specversion"' in value or (b"\\" in value and b"\\u00" in value):
        return None  # the second may be its letters, escaped
    try:
        return ANY.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return None


def _read(
    value: bytes, headers: dict[str, bytes | None], mappings: Sequence[Mapping]
) -> Event | Mapped | Ended:
    # `Mappings.of` gives those of the topic alone, or those of no topic.
    foreign = bool(mappings) and bool(mappings[0].from_topic)
    message = opened(value, headers, foreign)
    if not isinstance(message, Message):
        return message
    event: Event | Mapped | Ended = _UNKNOWN
    if mappings:
        tags = {"", message.tag}
        taking = [one for one in mappings if one.from_type in tags and not one.tombstones]
        event = _mapped(message, taking) if taking else _UNKNOWN
    if event is _UNKNOWN and not foreign:
        if message.tag is None:
            return _UNTYPED
        event = _typed(message.tag, message.body, message.path)
    if message.attributes is None:
        return event
    return _attributed(event, message.attributes)


def _typed(tag: str, body: bytes | Raw, path: str) -> Event | Ended:
    """Decode the body of a message of that type; `path` is where the body stands."""
    known = EVENT_TYPES.get(tag)
    if known is None:
        return _UNKNOWN
    try:
        return known.decoder.decode(body)
    except msgspec.ValidationError as error:
        return _mistyped(error, path)


def _mapped(message: Message, mappings: Sequence[Mapping]) -> Mapped | Ended:
    document = debezium.payload(_JSON.decode(message.body))
    if document is None and message.attributes is None:
        return _TOMBSTONE  # in Connect's envelope
    if debezium.changes_nothing(document):
        return _UNKNOWN
    return _made(document, mappings)


def _buried(key: bytes, mappings: Sequence[Mapping]) -> Mapped | Ended:
    """Map a tombstone; its document is the key, which may be a text that is no JSON."""
    try:
        document = debezium.payload(_JSON.decode(key))
    except msgspec.DecodeError:
        document = key.decode()
    made = _made(document, [one for one in mappings if one.tombstones])
    return _TOMBSTONE if made is _UNKNOWN else made


def _made(
    document: Any,  # noqa: ANN401  any JSON value
    mappings: Sequence[Mapping],
) -> Mapped | Ended:
    """Let the first mapping that takes the document make the event."""
    for mapping in mappings:
        takes = mapping.takes(document)
        if isinstance(takes, Rejected):
            return takes
        if not takes:
            continue
        built = mapping.message(document)
        if isinstance(built, Rejected):
            return built
        try:
            body = _ENCODE(built)
        except TypeError:  # a bare `&expression` is a value to JMESPath alone
            return mapping.blamed(Rejected("schema", "decode", "$", "yields no JSON"))
        event = _typed(mapping.to, body, "$")
        if isinstance(event, Event):
            return Mapped(event, mapping)
        return mapping.blamed(event) if isinstance(event, Rejected) else event
    return _UNKNOWN


def _attributed(
    event: Event | Mapped | Ended, attributes: Attributes
) -> Event | Mapped | Ended:
    """Give the attributes of a CloudEvent to its event; what a mapping set stays."""
    if isinstance(event, Event):
        event.id = attributes.id
        event.occurred_at = attributes.time
    elif isinstance(event, Mapped):
        inner = event.event
        inner.id = attributes.id if inner.id is None else inner.id
        inner.occurred_at = inner.occurred_at or attributes.time
    return event


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
