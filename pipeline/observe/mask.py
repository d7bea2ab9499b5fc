"""Takes secrets and personal data out of anything that leaves by a log or an error.

A safety net, not a licence: nothing of ours logs customers or keys. But a library may
quote a header, and a server may quote an e-mail address.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

__all__ = ["Mask"]

HIDDEN: Final = "***"
_DEPTH: Final = 6  # levels of nesting looked into; what lies deeper is hidden
_SHORTEST: Final = 4  # letters; hiding every "a" would hide the log

# Fields whose name says that no value of theirs is for a log.
_PRIVATE: Final = re.compile(
    r"e[-_]?mail|phone|passw|secret|authori[sz]ation|api[-_]?key|token|cookie|credential"
    r"|(first|last|full)[-_]?name",
    re.IGNORECASE,
)

_OAUTH: Final = "access_token|refresh_token|client_secret|code_verifier"
_PATTERNS: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?i)\b(Klaviyo-API-Key|Bearer|Basic)(\s+|%20)[\w.~+/=%-]+", rf"\1 {HIDDEN}"),
        (r"(?<![A-Za-z0-9])pk_[\w-]+", "pk_" + HIDDEN),
        # OAuth, in a form or in JSON.
        (rf"((?:{_OAUTH})[\\\"']*\s*[:=][\s\\\"']*)[\w.~+/=%-]+", rf"\1{HIDDEN}"),
        # An address: letters, an @ (also as it stands in a URL), a domain with a dot.
        (
            r"[\w.!#$&'*+?^`{|}~-]{1,64}(?:@|%40)[\w-]{1,63}(?:\.[\w-]{1,63})+",
            "<e-mail>",
        ),
        # A phone number: with a plus or 00 in front, or in groups of 3-3-4.
        (r"(?:(?<![\w.])\+|%2[Bb])\d(?:[\s().-]{0,2}\d){6,14}(?!\d)", "<phone>"),
        (r"(?<![\w.])00[1-9]\d{6,13}(?!\d)", "<phone>"),
        (r"(?<![\w.-])(?:1[ .-])?\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?![\w-])", "<phone>"),
        # Ten or eleven digits alone are a phone number; in a text, an offset or a time.
        (r"\A\s*1?\d{10}\s*\Z", "<phone>"),
    )
)


class Mask:
    """Hides what must not be seen; `secrets` is asked for the values in force."""

    def __init__(self, secrets: Callable[[], Iterable[str]] = tuple) -> None:
        self._secrets = secrets

    def text(self, text: str) -> str:
        """Hide known secrets, and what looks like one, an address or a phone number."""
        for secret in self._secrets():
            if len(secret) >= _SHORTEST:
                text = text.replace(secret, HIDDEN)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def fields(self, fields: Mapping[Any, object], depth: int = 0) -> dict[str, object]:
        """Hide in every field: by its name, by its value, and in what lies inside it."""
        return {
            self.text(str(name)): HIDDEN
            if value and _PRIVATE.search(str(name))
            else self._value(value, depth)
            for name, value in fields.items()
        }

    def _value(self, value: object, depth: int) -> object:
        match value:
            case None | bool() | int() | float():
                return value
            case Mapping() | list() | tuple() | set() | frozenset() if depth >= _DEPTH:
                return HIDDEN
            case Mapping():
                return self.fields(value, depth + 1)
            case list() | tuple() | set() | frozenset():
                return [self._value(each, depth + 1) for each in value]
            case _:
                return self.text(
                    value.decode(errors="replace")
                    if isinstance(value, bytes)
                    else str(value)
                )
