"""Serve one call: credential, revision, route, limits, structure, and then the data.

The order in which a call can fail: 401 (key), 400 or 410 (revision), 404, 405 or 410
(path), 403 (scope), 429 (limits), 413 and 415 (body), 400 (structure), and what the data
says. A call that fails before the limits spends nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.sandbox.auth import authenticate, authorize
from pipeline.sandbox.clock import Clock
from pipeline.sandbox.faults import Faults
from pipeline.sandbox.ledger import Ledger
from pipeline.sandbox.oauth import OAuth
from pipeline.sandbox.readers import Readers
from pipeline.sandbox.revision import ASKED, SERVED, alive, serve, shapes
from pipeline.sandbox.routes import handlers
from pipeline.sandbox.settings import Settings
from pipeline.sandbox.state import State
from pipeline.sandbox.structure.load import Operation, operations, paths_before, route
from pipeline.sandbox.validate import check
from pipeline.sandbox.windows import Windows
from pipeline.sandbox.wire import Answer, Call, Problem, Refused, dump

__all__ = ["Account", "Admitted", "Asked"]

_MEDIA = ("application/json", "application/vnd.api+json")
_ENCODINGS = ("", "identity", "gzip", "deflate")


@dataclass(slots=True)
class Asked:
    """A request as it arrived; `body` and `fault` come from `validate.loads`."""

    method: str
    path: str  # without trailing slash
    headers: Mapping[str, str]
    query: Mapping[str, str]
    origin: str
    raw: bytes
    body: Any
    fault: str | None
    operation: str = ""  # method and path template, as far as it is known


@dataclass(slots=True)
class Admitted:
    """A request that passed everything up to the limits, and the headers it earned."""

    operation: Operation
    revision: str
    path: tuple[str, ...]
    headers: dict[str, str]


class Account:
    """All that a reset of the sandbox replaces."""

    def __init__(self, clock: Clock, settings: Settings, seed: int) -> None:
        """Start empty."""
        self.clock = clock
        self.state = State(clock, settings, seed)
        self.ledger = Ledger(clock, settings)
        self.windows = Windows(clock)
        self.faults = Faults(clock, seed)
        self.oauth = OAuth(clock)
        self._handlers = handlers(Readers(self.state))

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.state.settings

    @settings.setter
    def settings(self, value: Settings) -> None:
        self.state.settings = value
        self.ledger.keep(value.keep_requests)

    def operation(self, asked: Asked) -> str:
        """Return method and path template of a request, "" for an unknown path."""
        newest = shapes(alive(self.settings.today)[-1])
        found = route(newest, asked.path)
        return "" if found is None else f"{asked.method} {found[0]}"

    def admit(self, asked: Asked) -> Admitted:
        """Take a request through to the limits; raise `Refused` where it fails."""
        headers: dict[str, str] = {}
        try:
            served = serve(asked.headers, self.settings.today)
            headers[SERVED] = served
        except Refused:
            authenticate(asked.headers, self.settings, self.oauth)
            raise
        try:
            install = authenticate(asked.headers, self.settings, self.oauth)
            operation, values = _routed(shapes(served), asked)
            authorize(operation, self.settings, install)
            headers |= self.windows.spend(operation, asked.query, self.settings)
        except Refused as refused:
            refused.headers = headers | refused.headers
            raise
        return Admitted(operation, served, values, headers)

    def answer(
        self, asked: Asked, admitted: Admitted, number: int
    ) -> tuple[Answer, bool]:
        """Process an admitted request; the flag says that a job goes on writing."""
        state, operation = self.state, admitted.operation
        self._check_body(asked, operation)
        check(operation, shapes(admitted.revision), asked.body, asked.fault)
        call = Call(
            operation,
            admitted.revision,
            admitted.path,
            asked.query,
            asked.origin + asked.path,
            asked.origin,
            asked.body,
            asked.raw,
            self.clock.now(),
            lambda: self.ledger.end(number),
        )
        state.catch_up()
        answer = self._handlers[operation.key](state, call)
        return answer, call.held

    def _check_body(self, asked: Asked, operation: Operation) -> None:
        if len(asked.raw) > self.settings.max_body:
            detail = "The payload must not exceed 5 MB."
            raise Refused(413, [Problem(detail, title="Payload too large.")])
        if operation.body is None:
            return
        media = asked.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        encoding = asked.headers.get("Content-Encoding", "").strip().lower()
        if media not in _MEDIA or encoding not in _ENCODINGS:
            detail = f"Unsupported media type '{media}' or encoding '{encoding}'."
            raise Refused(415, [Problem(detail, title="Unsupported media type.")])

    def refusal(self, refused: Refused) -> Answer:
        """Return the error document of a refused call."""
        errors = [
            problem.document(refused.status, self.state.ids.uuid())
            for problem in refused.problems
        ]
        return Answer(refused.status, dump({"errors": errors}), refused.headers)

    def requested(self, asked: Asked) -> str:
        """Return the revision header as it was sent."""
        return asked.headers.get(ASKED, "")


def _routed(revision: str, asked: Asked) -> tuple[Operation, tuple[str, ...]]:
    found = route(revision, asked.path)
    if found is None:
        gone = paths_before(revision, asked.path)
        problem = Problem(
            f"{asked.path} does not exist in revision {revision}.",
            code="gone" if gone else "not_found",
            title="Gone." if gone else "Not found.",
        )
        raise Refused(410 if gone else 404, [problem])
    operation = operations(revision).get(f"{asked.method} {found[0]}")
    if operation is None:
        problem = Problem(
            f'Method "{asked.method}" not allowed.',
            code="method_not_allowed",
            title="Method not allowed.",
        )
        raise Refused(405, [problem])
    return operation, found[1]
