"""Which format a record of the state topic is in: a header `format`, a number.

A release reads its own format and the one before and after it, so that in an upgrade, or
on the way back, both may be at work. A new format therefore only adds what the one before
can do without; to take something away needs two. What is newer still is refused, for
nobody here knows what it asks for. Without the header it is the first format.
"""

from collections.abc import Iterable
from typing import Final

from pipeline.errors import SettingsError

__all__ = ["FORMAT", "STAMP", "TooNew", "check"]

FORMAT: Final = 1
HEADER: Final = "format"
STAMP: Final = ((HEADER, str(FORMAT).encode()),)  # headers of what we write


class TooNew(SettingsError):
    """The state was written by a release that is too new for this one."""


def check(topic: str, headers: Iterable[tuple[str, bytes]]) -> None:
    """Raise `TooNew` for a record that cannot be understood."""
    if headers == STAMP:  # nearly always
        return
    for name, value in headers:
        if name == HEADER and not (value.isdigit() and int(value) <= FORMAT + 1):
            found = value.decode(errors="replace") if value.isalnum() else "unknown"
            raise TooNew(
                f"{topic} holds records of format {found[:20]}, written by a newer "
                f"release; this one reads up to {FORMAT + 1}. Run the newer release: to "
                "go back further, go back one release at a time."
            )
