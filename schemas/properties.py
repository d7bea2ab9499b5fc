"""The user's own fields: custom_fields of a customer, properties of an order or a line.

Any JSON may stand there. What breaks a limit of Klaviyo's is left out, one property at a
time, so that the event or profile itself still arrives (contract G7).
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from schemas.event import Losses

__all__ = ["NULL", "PROFILE_LEVELS", "encoded", "fitting", "value_of"]

# Limits of event properties (Klaviyo, "Events API overview", Limitations):
_MAX_NAMES: Final = (
    300  # properties; 400 from 2025-04-15, and the general page still says 300
)
_MAX_STRING: Final = 100_000  # bytes, "100 KB"
_MAX_ARRAY: Final = 4_000  # elements
_MAX_LEVELS: Final = 10  # nested levels, the properties object being the first
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1  # 64-bit integers
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
    if len(typed) > _SAFE:
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
    for name, raw in own.items():
        if name and raw != NULL:
            fields.setdefault(name, raw)
    kept: dict[str, Any] = {}
    for name, raw in fields.items():
        if len(kept) == _MAX_NAMES:
            losses.lose("properties")
            break
        if _PLAIN.fullmatch(raw):
            kept[name] = raw
            continue
        value = value_of(raw)
        fit = fitting(value, _MAX_LEVELS - 1)
        if fit is UNSET:
            losses.lose("properties")
            continue
        if fit != value:
            losses.lose("properties")
        # What came unharmed leaves as the very text it came as: no number is rounded.
        kept[name] = raw if fit == value else fit
    return Raw(_ENCODER.encode(kept))


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
            return value if short or len(value.encode()) <= _MAX_STRING else UNSET
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
