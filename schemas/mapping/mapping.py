"""One mapping: which messages it takes, and what it makes of them.

A mapping builds a message in the shop's own shape; the envelope then decodes it as if
the shop had sent it, so that nothing a mapping yields is treated otherwise than plain
JSON.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from schemas.event import Context, Event, Plan, Rejected, Skipped
from schemas.mapping.expression import Constant, Expression

__all__ = ["NO_MAPPINGS", "Field", "Mapped", "Mapping", "Mappings"]


class Field(msgspec.Struct, frozen=True):
    """One target field and what is written to it."""

    path: tuple[str, ...]  # ("order", "total")
    value: Expression | Constant

    @property
    def name(self) -> str:
        """The path as the settings write it."""
        return ".".join(self.path)


class Mapping(msgspec.Struct, frozen=True):
    """What to make of the messages of a topic or type. Made by `declared.read`."""

    name: str
    to: str  # target type
    fields: tuple[Field, ...]
    from_topic: str = ""  # name or ^regular expression; blank is any topic
    from_type: str = ""  # the message's own type; blank is any
    when: Expression | None = None
    tombstones: bool = False  # takes null values; the document is the record's key
    clear: bool = False  # a null clears the field instead of leaving it alone

    def takes(self, document: Any) -> bool | Rejected:  # noqa: ANN401
        """Return whether a message of its topic and type is for this mapping."""
        if self.when is None:
            return True
        try:
            found = self.when(document)
        except Exception as error:  # noqa: BLE001  whatever an expression does costs the
            # record alone.
            return self._failed("$", "when", self.when, self.when.failed(error))
        # JMESPath's truth: 0 is true.
        return found is not False and found not in (None, "", [], {})

    def message(self, document: Any) -> dict[str, Any] | Rejected:  # noqa: ANN401
        """Return the message in our shape, without its type."""
        built: dict[str, Any] = {}
        for field in self.fields:
            try:
                value = field.value(document)
            except Exception as error:  # noqa: BLE001  as above
                return self._failed(
                    f"$.{field.name}", field.name, field.value, field.value.failed(error)
                )
            if not self.clear:
                value = _told(value)
                if value is None:
                    continue
            place = built
            for key in field.path[:-1]:
                place = place.setdefault(key, {})
            place[field.path[-1]] = value
        return built

    def blamed(self, fault: Rejected) -> Rejected:
        """Turn a fault of the message we built into one of the expression behind it.

        Who the customer is cannot be the expression's fault: a message may lack it.
        """
        if fault.reason == "no_identifier":
            return fault
        path, message = fault.path, fault.message
        if missing := _MISSING.search(message):
            path, message = f"{path}.{missing[1]}", "it is needed and nothing was yielded"
        names = tuple(_NAMES.findall(path))
        behind = max(
            (one for one in self.fields if one.path == names[: len(one.path)]),
            key=lambda one: len(one.path),
            default=None,
        )
        if behind is None:
            return Rejected(
                "mapping_failed", fault.stage, path, f"mapping.{self.name}: {message}"
            )
        return self._failed(path, behind.name, behind.value, message, fault.stage)

    def _failed(
        self,
        path: str,
        name: str,
        value: Expression | Constant,
        message: str,
        stage: Literal["decode", "plan"] = "decode",
    ) -> Rejected:
        text = " ".join(value.text.split())  # one line of a dead letter's header
        setting = name if name == "when" else f"fields.{name}"
        return Rejected(
            "mapping_failed",
            stage,
            path,
            f"mapping.{self.name}.{setting} = {text}: {message}",
        )


def _told(value: Any) -> Any:  # noqa: ANN401  any JSON value
    """Leave the nulls out of what `{...}` yields, as those of single fields are."""
    if isinstance(value, dict):
        return {key: _told(one) for key, one in value.items() if one is not None}
    return value


_MISSING: Final = re.compile(r"missing required field `(\w+)`")
_NAMES: Final = re.compile(r"[^.$\[\]]+(?=[.\[]|$)")


class Mapped(msgspec.Struct, frozen=True):
    """An event that a mapping made; its faults are the mapping's."""

    event: Event
    mapping: Mapping

    def commands(self, context: Context, timestamp_ms: int) -> Plan | Skipped | Rejected:
        """As `Event.commands`."""
        planned = self.event.commands(context, timestamp_ms)
        return self.mapping.blamed(planned) if isinstance(planned, Rejected) else planned


class Mappings:
    """All mappings, by the topic they are for, in the order they were written."""

    def __init__(self, mappings: Sequence[Mapping] = ()) -> None:
        self._all = tuple(mappings)
        self._of: dict[str, tuple[Mapping, ...]] = {}  # topics are few

    def __len__(self) -> int:
        return len(self._all)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that have mappings of their own, as written."""
        return tuple(dict.fromkeys(one.from_topic for one in self._all if one.from_topic))

    def own(self, topic: str) -> bool:
        """Whether a topic has mappings of its own, so that nothing else reads it."""
        mappings = self.of(topic)
        return bool(mappings) and bool(mappings[0].from_topic)

    def of(self, topic: str) -> tuple[Mapping, ...]:
        """Return the mappings of a topic; those of any topic if it has none of its own.

        A topic with mappings of its own is read by nothing else.
        """
        found = self._of.get(topic)
        if found is None:
            own = [one for one in self._all if one.from_topic and _named(one, topic)]
            found = tuple(own or [one for one in self._all if not one.from_topic])
            self._of[topic] = found
        return found


def _named(mapping: Mapping, topic: str) -> bool:
    if mapping.from_topic.startswith("^"):  # as in kafka.topics
        return re.match(mapping.from_topic, topic) is not None
    return mapping.from_topic == topic


NO_MAPPINGS: Final = Mappings()
