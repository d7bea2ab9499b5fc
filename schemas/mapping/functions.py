"""The functions that mappings may call beside those of JMESPath itself.

Each takes null for null, so that a field the message lacks stays absent. What cannot be
read is handed on as it came: the event's own rules then leave it out and count it,
as they do for a message of ours.
"""

import json
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final

from jmespath.exceptions import JMESPathTypeError
from jmespath.functions import Functions as Standard
from jmespath.functions import signature

from schemas.moment import written
from schemas.phone import phone

__all__ = ["Functions"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS: Final = {  # what a count since the epoch counts -> microseconds
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "days": 86_400_000_000,
}
_EXACT: Final = Context(prec=60)  # digits; more than any amount or time has
_MOST_DIGITS: Final = 18  # behind the point
_SCALAR: Final = ("string", "number", "null")


class Functions(Standard):
    """JMESPath's functions and ours; the docstrings of ours are the README's words."""

    @signature({"types": []})
    def _func_text(self, value: Any) -> Any:  # noqa: ANN401  any JSON value
        """`text(value)`: a number (or anything else) as text; null stays null."""
        return value if value is None else _text(value)

    @signature({"types": ["string", "null"]})
    def _func_upper(self, value: str | None) -> str | None:
        """`upper(text)`: in capitals."""
        return value and value.upper()

    @signature({"types": ["string", "null"]})
    def _func_lower(self, value: str | None) -> str | None:
        """`lower(text)`: in small letters."""
        return value and value.lower()

    @signature({"types": ["string"]}, {"types": ["array", "null"]})
    def _func_join(self, glue: str, parts: list[Any] | None) -> str | None:
        """`join(glue, list)`: as JMESPath's own, but takes numbers and skips nulls."""
        known = [_text(part) for part in parts or () if part is not None]
        return glue.join(known) if known else None

    @signature({"types": [*_SCALAR], "variadic": True})
    def _func_money(self, minor: Any, digits: Any = 2) -> Any:  # noqa: ANN401
        """`money(cents)`, `money(minor, digits)`: minor units as an amount: 3550, 35.50.

        `digits` is how many stand behind the point: 0 for yen, 3 for dinars, 6 for
        micros.
        """
        if type(digits) is not int or not 0 <= digits <= _MOST_DIGITS:
            raise JMESPathTypeError("money", digits, "number", ["0 to 18"])
        if (number := _number(minor)) is None:
            return minor
        return format(_EXACT.scaleb(number, -digits), "f")

    @signature({"types": [*_SCALAR], "variadic": True})
    def _func_time(self, count: Any, unit: Any = "ms") -> Any:  # noqa: ANN401
        """`time(ms)`, `time(count, unit)`: a count since 1970 as a time.

        `unit` is 's', 'ms', 'us' or 'days'. Text that is no number stays: it is a time
        already.
        """
        if unit not in _UNITS:
            raise JMESPathTypeError("time", unit, "string", [*_UNITS])
        if (number := _number(count)) is None:
            return count
        try:
            since = timedelta(microseconds=int(number * _UNITS[unit]))
            return written(_EPOCH + since)
        except OverflowError:  # no year of the calendar
            return _text(count)

    @signature({"types": ["string", "null"], "variadic": True})
    def _func_phone(self, number: str | None, country: Any = None) -> str | None:  # noqa: ANN401
        """`phone(number, country)`: as E.164, read as somebody in that country dials."""
        if number is None:
            return None
        return phone(number, country if isinstance(country, str) else None) or number


def _text(value: Any) -> str:  # noqa: ANN401  any JSON value
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _number(value: Any) -> Decimal | None:  # noqa: ANN401
    """Return a number or the number that a text spells; None for anything else."""
    if value is None:
        return None
    try:
        # The shortest text of a float is what stood in the message.
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() and -60 < number.adjusted() < 60 else None  # noqa: PLR2004  as _EXACT
