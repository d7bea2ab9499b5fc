"""Which scopes a credential has, tried one by one with calls that change nothing.

A read is the smallest there is. A write is a request about nobody: it lacks what the
endpoint requires, so that whoever has the scope is told 400, and who has not 403
(Klaviyo, "Authenticate API requests"). That a scope is looked at before a body is not
promised: one that seems to be there may be missing still, one that is refused is missing.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

from pipeline.klaviyo.call import Call
from pipeline.klaviyo.quotas import QUOTAS
from pipeline.klaviyo.session import Session

__all__ = ["READS", "WRITES", "Scopes"]

WITHIN: Final = 15.0  # s that `check` waits for all reads, or all writes, at most
_OK: Final = frozenset({200})


def _read(operation: str, path: str) -> Call:
    return Call(operation, "GET", path, _OK)


def _nothing(operation: str, path: str, kind: str, accepted: int) -> Call:
    """Make a request with nothing in it."""
    body = f'{{"data":{{"type":"{kind}","attributes":{{}}}}}}'.encode()
    return Call(operation, "POST", path, frozenset({accepted}), body)


READS: Final = {  # scope -> the smallest call that needs it
    "events:read": ("get_events", "/api/events?page%5Bsize%5D=1"),
    "lists:read": ("get_lists", "/api/lists?page%5Bsize%5D=1"),
    "metrics:read": ("get_metrics", "/api/metrics"),
    "profiles:read": ("get_profiles", "/api/profiles?page%5Bsize%5D=1"),
}
# Scope -> operation, path, type and documented success of the call that needs it; those
# that need fewer other scopes first.
WRITES: Final = {
    "profiles:write": (
        "create_or_update_profile",
        "/api/profile-import",
        "profile",
        201,
    ),
    "events:write": ("create_event", "/api/events", "event", 202),
    "lists:write": (
        "bulk_import_profiles",
        "/api/profile-bulk-import-jobs",
        "profile-bulk-import-job",
        202,
    ),
    "subscriptions:write": (
        "bulk_subscribe_profiles",
        "/api/profile-subscription-bulk-create-jobs",
        "profile-subscription-bulk-create-job",
        202,
    ),
    "data-privacy:write": (
        "request_profile_deletion",
        "/api/data-privacy-deletion-jobs",
        "data-privacy-deletion-job",
        202,
    ),
}
_SAYS: Final = {"accepted": True, "refused": True, "forbidden": False}


class Scopes:
    """Asks once for each scope, and halts nothing."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def readable(self) -> dict[str, bool | None]:
        """Say of each of `READS` whether it is there; None where Klaviyo did not say."""
        tries = [self._tried(_read(*of)) for of in READS.values()]
        found = await asyncio.gather(*tries)
        return dict(zip(READS, found, strict=True))

    async def writable(self, scopes: Collection[str]) -> dict[str, bool | None]:
        """Say the same of these of `WRITES`.

        A call that needs several scopes says nothing of one while another is missing.
        """
        found: dict[str, bool | None] = {}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WITHIN
        for scope, of in WRITES.items():
            if scope not in scopes:
                continue
            may = await self._tried(_nothing(*of), deadline - loop.time())
            others: Sequence[str] = QUOTAS[of[0]].scopes.split()
            if may is False and any(found.get(other) is False for other in others):
                may = None
            found[scope] = may
        return found

    async def _tried(self, call: Call, within: float = WITHIN) -> bool | None:
        try:
            async with asyncio.timeout(within):
                return _SAYS.get((await self._session.once(call)).kind)
        except TimeoutError:
            return None
