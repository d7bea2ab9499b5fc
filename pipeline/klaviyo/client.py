"""The endpoints of Klaviyo that we use, one method each.

Paths, statuses and answers from Klaviyo's OpenAPI documents 2024-02-15 ... 2026-07-15.
The paths have no trailing slash: redirects are not followed.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from pipeline.klaviyo import held, listing
from pipeline.klaviyo.call import Accepted, Call, Refused
from pipeline.klaviyo.existing import Existing
from pipeline.klaviyo.family import Permit
from pipeline.klaviyo.limits import Limits
from pipeline.klaviyo.look import Account, Look, account_of, accounts
from pipeline.klaviyo.portion import Portion
from pipeline.klaviyo.scopes import Scopes
from pipeline.klaviyo.session import Session
from pipeline.klaviyo.subscriptions import Subscriptions

__all__ = ["Client", "ImportJob"]

_OK: Final = frozenset({200})
_OK_OR_CREATED: Final = frozenset({200, 201})
_TAKEN: Final = frozenset({202})
PAGES: Final = 10  # of 200 events each; more of one customer in one second is no order


class _Identified(msgspec.Struct):
    id: str


class _Resource(msgspec.Struct):
    data: _Identified


class _JobAttributes(msgspec.Struct):
    status: str  # queued, processing, complete or cancelled
    failed_count: int | None = None


class ImportJob(msgspec.Struct):
    """A profile bulk import, as it stands."""

    id: str
    attributes: _JobAttributes

    @property
    def ended(self) -> bool:
        """Whether it will change nothing more."""
        return self.attributes.status in {"complete", "cancelled"}


class _Job(msgspec.Struct):
    data: ImportJob


class _Source(msgspec.Struct, frozen=True):
    pointer: str = ""


class _ErrorAttributes(msgspec.Struct):
    source: _Source = _Source()


class _ImportError(msgspec.Struct):
    attributes: _ErrorAttributes


class _Links(msgspec.Struct, frozen=True):
    next: str | None = None


class _Jobs(msgspec.Struct):
    data: list[ImportJob]
    links: _Links = _Links()


class _ImportErrors(msgspec.Struct):
    data: list[_ImportError]
    links: _Links = _Links()


_RESOURCE: Final = msgspec.json.Decoder(_Resource)
_JOBS: Final = msgspec.json.Decoder(_Jobs)
_WORKING: Final = urlencode(
    {
        "filter": 'any(status,["queued","processing"])',
        "sort": "created_at",
        "page[size]": 100,
    }
)
_JOB: Final = msgspec.json.Decoder(_Job)
_ERRORS: Final = msgspec.json.Decoder(_ImportErrors)


class Client:
    """Every method waits out limits, outages and a refused credential by itself."""

    def __init__(self, session: Session, limits: Limits) -> None:
        self._session = session
        self._limits = limits
        self.existing = Existing(session)
        self.subscriptions = Subscriptions(session)
        self.look = Look(session, limits)
        self.scopes = Scopes(session)

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

    def set_share(self, *portions: Portion) -> None:
        """Use as much of the account's quota as each of these has, from now on."""
        self._limits.set_share(*portions)

    async def accounts(self) -> Account:
        """Return the account of the credential; needs the scope accounts:read.

        Whoever starts waits here for as long as there is no account, so nothing is sent
        to an address where Klaviyo is not.
        """
        answer = await self._session.send(accounts())
        assert isinstance(answer, Accepted)  # noqa: S101 - it asks for nothing: retry.py
        return account_of(answer.body)

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

    @staticmethod
    def id_of(written: Accepted) -> str:
        """Return Klaviyo's id of the profile that `import_profile` wrote."""
        resource: _Resource = _RESOURCE.decode(written.body)
        return resource.data.id

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

    async def import_profiles(
        self, body: bytes, permit: Permit | None = None
    ) -> tuple[str, Accepted] | Refused:
        """Queue an import of up to 10,000 profiles; the id of the job to follow."""
        answer = await self._session.send(
            Call(
                "bulk_import_profiles",
                "POST",
                "/api/profile-bulk-import-jobs",
                _TAKEN,
                body,
                _RESOURCE,
                permit,
            )
        )
        if isinstance(answer, Refused):
            return answer
        return _RESOURCE.decode(answer.body).data.id, answer

    async def import_jobs(self) -> list[ImportJob]:
        """Return the 100 youngest import jobs of the account, the youngest first."""
        answer = await self._session.send(
            Call(
                "get_bulk_import_profiles_jobs",
                "GET",
                "/api/profile-bulk-import-jobs?sort=-created_at&page%5Bsize%5D=100",
                _OK,
                proof=_JOBS,
            )
        )
        return _JOBS.decode(answer.body).data if isinstance(answer, Accepted) else []

    async def working_jobs(self) -> list[ImportJob]:
        """Return all import jobs of the account that have not ended, however many."""
        jobs: list[ImportJob] = []
        query: str | None = _WORKING
        while query is not None:
            answer = await self._session.send(
                Call(
                    "get_bulk_import_profiles_jobs",
                    "GET",
                    f"/api/profile-bulk-import-jobs?{query}",
                    _OK,
                    proof=_JOBS,
                )
            )
            if isinstance(answer, Refused):  # it has changed while it was read
                return await self.import_jobs()
            page = _JOBS.decode(answer.body)
            jobs += page.data
            query = urlsplit(page.links.next).query if page.links.next else None
        return jobs

    async def import_job(self, job: str) -> ImportJob | None:
        """Look at one import job; None if there is none of that id."""
        answer = await self._session.send(
            Call(
                "get_bulk_import_profiles_job",
                "GET",
                f"/api/profile-bulk-import-jobs/{quote(job, safe='')}",
                _OK,
                proof=_JOB,
            )
        )
        return _JOB.decode(answer.body).data if isinstance(answer, Accepted) else None

    async def import_errors(self, job: str) -> list[str]:
        """Return the pointers to the rows that an import job could not store."""
        pointers: list[str] = []
        path = f"/api/profile-bulk-import-jobs/{quote(job, safe='')}/import-errors"
        query: str | None = "page%5Bsize%5D=100"
        while query is not None:
            answer = await self._session.send(
                Call(
                    "get_errors_for_bulk_import_profiles_job",
                    "GET",
                    f"{path}?{query}",
                    _OK,
                    proof=_ERRORS,
                )
            )
            if isinstance(answer, Refused):
                break
            page = _ERRORS.decode(answer.body)
            pointers += [error.attributes.source.pointer for error in page.data]
            # Only the query is theirs: no link leads us to another host or path.
            query = urlsplit(page.links.next).query if page.links.next else None
        return pointers

    async def profile(self, kind: str, value: str) -> held.Profile | held.Unread | None:
        """Return who has that external_id, email or phone_number; one attempt.

        It halts nothing: the scope profiles:read is for the audit alone.
        """
        path = held.profiles_path(kind, value)
        attempt = await self._session.once(
            Call("get_profiles", "GET", path, _OK, proof=held.PROFILES)
        )
        if attempt.kind != "accepted" or attempt.answer is None:
            return held.Unread(attempt.kind)
        found = held.PROFILES.decode(attempt.answer.body).data
        return found[0] if found else None

    async def events(
        self, profile: str, at: datetime
    ) -> Sequence[held.Event] | held.Unread:
        """Return the events of a profile (Klaviyo's id) in the second of `at`.

        One attempt a page, which halts nothing: the scope events:read is for the audit
        alone.
        """
        found: list[held.Event] = []
        cursor = ""
        for _ in range(PAGES):
            path = held.events_path(profile, at, cursor)
            attempt = await self._session.once(
                Call("get_events", "GET", path, _OK, proof=held.EVENTS)
            )
            if attempt.kind != "accepted" or attempt.answer is None:
                return held.Unread(attempt.kind)
            page = held.EVENTS.decode(attempt.answer.body)
            found += page.events()
            if not (cursor := page.following()):
                return found
        return held.Unread("too_large")

    def now(self) -> float | None:
        """Klaviyo's own clock, Unix seconds, by its latest answer; None before it."""
        return self._session.now()

    async def profiles(self, path: str) -> listing.Page | Refused:
        """Return a page of profiles; `path` is of `listing.query` or the page before.

        Raises `listing.ForeignLink`, and `TooMuch` when a smaller page may do.
        """
        answer = await self._session.send(
            Call("get_profiles", "GET", path, _OK, proof=listing.PROOF, divisible=True)
        )
        if isinstance(answer, Refused):
            return answer
        return listing.page(answer.body, self._session.api_url)
