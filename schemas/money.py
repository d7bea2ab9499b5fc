"""Amounts and quantities: exact decimal text from the message to the request.

A number may come as a JSON number or as a decimal string. It is kept as the text it came
as (`msgspec.Raw`) and never becomes a float: 0.1 + 0.2 must be 0.3.
"""

import re
from decimal import Context, Decimal
from functools import lru_cache
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType

from schemas.event import Field, Losses

__all__ = ["Amount", "amount", "exact", "product", "written"]

Amount: TypeAlias = Annotated[
    Raw | UnsetType,
    msgspec.Meta(extra_json_schema={"type": ["number", "string", "null"]}),
]

# Almost every amount there is: JSON's own grammar, quoted or not, at most 18 + 18 digits.
_PLAIN: Final = re.compile(
    rb"(-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?)"
    rb'|"(-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?)"'
)
# Other spellings of a decimal: signs, exponents, blanks around, leading zeros. No
# thousands separators: "1,234" is 1234 to one shop and 1.234 to the next.
_LOOSE: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_MAX_TEXT: Final = 64  # characters of a loose spelling; longer ones are not amounts
_SHORT: Final = 40  # bytes; the longest plain amount is 40 with its quotes
_SHORT_LINE: Final = 3 * _SHORT + 2  # bytes; three of them
_ABSENT: Final = b""
_OF_LINE: Final = 3  # quantity, price, total
_NO_NUMBER: Final = (_ABSENT, b"null")
_LIMIT: Final = Decimal(10) ** 18  # below 2**63: event integers are 64-bit
_EXACT: Final = Context(prec=120)  # digits; the longest product of two amounts fits
_KINDS: Final = {b"[": "array", b"{": "object", b"t": "bool", b"f": "bool"}
_STRING: Final = msgspec.json.Decoder(str)


def amount(
    raw: Raw | UnsetType, field: Field, losses: Losses, where: str, index: int = -1
) -> Raw | None:
    """Return the JSON number that `raw` stands for, or None when there is none to use.

    Absent, null and blank are no loss; text that is no number is (`n/a`, `NaN`). Any
    other JSON type is a fault at `where[index].field`.
    """
    if raw is UNSET:
        return None
    text = bytes(raw)
    if len(text) <= _SHORT and (number := _plain(text)) is not None:
        return number
    if text == b"null":
        return None
    if kind := _KINDS.get(text[:1]):
        place = where if index < 0 else f"{where}[{index}]"
        losses.reject(f"{place}.{field}", f"Expected `number | str | null`, got `{kind}`")
        return None
    return _loose(text, field, losses)


def plain(
    quantity: Raw | UnsetType, price: Raw | UnsetType, total: Raw | UnsetType
) -> tuple[Raw | None, Raw | None, Raw | None] | None:
    """Return the numbers of a line at one go: quantity, price, and what the line costs.

    That is its total, else price x quantity. None if one of them needs a closer look.
    """
    text = b" ".join(
        (
            _ABSENT if quantity is UNSET else quantity,
            _ABSENT if price is UNSET else price,
            _ABSENT if total is UNSET else total,
        )
    )
    return _line(text) if len(text) <= _SHORT_LINE else None


def exact(number: Raw) -> Decimal:
    """Return a number made by `amount` as a decimal."""
    return Decimal(bytes(number).decode())


def product(price: Raw | None, quantity: Raw | None) -> Raw | None:
    """Return price x quantity without rounding; None when one of them is unknown."""
    if price is None or quantity is None:
        return None
    return written(_EXACT.multiply(exact(price), exact(quantity)))


def written(value: Decimal) -> Raw | None:
    """Return `value` as a JSON number; None beyond what an event can carry."""
    exponent = value.as_tuple().exponent
    if (
        value.copy_abs() >= _LIMIT
        or not isinstance(exponent, int)
        or exponent < -_MAX_TEXT
    ):
        return None
    return Raw(format(value, "f").encode())


@lru_cache(maxsize=4_096)  # a shop's prices and quantities come again and again
def _plain(text: bytes) -> Raw | None:
    found = _PLAIN.fullmatch(text)
    return None if found is None else Raw(found[found.lastindex or 0])


@lru_cache(maxsize=4_096)  # one of something at a usual price: what most lines are
def _line(text: bytes) -> tuple[Raw | None, Raw | None, Raw | None] | None:
    parts = text.split(b" ")  # more than three: a blank stands in one of them
    numbers = [_plain(part) for part in parts]
    if len(parts) != _OF_LINE or any(
        number is None and part not in _NO_NUMBER
        for number, part in zip(numbers, parts, strict=True)
    ):
        return None
    quantity, price, total = numbers
    return quantity, price, product(price, quantity) if total is None else total


def _loose(data: bytes, field: Field, losses: Losses) -> Raw | None:
    text = (_STRING.decode(data) if data[:1] == b'"' else data.decode()).strip()
    if not text:
        return None
    number = None
    if len(text) <= _MAX_TEXT and _LOOSE.fullmatch(text):
        number = written(Decimal(text))
    if number is None:
        losses.lose(field)
    return number
