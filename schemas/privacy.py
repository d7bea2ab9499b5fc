"""What is asked of Klaviyo when a customer ends, or turns out to be two profiles.

Bodies of POST /api/data-privacy-deletion-jobs, /api/profile-suppression-bulk-create-jobs
and /api/profile-merge, the same in Klaviyo's documents 2023-10-15 to 2026-07-15.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from schemas.commands import EraseProfile, Identity, SuppressProfile
from schemas.event import Context, Plan, Rejected, Skipped
from schemas.identity import external_id, nobody

__all__ = ["LARGEST", "deleted", "deletion", "merge", "suppression", "tombstone"]

LARGEST: Final = 100  # e-mails in one suppression
_FOREIGN: Final = (b"{", b"[", b"\0")  # JSON that is no text, Confluent's wire format
_TEXT: Final = msgspec.json.Decoder(str)


def deleted(who: Identity, context: Context) -> Plan | Skipped:
    """Return what the end of a customer asks for, by deletes.policy."""
    match context.deletes:
        case "ignore":
            return Skipped("deletes_ignored")
        case "suppress":
            return Plan([SuppressProfile(who)])
        case "erase":
            return Plan([EraseProfile(who)])


def tombstone(key: bytes | None, context: Context) -> Plan | Skipped | Rejected:
    """Return what a null value asks for: its key is the id of a customer who ended."""
    if context.deletes == "ignore":
        return Skipped("tombstone")
    name = _name(key or b"")
    return nobody("$") if name is None else deleted(Identity(name), context)


def _name(key: bytes) -> str | None:
    """Return the id a key holds: as it is, or as JSON text; no other JSON is an id."""
    try:
        if key[:1] == b'"':
            return external_id(_TEXT.decode(key))
        return None if key[:1] in _FOREIGN else external_id(key.decode())
    except ValueError:  # what msgspec raises is one
        return None


def deletion(profile: str) -> bytes:
    """Return the request to delete the profile with that Klaviyo id: one identifier."""
    data = {"type": "profile", "id": profile, "attributes": {}}
    return _job("data-privacy-deletion-job", {"profile": {"data": data}})


def suppression(emails: Sequence[str]) -> bytes:
    """Return the request that nobody mails these addresses; at most `LARGEST`."""
    data = [{"type": "profile", "attributes": {"email": email}} for email in emails]
    return _job("profile-suppression-bulk-create-job", {"profiles": {"data": data}})


def merge(destination: str, source: str) -> bytes:
    """Return the request to merge a profile into another; it is gone afterwards."""
    profiles = {"data": [{"type": "profile", "id": source}]}
    return msgspec.json.encode(
        {
            "data": {
                "type": "profile-merge",
                "id": destination,
                "relationships": {"profiles": profiles},
            }
        }
    )


def _job(kind: str, attributes: object) -> bytes:
    return msgspec.json.encode({"data": {"type": kind, "attributes": attributes}})
