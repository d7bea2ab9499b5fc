"""The body of a bulk profile import, put together from rows that are encoded once.

    {"data": {"type": "profile-bulk-import-job", "attributes": {"profiles":
        {"data": [ROW, ...]}}}}

ROW is the `data` object of a single profile-import. Shape and limits (10,000 profiles, 5
MB, 100 KB each) from Klaviyo's documents 2024-02-15 to 2026-07-15.
"""

import re
from collections.abc import Sequence
from typing import Final

from schemas import weight
from schemas.commands import UpsertProfile

__all__ = ["BYTES", "EMPTY", "LARGEST", "ROWS", "able", "body", "place"]

ROWS: Final = 10_000  # profiles in one request
BYTES: Final = 5_000_000  # "5 MB", read strictly
LARGEST: Final = weight.LARGEST  # bytes of one row

_OPEN: Final = (
    b'{"data":{"type":"profile-bulk-import-job","attributes":{"profiles":{"data":['
)
_CLOSE: Final = b"]}}}}"
EMPTY: Final = len(_OPEN) + len(_CLOSE)  # bytes of a request without rows
_POINTER: Final = re.compile(r"/data/attributes/profiles/data/(\d+)(?:/.*)?")


def able(command: UpsertProfile) -> bool:
    """Whether a bulk import does with the command what a single call would do.

    There a null does not clear a field (Klaviyo, "Bulk Import Profiles API" guide), and a
    phone number as the only identifier that it does not take is lost without a word.
    """
    who, attributes = command.identity, command.attributes
    if who.external_id is None and who.email is None:
        return False
    if None in attributes.values():
        return False
    location = attributes.get("location")
    return location is None or None not in location.values()


def body(rows: Sequence[bytes]) -> bytes:
    """Join the rows."""
    return b"".join((_OPEN, b",".join(rows), _CLOSE))


def place(pointer: str) -> int | None:
    """The row a pointer of a refusal or an import error names; None for the request."""
    found = _POINTER.fullmatch(pointer)
    return int(found[1]) if found else None
