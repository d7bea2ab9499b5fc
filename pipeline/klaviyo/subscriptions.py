"""The endpoints about consent and lists, one method each.

Paths, statuses and answers from Klaviyo's OpenAPI documents 2024-02-15 ... 2026-07-15.
The jobs have no id and no status: 202 is all that is ever said of them.
"""

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec

from pipeline.klaviyo import people
from pipeline.klaviyo.call import Accepted, Call, Refused
from pipeline.klaviyo.people import Kind, Person
from pipeline.klaviyo.session import Session

__all__ = ["Group", "Subscriptions"]

_OK: Final = frozenset({200})
_CREATED: Final = frozenset({201})
_TAKEN: Final = frozenset({202})
_DONE: Final = frozenset({204})
_SUBSCRIBE: Final = "/api/profile-subscription-bulk-create-jobs"
PAGES: Final = 10  # of 10 lists each, all of one name


class _ListAttributes(msgspec.Struct):
    name: str = ""
    created: str = ""


class Group(msgspec.Struct):
    """One list of the account."""

    id: str
    attributes: _ListAttributes

    @property
    def age(self) -> tuple[str, str]:
        """What the oldest has least of."""
        return self.attributes.created, self.id


class _Links(msgspec.Struct, frozen=True):
    next: str | None = None


class _Lists(msgspec.Struct):
    data: list[Group]
    links: _Links = _Links()


class _List(msgspec.Struct):
    data: Group


_LISTS: Final = msgspec.json.Decoder(_Lists)
_LIST: Final = msgspec.json.Decoder(_List)


class Subscriptions:
    """Every method waits out limits, outages and a refused credential by itself."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def people(self, kind: Kind, values: Sequence[str]) -> list[Person] | Refused:
        """Return who has these; values of `people.portions`."""
        answer = await self._session.send(
            Call(
                "get_profiles",
                "GET",
                people.path(kind, values),
                _OK,
                proof=people.PEOPLE,
            )
        )
        if isinstance(answer, Refused):
            return answer
        found: list[Person] = people.PEOPLE.decode(answer.body).people()
        return found

    async def lists(self, name: str) -> list[Group]:
        """Return the lists of exactly that name; names need not be unique."""
        wanted = quote(f"equals(name,{msgspec.json.encode(name).decode()})", safe="")
        query: str | None = f"filter={wanted}"
        found: list[Group] = []
        for _ in range(PAGES):
            answer = await self._session.send(
                Call("get_lists", "GET", f"/api/lists?{query}", _OK, proof=_LISTS)
            )
            if isinstance(answer, Refused):
                break
            page = _LISTS.decode(answer.body)
            found += [each for each in page.data if each.attributes.name == name]
            # Only the query is theirs: no link leads us to another host or path.
            query = urlsplit(page.links.next).query if page.links.next else None
            if query is None:
                break
        return found

    async def create_list(self, body: bytes) -> str | Refused:
        """Create a list; its id."""
        answer = await self._session.send(
            Call("create_list", "POST", "/api/lists", _CREATED, body, _LIST)
        )
        if isinstance(answer, Refused):
            return answer
        group: Group = _LIST.decode(answer.body).data
        return group.id

    async def subscribe(self, body: bytes) -> Accepted | Refused:
        """Start a subscribe job."""
        return await self._session.send(
            Call("bulk_subscribe_profiles", "POST", _SUBSCRIBE, _TAKEN, body)
        )

    async def unsubscribe(self, body: bytes) -> Accepted | Refused:
        """Start an unsubscribe job."""
        path = "/api/profile-subscription-bulk-delete-jobs"
        return await self._session.send(
            Call("bulk_unsubscribe_profiles", "POST", path, _TAKEN, body)
        )

    async def add(self, group: str, body: bytes) -> Accepted | Refused:
        """Put profiles on a list; done when it returns, consent untouched."""
        return await self._session.send(
            Call("add_profiles_to_list", "POST", _members(group), _DONE, body)
        )

    async def remove(self, group: str, body: bytes) -> Accepted | Refused:
        """Take profiles off a list; done when it returns, consent untouched."""
        return await self._session.send(
            Call("remove_profiles_from_list", "DELETE", _members(group), _DONE, body)
        )


def _members(group: str) -> str:
    return f"/api/lists/{quote(group, safe='')}/relationships/profiles"
