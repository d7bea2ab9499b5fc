"""The operations of a revision, with their limits, filters and body validators.

Read from the files that `derive.py` wrote. Validators are compiled on first use, once per
revision and operation.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec

__all__ = [
    "REVISIONS",
    "Operation",
    "operations",
    "paths_before",
    "route",
    "validator",
]

_FOLDER = Path(__file__).parent

REVISIONS = tuple(sorted(file.stem for file in _FOLDER.glob("*.json")))


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One operation of one revision; the fields are described in `derive.py`."""

    name: str
    method: str
    path: str
    burst: int  # requests per second
    steady: int  # requests per minute
    success: list[int]
    scopes: list[str]
    daily: int | None = None
    extra: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    filter: dict[str, list[str]] = msgspec.field(default_factory=dict)
    sort: list[str] = msgspec.field(default_factory=list)
    page: tuple[int, int] | None = None
    body: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """Method and path, the name that is the same in every revision."""
        return f"{self.method} {self.path}"


class _File(msgspec.Struct):
    revision: str
    operations: list[Operation]


def _load(revision: str) -> dict[str, Operation]:
    raw = (_FOLDER / f"{revision}.json").read_bytes()
    found = msgspec.json.decode(raw, type=_File).operations
    return {operation.key: operation for operation in found}


# Read when the module is imported: nothing may read files in the event loop.
_OPERATIONS = {revision: _load(revision) for revision in REVISIONS}


def operations(revision: str) -> dict[str, Operation]:
    """Return the operations of `revision` by `Operation.key`."""
    return _OPERATIONS[revision]


@cache
def validator(revision: str, key: str) -> jsonschema_rs.Validator | None:
    """Return the compiled body schema, or None when the operation takes no body."""
    schema = operations(revision)[key].body
    return None if schema is None else jsonschema_rs.validator_for(schema)


@cache
def _patterns(revision: str) -> list[tuple[re.Pattern[str], str]]:
    """Paths with {braces}, longest first so that the most specific one wins."""
    templates = {o.path for o in operations(revision).values() if "{" in o.path}
    return [
        (re.compile(re.sub(r"\{[a-z_]+\}", "([^/]+)", template)), template)
        for template in sorted(templates, key=len, reverse=True)
    ]


@cache
def _plain(revision: str) -> frozenset[str]:
    return frozenset(o.path for o in operations(revision).values() if "{" not in o.path)


def route(revision: str, path: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the template that `path` (no trailing slash) fits, and the values in it."""
    if path in _plain(revision):
        return path, ()
    for pattern, template in _patterns(revision):
        if match := pattern.fullmatch(path):
            return template, match.groups()
    return None


def paths_before(revision: str, path: str) -> bool:
    """Tell whether `path` was part of a revision older than `revision`."""
    return any(route(older, path) for older in REVISIONS if older < revision)
