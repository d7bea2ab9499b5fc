"""Every message in and out as JSON Schema, and as an AsyncAPI 3 document.

Read from the structs that decode and encode them, so it cannot tell anything else.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from schemas.dead_letter import DeadLetterHeaders
from schemas.profile_update import ProfileChanged, ProfileHeaders
from schemas.registry import EVENT_TYPES

__all__ = ["OUT", "asyncapi", "json_schema"]

# What we write, by the setting that names its topic: the structs of its values, and of
# its headers. A direction that writes something new is named here.
OUT: Final[dict[str, tuple[tuple[type, ...], type | None]]] = {
    "dead_letters": ((), DeadLetterHeaders),
    "profiles": ((ProfileChanged,), ProfileHeaders),
}
_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return one JSON Schema: any message in; each message by its name in `$defs`."""
    types = [*_incoming(), *_outgoing()]
    refs, defs = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    return {
        "$schema": _DRAFT,
        "title": "Messages of klaviyo-pipeline",
        "description": "Any message in. Messages out stand in $defs beside them.",
        "oneOf": list(refs[: len(EVENT_TYPES)]),
        "$defs": defs,
    }


def asyncapi(
    version: str, sources: Sequence[str], out: Mapping[str, str]
) -> dict[str, Any]:
    """Return an AsyncAPI 3 document of what is read and written.

    `sources` are the topics read; `out` gives the topic for each name in `OUT`.
    """
    types = [*_incoming(), *_outgoing()]
    template = "#/components/schemas/{name}"
    _, defs = msgspec.json.schema_components(types, ref_template=template)
    incoming = {
        kind.tag: _message(kind.event, kind.when) for kind in EVENT_TYPES.values()
    }
    for kind in EVENT_TYPES.values():
        incoming[kind.tag]["examples"] = [
            {"payload": msgspec.json.decode(example)} for example in kind.examples
        ]
    messages, channels, operations = dict(incoming), {}, {}
    for topic in sources:
        channels[topic] = _channel(topic, list(incoming))
        operations[f"receive-{topic}"] = _operation("receive", topic)
    for name, topic in out.items():
        values, headers = OUT[name]
        written = {_name(each): _message(each, each.__doc__ or "") for each in values}
        if headers is not None:
            if not written:
                written["DeadLetter"] = _original()
            for message in written.values():
                message["headers"] = {"$ref": f"#/components/schemas/{_name(headers)}"}
        messages |= written
        channels[topic] = _channel(topic, list(written))
        operations[f"send-{topic}"] = _operation("send", topic)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "klaviyo-pipeline",
            "version": version,
            "description": "What the bridge between Kafka and Klaviyo reads and writes.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"schemas": defs, "messages": messages},
    }


def _incoming() -> list[type]:
    return [kind.event for kind in EVENT_TYPES.values()]


def _outgoing() -> list[type]:
    found = []
    for values, headers in OUT.values():
        found += [*values, *([] if headers is None else [headers])]
    return found


def _name(kind: type) -> str:
    return kind.__name__


def _message(kind: type, text: str) -> dict[str, Any]:
    return {
        "title": _name(kind),
        "summary": text.strip().partition("\n")[0],
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{_name(kind)}"},
    }


def _original() -> dict[str, Any]:
    """Describe a record whose key and value are those of another."""
    return {
        "title": "DeadLetter",
        "summary": "The original record, and why it could not be delivered.",
        "contentType": "application/octet-stream",
        "payload": {},
    }


def _channel(topic: str, messages: list[str]) -> dict[str, Any]:
    return {
        "address": topic,
        "messages": {
            each: {"$ref": f"#/components/messages/{each}"} for each in messages
        },
    }


def _operation(action: str, topic: str) -> dict[str, Any]:
    escaped = topic.replace("~", "~0").replace("/", "~1")
    return {"action": action, "channel": {"$ref": f"#/channels/{escaped}"}}
