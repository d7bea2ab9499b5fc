"""What goes over the wire: a call, an answer, and the error document.

An error answer is `{"errors": [{id, status, code, title, detail, source, links, meta}]}`
and `status` is a number. Source: Klaviyo, "Rate limits, status codes, and errors".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from pipeline.sandbox.structure.load import Operation

__all__ = ["Answer", "Call", "Json", "Problem", "Refused", "dump", "not_found"]

Json: TypeAlias = dict[str, Any]

dump = orjson.dumps


@dataclass(frozen=True, slots=True)
class Problem:
    """One entry of an error document; `pointer` names the place in the body."""

    detail: str
    pointer: str | None = None
    code: str = "invalid"
    title: str = "Invalid input."
    parameter: str | None = None
    meta: Json = field(default_factory=dict)

    def document(self, status: int, identifier: str) -> Json:
        """Return the entry as Klaviyo writes it."""
        source = (
            {"parameter": self.parameter}
            if self.parameter is not None
            else {"pointer": self.pointer or "/data"}
        )
        return {
            "id": identifier,
            "status": status,
            "code": self.code,
            "title": self.title,
            "detail": self.detail,
            "source": source,
            "links": {},
            "meta": self.meta,
        }


class Refused(Exception):
    """The call is answered with an error document and changes nothing."""

    def __init__(
        self,
        status: int,
        problems: Sequence[Problem],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Keep what the error answer is made of."""
        super().__init__(status, problems)
        self.status = status
        self.problems = problems
        self.headers = dict(headers or {})


def not_found(detail: str, pointer: str | None = None) -> Refused:
    """Return a 404 in Klaviyo's words."""
    return Refused(404, [Problem(detail, pointer, code="not_found", title="Not found.")])


@dataclass(slots=True)
class Call:
    """One request that passed authorization, routing and the limits."""

    operation: Operation
    revision: str  # the one served, which decides the shapes
    path: tuple[str, ...]  # the values of the {braces} in the operation's path
    query: Mapping[str, str]
    url: str  # scheme, host and path, for links
    origin: str  # scheme and host, for links
    body: Any  # the JSON value, valid against the operation's schema; None without one
    raw: bytes  # the body's bytes, for size limits
    now: float  # Unix seconds
    release: Callable[[], None] = lambda: None  # ends the write in the ledger
    held: bool = False  # a job goes on writing and calls `release` itself


@dataclass(slots=True)
class Answer:
    """Status, body bytes and headers of an answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, status: int, value: object) -> "Answer":
        """Return an answer whose body is `value` as JSON."""
        return cls(status, dump(value))
