"""The lines of an order, and which of them a fulfillment or refund is about."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import msgspec
from msgspec import Raw

from schemas.event import Losses
from schemas.money import amount, exact, plain, product, written
from schemas.order import Line, NamedLine
from schemas.order_properties import ItemProperties

__all__ = ["Part", "ReadLine", "item", "part", "read_lines"]

_NOTHING: Final = Decimal(0)


class ReadLine(msgspec.Struct, gc=False):
    """A line with its numbers read; `row_total` is its total, else price x quantity."""

    line: Line
    quantity: Raw | None
    price: Raw | None
    row_total: Raw | None


class Part(msgspec.Struct):
    """The part of an order that a fulfillment or refund is about."""

    whole: bool
    lines: list[ReadLine]


def read_lines(lines: Sequence[Line] | None, losses: Losses) -> list[ReadLine]:
    """Read the numbers of each line."""
    read: list[ReadLine] = []
    for index, line in enumerate(lines or ()):
        if (numbers := plain(line.quantity, line.price, line.total)) is not None:
            read.append(ReadLine(line, *numbers))
        else:
            read.append(_read_line(line, losses, index))
    return read


def part(
    lines: list[ReadLine],
    named: Sequence[NamedLine] | None,
    losses: Losses,
    where: str,
) -> Part:
    """Return the lines that are named, with the quantities they are named with.

    The whole order is meant when no line is named, or each one in full. `where` is the
    JSON path of `named`.
    """
    if not named:
        return Part(whole=True, lines=lines)
    rest = _wanted(named, losses, where)
    # A quantity that nobody can read proves nothing.
    whole = bool(lines) and "quantity" not in losses.degraded
    taken: list[ReadLine] = []
    for read in lines:
        name = (read.line.id or "").strip()
        if name not in rest:
            whole = False
            continue
        left = rest[name]
        ordered = None if read.quantity is None else exact(read.quantity)
        if left is None:
            taken.append(read)
        elif ordered is not None and left >= ordered:
            taken.append(read)
            rest[name] = left - ordered  # for another line of the same id
        else:
            whole = False
            if left > 0:
                taken.append(_with(read, left))
            rest[name] = _NOTHING
    known = {(read.line.id or "").strip() for read in lines}
    return Part(whole=whole and known.issuperset(rest), lines=taken)


def _wanted(
    named: Sequence[NamedLine], losses: Losses, where: str
) -> dict[str, Decimal | None]:
    """Return quantities by line id, added up; None where all of the line is meant."""
    wanted: dict[str, Decimal | None] = {}
    for index, line in enumerate(named):
        name = (line.id or "").strip()
        quantity = amount(line.quantity, "quantity", losses, where, index)
        before = wanted.get(name, _NOTHING)
        if quantity is None or before is None:
            wanted[name] = None
        else:
            wanted[name] = before + exact(quantity)
    return wanted


def _with(read: ReadLine, quantity: Decimal) -> ReadLine:
    number = written(quantity)
    return ReadLine(read.line, number, read.price, product(read.price, number))


def _read_line(line: Line, losses: Losses, index: int) -> ReadLine:
    where = "$.order.lines"
    quantity = amount(line.quantity, "quantity", losses, where, index)
    price = amount(line.price, "price", losses, where, index)
    total = amount(line.total, "total", losses, where, index)
    row_total = total if total is not None else product(price, quantity)
    return ReadLine(line, quantity, price, row_total)


def item(read: ReadLine) -> ItemProperties:
    """Return the line as an entry of Items."""
    line = read.line
    return ItemProperties(
        line.product_id,
        line.sku,
        line.name,
        read.quantity,
        read.price,
        read.row_total,
        line.url,
        line.image_url,
        line.categories or None,
        line.brand,
    )
