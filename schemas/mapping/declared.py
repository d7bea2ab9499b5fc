"""The tables a user wrote under [mapping], as mappings or as faults with their place.

[mapping.orders]               # any name; it stands in error messages
from_topic = "web.orders"      # or from_type, or both
to = "order.placed"
when = "status == 'paid'"      # optional
[mapping.orders.fields]
order.id = "text(id)"
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from schemas.mapping import targets
from schemas.mapping.expression import Constant, Expression, Unusable
from schemas.mapping.mapping import Field, Mapping, Mappings
from schemas.mapping.targets import TargetType
from schemas.registry import EVENT_TYPES

__all__ = ["Fault", "read"]

_TEXTS: Final = ("from_topic", "from_type", "to", "when")
_FLAGS: Final = ("tombstones", "clear")
_NAMES: Final = (*_TEXTS, *_FLAGS, "fields")


class Fault(NamedTuple):
    """What is wrong, and the keys that lead to it from `mapping` on."""

    path: tuple[str, ...]
    message: str


def read(tables: dict[str, Any]) -> tuple[Mappings, list[Fault]]:
    """Return the mappings of the TOML tables under [mapping], and every fault in them."""
    found: list[Mapping] = []
    faults: list[Fault] = []
    for name, table in tables.items():
        if isinstance(table, dict):
            mapping = _Reading(name, table).mapping(faults)
            if mapping is not None:
                found.append(mapping)
        else:
            faults.append(Fault((name,), f"is a table; write [mapping.{name}]"))
    return Mappings(found), faults


class _Reading:
    """One table on its way to its mapping."""

    def __init__(self, name: str, table: dict[str, Any]) -> None:
        self._name = name
        self._table = table
        self._faults: list[Fault] = []

    def mapping(self, faults: list[Fault]) -> Mapping | None:
        """Return the mapping; None if there is a fault, added to `faults`."""
        for key in self._table:
            if key not in _NAMES:
                self._fault((key,), f"there is no such setting{_meant(key, _NAMES)}")
        text = {key: self._text(key) for key in _TEXTS}
        flag = {key: self._flag(key) for key in _FLAGS}
        if not (text["from_topic"] or text["from_type"]):
            self._fault((), "takes no message; give from_topic or from_type")
        self._pattern(text["from_topic"])
        if flag["tombstones"] and text["from_type"]:
            self._fault(("tombstones",), "a null value has no type; leave out from_type")
        when = self._expression(("when",), text["when"]) if text["when"] else None
        fields = tuple(self._fields(text["to"]))
        faults += self._faults
        if self._faults or isinstance(when, Constant):
            return None
        return Mapping(
            self._name,
            text["to"],
            fields,
            text["from_topic"],
            text["from_type"],
            when,
            **flag,
        )

    def _fault(self, path: tuple[str, ...], message: str) -> None:
        self._faults.append(Fault((self._name, *path), message))

    def _text(self, key: str) -> str:
        value = self._table.get(key, "")
        if isinstance(value, str):
            return value.strip()
        self._fault((key,), "must be a text in quotes")
        return ""

    def _flag(self, key: str) -> bool:
        value = self._table.get(key, False)
        if not isinstance(value, bool):
            self._fault((key,), "must be true or false")
        return value is True

    def _pattern(self, topic: str) -> None:
        try:
            re.compile(topic if topic.startswith("^") else "")
        except re.error as error:
            self._fault(
                ("from_topic",), f"is no regular expression, see column {error.pos}"
            )

    def _expression(self, path: tuple[str, ...], text: str) -> Expression | None:
        try:
            return Expression(text)
        except Unusable as reason:
            self._fault(path, str(reason))
            return None

    def _fields(self, to: str) -> Iterator[Field]:
        kind = EVENT_TYPES.get(to)
        if kind is None:
            types = ", ".join(EVENT_TYPES)
            if isinstance(self._table.get("to", ""), str):  # else it is said already
                self._fault(("to",), f"must be one of {types}{_meant(to, EVENT_TYPES)}")
            return
        table = self._table.get("fields")
        if not isinstance(table, dict) or not table:
            self._fault(
                ("fields",), "is needed: a table of target fields and expressions"
            )
            return
        root = targets.of_event(kind.event)
        yield from self._below(root, root, (), table)

    def _below(
        self,
        root: TargetType,
        target: TargetType,
        path: tuple[str, ...],
        table: dict[str, Any],
    ) -> Iterator[Field]:
        for key, value in table.items():
            here = (*path, key)
            field = targets.child(target, key)
            if field is None:
                self._unknown(root, here)
            elif isinstance(value, dict):
                yield from self._below(root, field, here, value)
            elif isinstance(value, str):
                expression = self._expression(("fields", *here), value)
                if expression is not None:
                    name = ".".join(here)
                    wrong = targets.misshaped(field, name, expression.tree)
                    if wrong is not None:
                        self._unknown(root, here, wrong)
                    yield Field(here, expression)
            elif isinstance(value, bool | int | float):
                yield Field(here, Constant(value))
            else:
                self._fault(("fields", *here), "must be a JMESPath expression in quotes")

    def _unknown(
        self, root: TargetType, place: tuple[str, ...], wrong: str | None = None
    ) -> None:
        """Say that a field does not exist: the key itself, or a name in its expression.

        A key may be quoted as a whole by mistake: "order.id".
        """
        name = wrong or ".".join(place)
        if name in set(targets.known(root)):
            hint = "; write it without quotes"
        else:
            hint = targets.nearest(root, name)
        to = self._table["to"]
        self._fault(("fields", *place), f"{to} has no field {name}{hint}")


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
