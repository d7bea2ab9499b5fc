"""The event types there are: every file in `schemas/events/`, found by itself.

A newcomer adds one file with a class, its tag and EXAMPLES; nothing else names it. Other
packages add such a module as an entry point in the group `klaviyo_pipeline.events`.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from types import ModuleType
from typing import Final, Union

import msgspec

from schemas import events
from schemas.event import Event, Metric, UnusableEventType

__all__ = ["ANY", "ENTRY_POINTS", "EVENT_TYPES", "METRICS", "EventType"]

ENTRY_POINTS: Final = "klaviyo_pipeline.events"


class EventType(msgspec.Struct, frozen=True):
    """One event type: tag (the message's `type`), class, decoder, and real messages."""

    tag: str
    event: type[Event]
    decoder: msgspec.json.Decoder[Event]
    examples: tuple[bytes, ...]
    metrics: tuple[Metric, ...]  # that it creates
    when: str  # the file's docstring: when it happens, who sends it


def _discovered() -> dict[str, EventType]:
    """Return the event types by tag.

    Raises `UnusableEventType` for a module that is not exactly one new, whole event type.
    """
    found: dict[str, EventType] = {}
    for module in (*_files(), *_others()):
        kind = _event_type(module)
        if kind.tag in found:
            raise UnusableEventType(f"{module.__name__}: the tag {kind.tag} is taken")
        found[kind.tag] = kind
    return found


def _files() -> Iterator[ModuleType]:
    for name in sorted(module.name for module in pkgutil.iter_modules(events.__path__)):
        yield importlib.import_module(f"{events.__name__}.{name}")


def _others() -> Iterator[ModuleType]:
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda one: one.name):
        try:
            module = point.load()
        except Exception as error:  # another's code, which may raise anything
            raise UnusableEventType(
                f"The entry point {point.name} = {point.value} in {ENTRY_POINTS} cannot"
                f" be imported ({error}); mend or uninstall the package it belongs to."
            ) from error
        if not isinstance(module, ModuleType):
            raise UnusableEventType(
                f"The entry point {point.name} = {point.value} in {ENTRY_POINTS} must"
                " name a module, without a colon."
            )
        yield module


def _metrics(types: Mapping[str, EventType]) -> dict[str, Metric]:
    """Return the metrics by setting. Raises `UnusableEventType` for one named twice."""
    found: dict[str, Metric] = {}
    for kind in types.values():
        for metric in kind.metrics:
            if not metric.setting.isidentifier() or metric.setting in found:
                raise UnusableEventType(
                    f"{kind.event.__module__}: the setting events.{metric.setting} of its"
                    " metric is taken, or no name"
                )
            found[metric.setting] = metric
    return found


def _event_type(module: ModuleType) -> EventType:
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Event)
        and value.__module__ == module.__name__
    ]
    if lacks := [*_lacks(classes, getattr(module, "EXAMPLES", None))]:
        raise UnusableEventType(f"{module.__name__}: needs {', and '.join(lacks)}")
    return EventType(
        tag=str(classes[0].__struct_config__.tag),
        event=classes[0],
        decoder=msgspec.json.Decoder(classes[0]),
        examples=module.EXAMPLES,
        metrics=tuple(one for one in vars(module).values() if isinstance(one, Metric)),
        when=(module.__doc__ or "").strip(),
    )


def _lacks(classes: Sequence[type[Event]], examples: object) -> Iterator[str]:
    """Say now what would else show at the first record of the type, or never."""
    if len(classes) != 1:
        yield f"one subclass of Event (it has {len(classes)})"
    for event in classes:
        tag = event.__struct_config__.tag
        if not (isinstance(tag, str) and tag):
            yield f'its type: class {event.__name__}(Event, tag="...")'
        if getattr(event.commands, "__isabstractmethod__", False):
            yield f"{event.__name__}.commands()"
    if not (
        isinstance(examples, tuple)
        and examples
        and all(isinstance(example, bytes) for example in examples)
    ):
        yield "EXAMPLES, a tuple of messages as bytes"


def _reader(types: Mapping[str, EventType]) -> msgspec.json.Decoder[Event]:
    """Return what reads a message of any type that is told as ours are, by `type`."""
    alike = [
        kind.event
        for kind in types.values()
        if kind.event.__struct_config__.tag_field == "type"
        and not kind.event.__struct_config__.array_like
    ]
    return msgspec.json.Decoder(Union[tuple(alike)])  # noqa: UP007  as many as there are


EVENT_TYPES: Final[Mapping[str, EventType]] = _discovered()
# Reads a message that stands in no envelope.
ANY: Final[msgspec.json.Decoder[Event]] = _reader(EVENT_TYPES)
# All metrics there are, by the setting that names them.
METRICS: Final[Mapping[str, Metric]] = _metrics(EVENT_TYPES)
