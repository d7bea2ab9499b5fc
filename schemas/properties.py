"""The user's own fields: custom_fields of a customer, properties of an order or a line.

Any JSON may stand there. What breaks a limit of Klaviyo's is cut, or left out where a
part of it is no use, so that the event or profile itself still arrives. An
event that lost something says so itself, in the property `Truncated`.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from schemas.event import Losses

__all__ = ["MARKER", "NULL", "PROFILE_LEVELS", "encoded", "fitting", "marker", "value_of"]

# Names the properties that are not as the shop sent them, and `occurred_at` when another
# time stands in for it.
MARKER: Final = "Truncated"
_MARKED: Final = 20  # names in it
_SHOWN: Final = 100  # characters of one

# Limits of event properties (Klaviyo, "Events API overview", Limitations); how many there
# may be depends on the revision, see `schemas.klaviyo.most_properties`:
_MAX_STRING: Final = 100_000  # bytes, "100 KB"
_MAX_ARRAY: Final = 4_000  # elements
_MAX_LEVELS: Final = 10  # nested levels, the properties object being the first
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1  # 64-bit integers
_MAX_BYTES: Final = 4_800_000  # of all together: a request's 5 MB, 95 KB of profile less
# No typed event property can break a limit in fewer bytes: 4,000 lines take 12,000.
_SAFE: Final = 10_000
_FEW: Final = 200  # properties of the user's own that fit beside any of ours
# Text, numbers and truth values that break no limit, whatever they say.
_PLAIN: Final = re.compile(
    rb'"[^"\\\x00-\x1f]{0,1000}"|true|false'
    rb"|-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?"
)
# Klaviyo publishes no depth for profile properties; ours keeps recursion bounded.
PROFILE_LEVELS: Final = 50

NULL: Final = Raw(b"null")  # a Raw equals only a Raw

_ANY: Final = msgspec.json.Decoder()
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_ENCODER: Final = msgspec.json.Encoder()


def encoded(ours: msgspec.Struct, own: Mapping[str, Raw] | None, losses: Losses) -> Raw:
    """Return the JSON object of an event's properties: the user's own, ours over them."""
    typed = _ENCODER.encode(ours)
    degraded = losses.degraded
    if len(typed) > _SAFE or (degraded and "occurred_at" in degraded):
        return _examined(typed, own or {}, losses)
    if not own:
        return Raw(typed)
    if len(own) > _FEW or typed == b"{}":
        return _examined(typed, own, losses)
    for name, raw in own.items():
        # A name whose text does not stand in ours at all clashes with none of them.
        if not name or not _PLAIN.fullmatch(raw) or _ENCODER.encode(name) in typed:
            return _examined(typed, own, losses)
    return Raw(b"%b,%b" % (typed[:-1], _ENCODER.encode(own)[1:]))


def _examined(typed: bytes, own: Mapping[str, Raw], losses: Losses) -> Raw:
    """Look into each property: any of them may break a limit."""
    fields = _OBJECT.decode(typed)
    cut: list[str] = []  # names of what is not whole any more
    for name, raw in own.items():
        if raw == NULL:
            continue
        if name:
            fields.setdefault(name, raw)
        else:
            cut.append(name)
    kept: dict[str, Raw] = {}
    for name, raw in fields.items():
        if _PLAIN.fullmatch(raw):
            kept[name] = raw
            continue
        value = value_of(raw)
        fit = fitting(value, _MAX_LEVELS - 1)
        if fit is not UNSET:
            # What came unharmed leaves as the very text it came as: no number is rounded.
            kept[name] = raw if fit == value else Raw(_ENCODER.encode(fit))
        if fit != value or fit is UNSET:
            cut.append(name)
    timeless = ["occurred_at"] if "occurred_at" in losses.degraded else []
    _shorten(kept, cut, losses.most_properties, marked=bool(cut or timeless))
    _lighten(kept, cut)
    if cut:
        losses.lose("properties")
    if timeless or cut:
        kept[MARKER] = marker(timeless + cut)
    return Raw(_ENCODER.encode(kept))


def marker(names: Iterable[str]) -> Raw:
    """Return the value of `Truncated`: the first names of what was cut, each once."""
    first = islice(dict.fromkeys(names), _MARKED)
    return Raw(_ENCODER.encode([name[:_SHOWN] for name in first]))


def _shorten(kept: dict[str, Raw], cut: list[str], most: int, *, marked: bool) -> None:
    """Leave the first properties, ours before the user's, and room for the marker."""
    if len(kept) + marked > most:
        for name in list(kept)[most - 1 :]:
            del kept[name]
            cut.append(name)


def _lighten(kept: dict[str, Raw], cut: list[str]) -> None:
    """Leave out the largest properties until the rest fits in a request."""
    weights = {
        name: len(_ENCODER.encode(name)) + len(bytes(raw)) for name, raw in kept.items()
    }
    while sum(weights.values()) > _MAX_BYTES:
        largest = max(weights, key=weights.__getitem__)
        del kept[largest], weights[largest]
        cut.append(largest)


def value_of(raw: Raw) -> Any:  # noqa: ANN401  any JSON value
    """Return the JSON value, UNSET for one that Python cannot hold (1e400)."""
    try:
        return _ANY.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return UNSET


def fitting(value: Any, levels: int) -> Any:  # noqa: ANN401  any JSON value
    """Return `value` without what an event cannot carry; UNSET if nothing of it fits.

    `levels` is how many containers may still be opened.
    """
    match value:
        case bool() | float() | None:
            return value
        case str():
            short = len(value) <= _MAX_STRING // 4  # bytes a character has at most
            return (
                value if short else value.encode()[:_MAX_STRING].decode("utf-8", "ignore")
            )
        case int():
            return value if _INT_MIN <= value <= _INT_MAX else UNSET
        case list() if levels > 0:
            elements = (fitting(element, levels - 1) for element in value[:_MAX_ARRAY])
            return [element for element in elements if element is not UNSET]
        case dict() if levels > 0:
            entries = ((k, fitting(v, levels - 1)) for k, v in value.items())
            return {k: v for k, v in entries if v is not UNSET}
        case _:
            return UNSET
