"""The fields a target type has, read from its struct; what a mapping may write to.

A type is seen through `msgspec.inspect`. Unions stand for their one part that is neither
null nor absent: no field of ours is of two other types.
"""

import difflib
from collections.abc import Iterator
from typing import Final

from msgspec import inspect

from schemas.event import Event
from schemas.mapping.expression import Node

__all__ = ["TargetType", "child", "known", "misshaped", "nearest", "of_event"]

TargetType = inspect.Type
_ANYTHING: Final = inspect.AnyType()
# Nodes whose last child is what they yield.
_PASSING: Final = frozenset({"subexpression", "pipe", "index_expression"})
_PROJECTIONS: Final = frozenset({"projection", "filter_projection", "value_projection"})


def of_event(event: type[Event]) -> TargetType:
    """Return the type of a whole event."""
    return inspect.type_info(event)


def child(target: TargetType, key: str) -> TargetType | None:
    """Return the type of a field; None if there is no such field."""
    match target:
        case inspect.StructType():
            for field in target.fields:
                if field.encode_name == key:
                    return _plain(field.type)
            return None
        case inspect.DictType():
            return _ANYTHING  # the user's own fields: custom_fields, properties
        case inspect.AnyType():
            return target
        case _:
            return None


def known(target: TargetType, path: str = "") -> Iterator[str]:
    """Return each field's path: `order`, `order.id`, `order.lines[].sku`."""
    match target:
        case inspect.StructType():
            for field in target.fields:
                inner = f"{path}.{field.encode_name}".removeprefix(".")
                yield inner
                yield from known(_plain(field.type), inner)
        case inspect.ListType():
            yield from known(_plain(target.item_type), f"{path}[]")
        case _:
            return


def nearest(root: TargetType, path: str) -> str:
    """Say which field was meant by one that does not exist."""
    paths = list(known(root))
    close = difflib.get_close_matches(path, paths, n=1, cutoff=0.6)
    if not close:  # right name, wrong place
        last = path.rpartition(".")[2]
        close = [one for one in paths if one.rpartition(".")[2] == last][:1]
    return f"; did you mean {close[0]}?" if close else ""


def misshaped(target: TargetType, path: str, tree: Node) -> str | None:
    """Return the first name an expression gives to a field that does not exist.

    Looks at `{...}` and `[*].{...}` where they decide what the expression yields; what
    they do not decide is seen at run time.
    """
    kind, children = tree["type"], tree.get("children", [])
    found: Iterator[str | None] = iter(())
    if kind in _PASSING:
        found = iter((misshaped(target, path, children[-1]),))
    elif kind == "or_expression":
        found = (misshaped(target, path, one) for one in children)
    elif kind in _PROJECTIONS and isinstance(target, inspect.ListType):
        found = iter((misshaped(_plain(target.item_type), f"{path}[]", children[1]),))
    elif kind == "multi_select_dict":
        found = (_misnamed(target, path, pair) for pair in children)
    return next(filter(None, found), None)


def _misnamed(target: TargetType, path: str, pair: Node) -> str | None:
    inner = f"{path}.{pair['value']}"
    field = child(target, pair["value"])
    return inner if field is None else misshaped(field, inner, pair["children"][0])


def _plain(target: TargetType) -> TargetType:
    match target:
        case inspect.Metadata():
            return _plain(target.type)
        case inspect.UnionType():
            absent = (inspect.NoneType, inspect.CustomType)  # UNSET is a custom type
            parts = [one for one in target.types if not isinstance(one, absent)]
            return _plain(parts[0]) if parts else _ANYTHING
        case _:
            return target
