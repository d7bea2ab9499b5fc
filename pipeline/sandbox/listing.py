"""Filter, sort and page a collection as Klaviyo does.

- Filters: `greater-than(updated,2026-01-01T00:00:00Z)`, joined by a comma or
`and(...)`; no
  OR. Text in double or single quotes, times without. Fields and operators come from the
  operation's document; others are 400.
- A cursor marks the last row of a page by its sort key and id, so that a row which
changes
  during the scan moves to the end and is read twice, never skipped.
- The lower bound of created or updated must lie in the past by a few seconds, else 400.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import orjson

from pipeline.sandbox.formats import instant
from pipeline.sandbox.wire import Call, Json, Problem, Refused

__all__ = ["Condition", "Page", "conditions", "page_size", "paged", "sort_key"]

_Row = TypeVar("_Row")
_CONDITION = re.compile(
    r"\s*(?P<operator>[a-z-]+)\(\s*(?P<field>[A-Za-z_.]+)\s*"
    r"(?:,\s*(?P<value>\[[^\]]*\]|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
    r"|[^,()\[\]\"']+)\s*)?\)\s*"
)
_MEMBER = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|([^,\s\[\]]+)")
_AND = re.compile(r"\s*and\((.*)\)\s*", re.DOTALL)
_BOUNDED = ("created", "updated")
# Rows as (sort value, id) in order, cached per collection, filter and sort.
_CACHED = 8


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; `values` has one member but for `any`, none for `has`."""

    operator: str
    field: str
    values: tuple[str, ...]

    def holds(self, found: object) -> bool:
        """Tell whether a row's value fits; times and numbers compare as numbers."""
        match self.operator:
            case "equals" | "any":
                return found is not None and str(found) in self.values
            case "has":
                return bool(found)
            case _:
                return isinstance(found, int | float) and self._compares(found)

    def _compares(self, found: float) -> bool:
        bound = self.bound()
        match self.operator:
            case "greater-than":
                return found > bound
            case "greater-or-equal":
                return found >= bound
            case "less-than":
                return found < bound
            case _:
                return found <= bound

    def bound(self) -> float:
        """Return a comparison's value in Unix seconds; raise the 400 of a bad one."""
        text = self.values[0]
        if text.isdigit():
            return float(text)
        at = instant(text)
        if at is None:
            raise _bad(f"'{text}' is not a valid datetime.")
        return at


def _bad(detail: str, parameter: str = "filter") -> Refused:
    return Refused(400, [Problem(detail, parameter=parameter)])


def conditions(call: Call, margin: float) -> list[Condition]:
    """Return the call's filter; raise the 400 of one that is not allowed."""
    text = call.query.get("filter", "")
    if not text:
        return []
    if inner := _AND.fullmatch(text):
        text = inner.group(1)
    found = [_checked(call, condition, margin) for condition in _parse(text)]
    return list(found)


def _parse(text: str) -> Iterable[Condition]:
    at = 0
    while at < len(text):
        match = _CONDITION.match(text, at)
        if match is None:
            raise _bad(f"Invalid filter provided: {text[at:]}")
        value = match["value"]
        members = (
            ()
            if value is None
            else tuple(a or b or c for a, b, c in _MEMBER.findall(value))
        )
        yield Condition(match["operator"], match["field"], members)
        at = match.end()
        if at < len(text):
            if text[at] != ",":
                raise _bad(f"Invalid filter provided: {text[at:]}")
            at += 1


def _checked(call: Call, condition: Condition, margin: float) -> Condition:
    allowed = call.operation.filter.get(condition.field)
    if allowed is None:
        raise _bad(f"'{condition.field}' is not a filterable field.")
    if condition.operator not in allowed:
        detail = f"'{condition.operator}' is not allowed on '{condition.field}'."
        raise _bad(detail)
    wants = 0 if condition.operator == "has" else 1
    if len(condition.values) < wants or (
        condition.operator != "any" and len(condition.values) > wants
    ):
        raise _bad(f"'{condition.operator}' takes {wants} value.")
    if condition.operator.startswith(("greater", "less")):
        bound = condition.bound()
        lower = condition.operator.startswith("greater")
        if lower and condition.field in _BOUNDED and bound > call.now - margin:
            raise _bad(f"The lower bound of '{condition.field}' must be in the past.")
    return condition


def sort_key(call: Call, default: str) -> tuple[str, bool]:
    """Return the sort field and whether it descends; raise the 400 of an unknown one."""
    text = call.query.get("sort") or default
    field = text.removeprefix("-")
    if field not in call.operation.sort and field != default.removeprefix("-"):
        raise _bad(f"'{field}' is not a sortable field.", "sort")
    return field, text.startswith("-")


def page_size(call: Call, fixed: int) -> int:
    """Return page[size]; `fixed` where the operation has no such parameter."""
    text = call.query.get("page[size]")
    if call.operation.page is None:
        if text is not None:
            raise _bad("'page[size]' is not supported here.", "page[size]")
        return fixed
    default, most = call.operation.page
    if text is None:
        return default
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise _bad(f"page[size] must be 1 to {most}.", "page[size]")
    return int(text)


@dataclass(slots=True)
class Page(Generic[_Row]):
    """One page of rows, and the links to itself and the next."""

    rows: list[_Row]
    links: Json


class _Order(Generic[_Row]):
    """Rows of a collection in order, remembered while nothing changes."""

    def __init__(self) -> None:
        self._held: dict[tuple[object, ...], tuple[int, list[tuple[Any, str, _Row]]]] = {}

    def get(
        self, key: tuple[object, ...], version: int, make: Callable[[], list[Any]]
    ) -> list[tuple[Any, str, _Row]]:
        held = self._held.get(key)
        if held is not None and held[0] == version:
            return held[1]
        rows = make()
        while len(self._held) >= _CACHED:
            del self._held[next(iter(self._held))]
        self._held.pop(key, None)
        self._held[key] = (version, rows)
        return rows


def order() -> _Order[Any]:
    """Return an empty cache of orders for one collection."""
    return _Order()


def paged(
    call: Call,
    rows: Callable[[], Iterable[_Row]],
    value: Callable[[_Row], Any],
    identify: Callable[[_Row], str],
    *,
    cache: _Order[_Row],
    version: int,
    descending: bool,
    size: int,
) -> Page[_Row]:
    """Return the page the call asks for, rows ordered by `value` and then by id.

    `rows` yields the rows that pass the filter; it is called when `version` has changed
    since the last page of the same filter and sort.
    """

    def make() -> list[tuple[Any, str, _Row]]:
        keyed = [(value(row), identify(row), row) for row in rows()]
        keyed.sort(key=lambda entry: entry[:2], reverse=descending)
        return keyed

    asked = (call.query.get("filter", ""), call.query.get("sort", ""), call.path)
    ordered = cache.get(asked, version, make)
    start = 0
    if cursor := call.query.get("page[cursor]"):
        start = _after(ordered, _mark(cursor), descending=descending)
    chosen = ordered[start : start + size]
    following = None
    if start + size < len(ordered):
        last = chosen[-1]
        following = _link(call, _cursor(last[0], last[1]))
    links: Json = {"self": _link(call, cursor), "next": following, "prev": None}
    return Page([entry[2] for entry in chosen], links)


def _after(
    rows: list[tuple[Any, str, Any]], mark: tuple[Any, str], *, descending: bool
) -> int:
    """Return the index of the first row behind the mark."""
    low, high = 0, len(rows)
    while low < high:
        middle = (low + high) // 2
        key = rows[middle][:2]
        behind = key < mark if descending else key > mark
        if behind:
            high = middle
        else:
            low = middle + 1
    return low


def _cursor(value: object, identifier: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(["next", value, identifier])).decode()


def _mark(cursor: str) -> tuple[Any, str]:
    try:
        parts = orjson.loads(base64.urlsafe_b64decode(cursor.encode()))
        _, value, identifier = parts
    except (binascii.Error, orjson.JSONDecodeError, ValueError, TypeError):
        raise _bad("Invalid cursor.", "page[cursor]") from None
    return value, identifier


def _link(call: Call, cursor: str | None) -> str:
    query = {name: value for name, value in call.query.items() if name != "page[cursor]"}
    if cursor:
        query["page[cursor]"] = cursor
    return f"{call.url}?{urlencode(query, quote_via=quote)}" if query else call.url
