"""Which profiles a write touches: the witness of order per customer.

A key is ("id", profile id) or (kind, identifier). A body may be anything here, also one
that will be refused, so nothing about its shape is taken for granted.
"""

from collections.abc import Callable, Iterable, Iterator

from pipeline.sandbox.profile import IDENTIFIERS
from pipeline.sandbox.profiles import Profiles, folded
from pipeline.sandbox.wire import Json

__all__ = ["Key", "rows", "touched"]

Key = tuple[str, str]


def _at(value: object, *path: str) -> object:
    """Walk into JSON objects; None where the path ends early."""
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _each(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else ()


def _one(body: object) -> Iterator[object]:
    yield _at(body, "data")


def _rows(body: object) -> Iterator[object]:
    yield from _each(_at(body, "data", "attributes", "profiles", "data"))


def _event(body: object) -> Iterator[object]:
    yield _at(body, "data", "attributes", "profile", "data")


def _events(body: object) -> Iterator[object]:
    for entry in _each(_at(body, "data", "attributes", "events-bulk-create", "data")):
        yield _at(entry, "attributes", "profile", "data")


def _members(body: object) -> Iterator[object]:
    yield from _each(_at(body, "data"))


def _merged(body: object) -> Iterator[object]:
    yield _at(body, "data")
    yield from _each(_at(body, "data", "relationships", "profiles", "data"))


_PEOPLE: dict[str, Callable[[object], Iterator[object]]] = {
    "POST /api/profiles": _one,
    "PATCH /api/profiles/{id}": _one,
    "POST /api/profile-import": _one,
    "POST /api/profile-merge": _merged,
    "POST /api/profile-bulk-import-jobs": _rows,
    "POST /api/events": _event,
    "POST /api/event-bulk-create-jobs": _events,
    "POST /api/profile-subscription-bulk-create-jobs": _rows,
    "POST /api/profile-subscription-bulk-delete-jobs": _rows,
    "POST /api/profile-suppression-bulk-create-jobs": _rows,
    "POST /api/profile-suppression-bulk-delete-jobs": _rows,
    "POST /api/lists/{id}/relationships/profiles": _members,
    "DELETE /api/lists/{id}/relationships/profiles": _members,
    "POST /api/data-privacy-deletion-jobs": _event,
}


def touched(operation: str, body: object, profiles: Profiles) -> set[Key]:
    """Return the keys of every profile that a call to `operation` would change."""
    people = _PEOPLE.get(operation)
    keys: set[Key] = set()
    if people is None or body is None:
        return keys
    for person in people(body):
        if not isinstance(person, dict):
            continue
        _add(keys, "id", person.get("id"), profiles)
        attributes = person.get("attributes")
        if isinstance(attributes, dict):
            for kind in IDENTIFIERS:
                _add(keys, kind, attributes.get(kind), profiles)
    return keys


def _add(keys: set[Key], kind: str, value: object, profiles: Profiles) -> None:
    if not isinstance(value, str) or not value:
        return
    keys.add((kind, folded(kind, value)))
    if kind != "id" and (owner := profiles.owner(kind, value)):
        keys.add(("id", owner.id))


def rows(operation: str, body: Json | None) -> int:
    """Return how many rows a call carries: events, profiles or ids; 1 for the others."""
    if operation == "POST /api/event-bulk-create-jobs":
        entries = _each(_at(body, "data", "attributes", "events-bulk-create", "data"))
        return sum(
            len(list(_each(_at(entry, "attributes", "events", "data"))))
            for entry in entries
        )
    people = _PEOPLE.get(operation)
    if people in (_rows, _members) and people is not None:
        return sum(1 for _ in people(body))
    return 1
