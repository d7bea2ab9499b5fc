"""Profiles that exist: found, merged, suppressed, erased.

Paths, statuses and answers from Klaviyo's OpenAPI documents 2024-02-15 ... 2026-07-15.
"""

from typing import Final
from urllib.parse import quote

import msgspec

from pipeline.klaviyo.call import Accepted, Call, Refused
from pipeline.klaviyo.session import Session
from schemas.commands import Identity

__all__ = ["Existing", "Found"]

_OK: Final = frozenset({200})
_CREATED: Final = frozenset({201})
_TAKEN: Final = frozenset({202})
_NOT_FOUND: Final = 404


class _Attributes(msgspec.Struct):
    external_id: str | None = None
    email: str | None = None
    phone_number: str | None = None


class _Resource(msgspec.Struct):
    id: str
    attributes: _Attributes


class _Page(msgspec.Struct):
    data: list[_Resource]


_PAGE: Final = msgspec.json.Decoder(_Page)


class Found(msgspec.Struct, frozen=True):
    """A profile: Klaviyo's id of it, and the identifiers it has."""

    id: str
    who: Identity

    def __repr__(self) -> str:  # the identifiers are a customer's
        return f"Found({self.id})"


class Existing:
    """Every method waits out limits, outages and a refused credential by itself."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def find(self, kind: str, value: str) -> Found | Refused | None:
        """Return who has that external_id, email or phone_number."""
        wanted = f"equals({kind},{msgspec.json.encode(value).decode()})"
        fields = "external_id,email,phone_number"
        path = (
            f"/api/profiles?filter={quote(wanted, safe='')}"
            f"&fields%5Bprofile%5D={quote(fields, safe='')}"
        )
        answer = await self._session.send(
            Call("get_profiles", "GET", path, _OK, proof=_PAGE)
        )
        if isinstance(answer, Refused):
            return answer
        page: _Page = _PAGE.decode(answer.body)
        if not page.data:
            return None
        had = page.data[0].attributes
        email = had.email.lower() if had.email else None
        return Found(
            page.data[0].id,
            Identity(had.external_id or None, email, had.phone_number or None),
        )

    async def is_gone(self, profile: str) -> bool:
        """Whether no profile has that id any more, as after a merge."""
        answer = await self._session.send(
            Call("get_profile", "GET", f"/api/profiles/{quote(profile, safe='')}", _OK)
        )
        return isinstance(answer, Refused) and answer.status == _NOT_FOUND

    async def merge(self, body: bytes) -> Accepted | Refused:
        """Merge one profile into another; Klaviyo does it some time later."""
        return await self._session.send(
            Call("merge_profiles", "POST", "/api/profile-merge", _CREATED, body)
        )

    async def suppress(self, body: bytes) -> Accepted | Refused:
        """See that some addresses get no e-mail; accepted is the end of it."""
        return await self._session.send(
            Call(
                "bulk_suppress_profiles",
                "POST",
                "/api/profile-suppression-bulk-create-jobs",
                _TAKEN,
                body,
            )
        )

    async def erase(self, body: bytes) -> Accepted | Refused:
        """Delete one profile for good; accepted is the end, its status is not told."""
        return await self._session.send(
            Call(
                "request_profile_deletion",
                "POST",
                "/api/data-privacy-deletion-jobs",
                _TAKEN,
                body,
            )
        )
