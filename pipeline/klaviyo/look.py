"""One look at Klaviyo: does it take the credential, in which revision, with which quota.

Unlike all other calls these come back whatever Klaviyo says: `check` asks them, and who
must know whose a new key is.
"""

import asyncio
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from pipeline.clock import SYSTEM
from pipeline.klaviyo.call import Attempt, Call
from pipeline.klaviyo.limits import Limits
from pipeline.klaviyo.retry import Fault, explain
from pipeline.klaviyo.revision import Stage
from pipeline.klaviyo.session import Session

__all__ = ["Account", "Findings", "Look", "Standing", "account_of", "accounts"]

Standing: TypeAlias = Literal[
    "ok", "unauthorized", "forbidden", "revision_retired", "unreachable"
]

PROBE: Final = 15.0  # s that `check` waits for Klaviyo at most
_OK: Final = frozenset({200})


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
    served_retires: str  # YYYY-MM-DD
    milestone: int  # months, of `revision.MILESTONES`, the revision asked for
    quotas: Mapping[str, tuple[int, int]]  # operation -> calls per second, per minute
    ahead: float | None = None  # s our clock is ahead of Klaviyo's; None: it did not say
    wait: float = 0.0  # s before another look, as a 429 told


class _Contact(msgspec.Struct):
    organization_name: str | None = None


class _AccountAttributes(msgspec.Struct):
    contact_information: _Contact | None = None


class _AccountData(msgspec.Struct):
    id: str
    attributes: _AccountAttributes | None = None


class _Accounts(msgspec.Struct):
    data: Annotated[list[_AccountData], msgspec.Meta(min_length=1)]


_ACCOUNTS: Final = msgspec.json.Decoder(_Accounts)


class Look:
    """Asks once, and halts nothing."""

    def __init__(self, session: Session, limits: Limits) -> None:
        self._session = session
        self._limits = limits

    async def probe(self, within: float = PROBE) -> Findings:
        """Look once, for `within` s at most, at credential, revision and quota."""
        attempt = None
        try:
            async with asyncio.timeout(within):
                attempt = await self._session.once(accounts())
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
            served_retires=revision.retires(revision.served),
            milestone=revision.milestone(revision.asked),
            quotas=self._limits.quotas(),
            ahead=_ahead(attempt),
            wait=self._limits.family(accounts().operation).closed_for(),
        )


def accounts() -> Call:
    """Ask for the account of the credential."""
    return Call("get_accounts", "GET", "/api/accounts", _OK, proof=_ACCOUNTS)


def account_of(body: bytes) -> Account:
    """Read the answer to `accounts`."""
    data = _ACCOUNTS.decode(body).data[0]
    contact = data.attributes.contact_information if data.attributes else None
    return Account(data.id, contact.organization_name if contact else None)


def _found(attempt: Attempt | None) -> Account | None:
    if attempt is None or attempt.answer is None or attempt.kind != "accepted":
        return None
    return account_of(attempt.answer.body)


def _ahead(attempt: Attempt | None) -> float | None:
    """Compare the clocks; the answer's Date has whole seconds."""
    told = attempt.answer.headers.get("Date") if attempt and attempt.answer else None
    try:
        moment = parsedate_to_datetime(told) if told else None
    except ValueError:
        moment = None
    return SYSTEM.now() - moment.timestamp() if moment else None


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
            if not status:
                return "unauthorized", "there is nothing to log in with"
            return "unauthorized", f"Klaviyo does not know the credential ({status})"
        case "forbidden":
            return "forbidden", f"the credential lacks the scope accounts:read ({status})"
        case "retired":
            return "revision_retired", f"the revision is not served ({status})"
        case "throttled":
            return "unreachable", "somebody uses up the quota of get_accounts (429)"
        case "refused" | "too_large" | "outage" | "unexpected":
            if not status:
                return "unreachable", f"no answer ({explain(attempt.reason)})"
            return "unreachable", f"unexpected answer {status}{_said(attempt.faults)}"


def _said(faults: tuple[Fault, ...]) -> str:
    return "".join(f"; {fault.safe}" for fault in faults)
