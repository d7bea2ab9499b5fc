"""The endpoints of Klaviyo that we use, one method each.

Paths, statuses and answers from Klaviyo's OpenAPI documents 2024-02-15 ... 2026-07-15.
The paths have no trailing slash: redirects are not followed.
"""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from pipeline.klaviyo import listing
from pipeline.klaviyo.limits import Limits, Permit
from pipeline.klaviyo.retry import Fault
from pipeline.klaviyo.revision import Stage
from pipeline.klaviyo.session import Accepted, Attempt, Call, Refused, Session

__all__ = ["Account", "Client", "Findings", "Standing"]

Standing: TypeAlias = Literal[
    "ok", "unauthorized", "forbidden", "revision_retired", "unreachable"
]

PROBE: Final = 15.0  # s that `check` waits for Klaviyo at most
_OK: Final = frozenset({200})
_OK_OR_CREATED: Final = frozenset({200, 201})
_TAKEN: Final = frozenset({202})


class Account(msgspec.Struct, frozen=True):
    """Who the credential belongs to."""

    id: str
    name: str | None = None


class Findings(msgspec.Struct, frozen=True):
    """What one look at Klaviyo found out."""

    standing: Standing
    message: str  # what is wrong, for people; blank when nothing is
    account: Account | None
    asked: str  # revision
    served: str | None  # revision; None when no answer said
    stage: Stage  # of the revision asked for
    retires: str  # YYYY-MM-DD, the revision asked for
    quotas: Mapping[str, tuple[int, int]]  # operation -> calls per second, per minute


class _Identified(msgspec.Struct):
    id: str


class _Resource(msgspec.Struct):
    data: _Identified


class _Contact(msgspec.Struct):
    organization_name: str | None = None


class _AccountAttributes(msgspec.Struct):
    contact_information: _Contact | None = None


class _AccountData(msgspec.Struct):
    id: str
    attributes: _AccountAttributes | None = None


class _Accounts(msgspec.Struct):
    data: Annotated[list[_AccountData], msgspec.Meta(min_length=1)]


_RESOURCE: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(_Resource)
_ACCOUNTS: Final = msgspec.json.Decoder(_Accounts)


class Client:
    """Every method waits out limits, outages and a refused credential by itself."""

    def __init__(self, session: Session, limits: Limits) -> None:
        self._session = session
        self._limits = limits

    @property
    def served(self) -> str:
        """The revision Klaviyo serves us in, which decides the shapes of bodies."""
        return self._session.revision.served

    async def ready(self, operation: str) -> None:
        """Return when `acquire(operation)` would succeed at once.

        For the one task that composes requests of that operation, as late as possible.
        """
        await self._session.ready(operation)

    def free_now(self, operation: str) -> bool:
        """Whether `acquire(operation)` would succeed at once."""
        return self._session.free_now(operation)

    async def acquire(self, operation: str) -> Permit:
        """Wait for the right to send one call; hand it to a method, or say `unused()`."""
        return await self._session.acquire(operation)

    def set_share(self, share: float) -> None:
        """Use that part of the account's quota, in (0, 1], from now on."""
        self._limits.set_share(share)

    async def accounts(self) -> Account | Refused:
        """Return the account of the credential; needs the scope accounts:read."""
        answer = await self._session.send(_accounts())
        return _account(answer.body) if isinstance(answer, Accepted) else answer

    async def import_profile(
        self, body: bytes, permit: Permit | None = None
    ) -> Accepted | Refused:
        """Create or update one profile; done when it returns."""
        return await self._session.send(
            Call(
                "create_or_update_profile",
                "POST",
                "/api/profile-import",
                _OK_OR_CREATED,
                body,
                _RESOURCE,
                permit,
            )
        )

    async def create_event(
        self, body: bytes, permit: Permit | None = None
    ) -> Accepted | Refused:
        """Record one event; accepted means validated and queued."""
        return await self._session.send(
            Call("create_event", "POST", "/api/events", _TAKEN, body, permit=permit)
        )

    async def create_events(
        self, body: bytes, permit: Permit | None = None
    ) -> Accepted | Refused:
        """Record up to 1,000 events; accepted is the end, there is no job to follow."""
        return await self._session.send(
            Call(
                "bulk_create_events",
                "POST",
                "/api/event-bulk-create-jobs",
                _TAKEN,
                body,
                permit=permit,
            )
        )

    def now(self) -> float | None:
        """Klaviyo's own clock, Unix seconds, by its latest answer; None before it."""
        return self._session.now()

    async def profiles(self, path: str) -> listing.Page | Refused:
        """Return a page of profiles; `path` is of `listing.query` or the page before.

        Raises `listing.ForeignLink`.
        """
        answer = await self._session.send(
            Call("get_profiles", "GET", path, _OK, proof=listing.PROOF)
        )
        if isinstance(answer, Refused):
            return answer
        return listing.page(answer.body, self._session.api_url)

    async def probe(self, within: float = PROBE) -> Findings:
        """Look once, for `within` s at most, at credential, revision and quota."""
        attempt = None
        try:
            async with asyncio.timeout(within):
                attempt = await self._session.once(_accounts())
        except TimeoutError:
            pass
        standing, message = _standing(attempt)
        revision = self._session.revision
        return Findings(
            standing=standing,
            message=message,
            account=_found(attempt),
            asked=revision.asked,
            served=revision.served if revision.known else None,
            stage=revision.stage(revision.asked),
            retires=revision.retires(revision.asked),
            quotas=self._limits.quotas(),
        )


def _accounts() -> Call:
    return Call("get_accounts", "GET", "/api/accounts", _OK, proof=_ACCOUNTS)


def _account(body: bytes) -> Account:
    data = _ACCOUNTS.decode(body).data[0]
    contact = data.attributes.contact_information if data.attributes else None
    return Account(data.id, contact.organization_name if contact else None)


def _found(attempt: Attempt | None) -> Account | None:
    if attempt is None or attempt.answer is None or attempt.kind != "accepted":
        return None
    return _account(attempt.answer.body)


def _standing(  # noqa: PLR0911 - one line per kind
    attempt: Attempt | None,
) -> tuple[Standing, str]:
    if attempt is None:
        return "unreachable", "Klaviyo did not answer in time"
    status = attempt.answer.status if attempt.answer else 0
    match attempt.kind:
        case "accepted":
            return "ok", ""
        case "unauthorized":
            return "unauthorized", f"Klaviyo does not know the credential ({status})"
        case "forbidden":
            return "forbidden", f"the credential lacks the scope accounts:read ({status})"
        case "retired":
            return "revision_retired", f"the revision is not served ({status})"
        case "throttled":
            return "unreachable", "somebody uses up the quota of get_accounts (429)"
        case "refused" | "too_large" | "outage" | "unexpected":
            if not status:
                return "unreachable", f"no answer ({attempt.reason})"
            return "unreachable", f"unexpected answer {status}{_said(attempt.faults)}"


def _said(faults: tuple[Fault, ...]) -> str:
    return "".join(f"; {fault.safe}" for fault in faults)
