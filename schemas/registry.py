"""The event types there are: every file in `schemas/events/`, found by itself.

A newcomer adds one file with a class, its tag and EXAMPLES; nothing else names it.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Final

import msgspec

from schemas import events
from schemas.event import Event

__all__ = ["EVENT_TYPES", "EventType"]


class EventType(msgspec.Struct, frozen=True):
    """One event type: tag (the message's `type`), class, decoder, and real messages."""

    tag: str
    event: type[Event]
    decoder: msgspec.json.Decoder[Event]
    examples: tuple[bytes, ...]
    when: str  # the file's docstring: when it happens, who sends it


def _discovered() -> dict[str, EventType]:
    """Return the event types by tag.

    Raises TypeError for a file that is not exactly one new event type.
    """
    found: dict[str, EventType] = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(events.__path__)):
        kind = _event_type(importlib.import_module(f"{events.__name__}.{name}"))
        if kind.tag in found:
            raise TypeError(f"schemas/events/{name}.py: the tag {kind.tag} is taken")
        found[kind.tag] = kind
    return found


def _event_type(module: ModuleType) -> EventType:
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Event)
        and value.__module__ == module.__name__
    ]
    if len(classes) != 1 or not getattr(module, "EXAMPLES", ()):
        raise TypeError(f"{module.__name__}: needs one subclass of Event, and EXAMPLES")
    return EventType(
        tag=str(classes[0].__struct_config__.tag),
        event=classes[0],
        decoder=msgspec.json.Decoder(classes[0]),
        examples=module.EXAMPLES,
        when=(module.__doc__ or "").strip(),
    )


EVENT_TYPES: Final[Mapping[str, EventType]] = _discovered()
