"""The inner steps of an attempt; the outer ones, which remember, are in session.py.

metrics   duration, status
tracing   a span, if it is on
auth      the Authorization header in force for this attempt
wire      bytes out, bytes in, and what the answer means
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from prometheus_client import Counter, Histogram

from pipeline.clock import Clock
from pipeline.klaviyo.auth import Credential
from pipeline.klaviyo.call import Attempt, Call
from pipeline.klaviyo.retry import classify, faults, name_failure
from pipeline.klaviyo.revision import Revision
from pipeline.klaviyo.wire import TooMuch, Wire
from pipeline.observe.metrics import Metrics

if TYPE_CHECKING:  # OpenTelemetry is an extra, and off
    from pipeline.observe.tracing import Tracing

__all__ = ["OVERSIZE", "authorise", "judge", "measure", "trace"]

Step: TypeAlias = Callable[[Call], Awaitable[Attempt]]
Signed: TypeAlias = Callable[[Call, str], Awaitable[Attempt]]  # with the credential

OVERSIZE: Final = "oversize"
NONE: Final = "none"  # label of an attempt without an answer


def measure(step: Step, metrics: Metrics, clock: Clock) -> Step:
    """Time the step and count its answer."""
    known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}  # labels() is slow

    def series(operation: str, status: int) -> tuple[Counter, Histogram]:
        if (found := known.get((operation, status))) is None:
            text, group = (str(status), f"{status // 100}xx") if status else (NONE, NONE)
            found = known[operation, status] = (
                metrics.api_responses.labels(operation, text),
                metrics.api_request_seconds.labels(operation, group),
            )
        return found

    async def measured(call: Call) -> Attempt:
        started = clock.monotonic()
        attempt = await step(call)
        attempt.sent = started
        status = attempt.answer.status if attempt.answer else 0
        responses, seconds = series(call.operation, status)
        responses.inc()
        seconds.observe(clock.monotonic() - started)
        return attempt

    return measured


def trace(step: Step, tracing: "Tracing") -> Step:
    """A span for each attempt."""

    async def traced(call: Call) -> Attempt:
        with tracing.request(call.operation, call.method, call.attempts) as ended:
            attempt = await step(call)
            ended(attempt.answer.status if attempt.answer else 0, attempt.reason)
            return attempt

    return traced


def authorise(credential: Credential, step: Signed) -> Step:
    """Send with the credential in force; excuse a refusal of one that is not."""

    async def authorised(call: Call) -> Attempt:
        authorization = await credential.authorization()
        if not authorization:
            return Attempt("unauthorized", "unauthorized")
        attempt = await step(call, authorization)
        if attempt.kind == "unauthorized":
            attempt.excused = await credential.refused(authorization)
        if attempt.kind in ("unauthorized", "forbidden"):
            attempt.excused |= await credential.authorization() != authorization
        return attempt

    return authorised


def judge(wire: Wire, revision: Revision) -> Signed:
    """Send, and say what came of it."""

    async def judged(call: Call, authorization: str) -> Attempt:
        try:
            answer = await wire.send(call.method, call.path, call.body, authorization)
        except TooMuch:
            return Attempt("unexpected", OVERSIZE)
        except Exception as error:  # FAILURES tells ours to wait out from bugs
            if (reason := name_failure(error)) is None:
                raise
            return Attempt("outage", reason)
        revision.observe(answer.headers.get("X-Klaviyo-Api-Revision"))
        if answer.status in call.accepted:
            if call.proof is not None and not _proved(call.proof, answer.body):
                return Attempt("unexpected", "unexpected", answer)
            return Attempt("accepted", "", answer)
        # What stands in the way may quote the request; a fault's words are shown.
        secret = authorization.rpartition(" ")[2].encode()
        document = faults(answer.body.replace(secret, b"***"))
        kind = classify(call.operation, answer.status, call.accepted, document)
        return Attempt(kind, kind, answer, document)

    return judged


def _proved(proof: msgspec.json.Decoder[Any], body: bytes) -> bool:
    try:
        proof.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
