"""What Klaviyo shows otherwise than it was sent, by the names of the fields.

Lenient where Klaviyo is known or free to write a value another way (a number as text, an
address in small letters, empty for null): a false alarm would be believed once.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["event", "profile"]

_EMPTY: Final[tuple[object, ...]] = (None, "", [], {})


def profile(sent: Mapping[str, Any], shown: Mapping[str, Any]) -> list[str]:
    """Compare the body of POST /api/profile-import with the attributes of a profile."""
    data = sent["data"]
    shown = {**shown, "email": (shown.get("email") or "").lower()}
    found: list[str] = []
    for name, value in data["attributes"].items():
        if name in ("location", "properties") and value:
            inner = shown.get(name) or {}
            found += [f"{name}.{key}" for key in _differing(value, inner)]
        elif not _same(value, shown.get(name)):
            found.append(name)
    held = shown.get("properties") or {}
    unset = data.get("meta", {}).get("patch_properties", {}).get("unset", ())
    found += [f"properties.{key}" for key in unset if held.get(key) not in _EMPTY]
    return found


def event(sent: Mapping[str, Any], shown: Mapping[str, Any]) -> list[str]:
    """Compare the body of POST /api/events with the properties an event is shown with.

    Klaviyo takes 0, null and "" on an event as not set ("Events API overview"), its value
    included, which it shows as `$value`.
    """
    attributes = sent["data"]["attributes"]
    properties: dict[str, Any] = attributes["properties"]
    real = {key: value for key, value in properties.items() if value not in (*_EMPTY, 0)}
    found = [f"properties.{key}" for key in _differing(real, shown)]
    if attributes.get("value") and not _same(attributes["value"], shown.get("$value")):
        found.append("value")
    currency = shown.get("$value_currency")
    if currency is not None and currency != attributes.get("value_currency", currency):
        found.append("value_currency")
    return found


def _differing(sent: Mapping[str, Any], shown: Mapping[str, Any]) -> Iterator[str]:
    return (key for key, value in sent.items() if not _same(value, shown.get(key)))


def _same(sent: object, shown: object) -> bool:
    if sent in _EMPTY:
        return shown in _EMPTY
    if isinstance(sent, bool) or isinstance(shown, bool):
        return sent is shown
    match sent, shown:
        case str(), str():
            return sent.strip() == shown.strip()
        case dict(), dict():
            # What counts as not set may be gone in here as well.
            real = {k: v for k, v in sent.items() if v not in (*_EMPTY, 0)}
            return next(_differing(real, shown), None) is None
        case list(), list():
            return len(sent) == len(shown) and all(map(_same, sent, shown))
        case _:
            return _equal(sent, shown)


def _equal(sent: object, shown: object) -> bool:
    """Two numbers, or a number and its text."""
    if isinstance(sent, dict | list) or isinstance(shown, dict | list):
        return False
    try:
        return math.isclose(float(str(sent)), float(str(shown)), rel_tol=1e-9)
    except ValueError:
        return False
