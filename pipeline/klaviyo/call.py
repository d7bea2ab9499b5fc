"""A call to Klaviyo, and what may come of it."""

from typing import Any

import msgspec

from pipeline.klaviyo.family import Permit
from pipeline.klaviyo.retry import Fault, Kind
from pipeline.klaviyo.wire import Answer

__all__ = ["Accepted", "Attempt", "Call", "Refused"]


class Call(msgspec.Struct):
    """One thing to ask of Klaviyo. `path` starts with /api and is percent-encoded."""

    operation: str  # a key of QUOTAS
    method: str
    path: str
    accepted: frozenset[int]  # the statuses documented as success
    body: bytes | None = None
    proof: msgspec.json.Decoder[Any] | None = None  # what a good answer's body must be
    permit: Permit | None = None  # acquired before; ended here
    divisible: bool = False  # raise `TooMuch` when the answer is too large
    attempts: int = 0

    def __repr__(self) -> str:  # the body and the query are a customer's
        return f"Call({self.operation}, attempts={self.attempts})"


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """Klaviyo did it, or took it for processing (202)."""

    status: int
    body: bytes
    attempts: int

    def __repr__(self) -> str:  # the body is a customer's
        return f"Accepted({self.status}, attempts={self.attempts})"


class Refused(msgspec.Struct, frozen=True):
    """The request's own fault: 400, 404, 409, 422, or 413 for its size."""

    status: int
    faults: tuple[Fault, ...]
    attempts: int


class Attempt(msgspec.Struct, gc=False):
    """What one attempt came to. `reason` is the label of a repetition."""

    kind: Kind
    reason: str
    answer: Answer | None = None  # None: no answer came
    faults: tuple[Fault, ...] = ()
    excused: bool = False  # refused for a credential not in force any more, or not yet
    sent: float = 0.0  # monotonic s
