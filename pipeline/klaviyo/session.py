"""The way of a call to Klaviyo and back, outermost first.

    retry   until Klaviyo has said yes or no; outages, 429 and a refused credential are
            waited out for ever, visibly: metrics, /readyz, halts
    limit   a permit of the operation's family, a connection; the headers go back
    metrics duration, status; a span, if tracing is on
    auth    the Authorization header in force for this attempt
    wire    bytes out, bytes in, and what the answer means

The inner three are in steps.py.

Why not aiohttp's own client middlewares: they run inside one `ClientSession._request`,
whose total time-out spans all of them (aiohttp 3.14, client.py: the TimeoutHandle is
started before `build_client_middlewares`), so a wait for a permit or a back-off would eat
the attempt's 30 s; and they see a ClientRequest, which knows no operation.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

from pipeline.clock import Clock
from pipeline.klaviyo.absence import Absence
from pipeline.klaviyo.auth import Credential
from pipeline.klaviyo.backoff import backoff
from pipeline.klaviyo.call import Accepted, Attempt, Call, Refused
from pipeline.klaviyo.connections import Connections
from pipeline.klaviyo.family import BURST, STEADY, Family, Permit
from pipeline.klaviyo.halts import Halts
from pipeline.klaviyo.headers import unix
from pipeline.klaviyo.limits import Limits
from pipeline.klaviyo.quotas import QUOTAS
from pipeline.klaviyo.retry import Kind
from pipeline.klaviyo.revision import Revision
from pipeline.klaviyo.steps import OVERSIZE, authorise, judge, measure, trace
from pipeline.klaviyo.trust import SYSTEM, Trust
from pipeline.klaviyo.wire import TooMuch, Wire
from pipeline.observe.health import Halt, Health
from pipeline.observe.metrics import Metrics

if TYPE_CHECKING:  # OpenTelemetry is an extra, and off
    from pipeline.observe.tracing import Tracing

__all__ = ["Session"]

_HALTS: Final[dict[Kind, Halt]] = {
    "unauthorized": "unauthorized",
    "forbidden": "forbidden",
    "retired": "revision_retired",
}


class Session:
    """Sends calls. One for the whole process; `async with` opens and closes it."""

    def __init__(
        self,
        *,
        api_url: str,
        agent: str,
        credential: Credential,
        revision: Revision,
        limits: Limits,
        connections: int,
        health: Health,
        metrics: Metrics,
        clock: Clock,
        chance: Callable[[], float],
        trust: Trust = SYSTEM,
        tracing: "Tracing | None" = None,
    ) -> None:
        """`agent` is the User-Agent; `chance` draws from [0, 1) for the back-off.

        At most `connections` are in use at a time.
        """
        self.revision = revision
        self.api_url = api_url
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._chance = chance
        self._health = health
        self._credential = credential
        self._wire = Wire(api_url, agent, revision, trust)
        self._connections = Connections(connections)
        self._halts = Halts(health, credential, clock)
        self._absence = Absence(health, clock, api_url)
        self._waited: dict[str, float] = {}
        self._dated: tuple[str | None, float] = None, 0.0  # the latest Date, and when
        self._read: tuple[str | None, float | None] = None, None  # the same, as a number
        self._families: dict[str, Family] = {}
        step = authorise(credential, judge(self._wire, revision))
        if tracing is not None:
            step = trace(step, tracing)
        self._measured = measure(step, metrics, clock)

    async def __aenter__(self) -> Self:
        self._wire.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._wire.close()

    def now(self) -> float | None:
        """Return Klaviyo's clock, Unix seconds, never ahead of it; None if unknown."""
        date, at = self._dated
        if date != self._read[0]:
            self._read = date, unix(date)
        known = self._read[1]
        return None if known is None else known + self._clock.monotonic() - at

    async def ready(self, operation: str) -> None:
        """Return when a call of `operation` could go at once; for its one batcher."""
        started = self._clock.monotonic()
        await self._family(operation).free()
        waited = self._clock.monotonic() - started
        self._waited[operation] = self._waited.get(operation, 0.0) + waited

    def free_now(self, operation: str) -> bool:
        """Whether a call of `operation` could go at once."""
        return self._family(operation).free_now()

    async def acquire(self, operation: str) -> Permit:
        """Wait for the right to send one call of `operation`."""
        started = self._clock.monotonic()
        permit = await self._family(operation).acquire()
        waited = self._clock.monotonic() - started + self._waited.pop(operation, 0.0)
        self._metrics.throttle_wait.labels(operation).observe(waited)
        return permit

    async def send(self, call: Call) -> Accepted | Refused:
        """Send until Klaviyo accepts or refuses; cancelling it is no outcome.

        Raises `TooMuch` if the call is divisible.
        """
        failures = 0
        try:
            while True:
                probe = await self._enter(call)
                try:
                    attempt = await self._attempt(call, halting=not probe)
                finally:
                    if probe:
                        self._halts.leave()
                if attempt is None:  # a halt began while it waited for its permit
                    continue
                if (end := self._end(call, attempt, probe=probe)) is not None:
                    return end
                self._metrics.api_retries.labels(call.operation, attempt.reason).inc()
                if attempt.kind in _HALTS:
                    continue
                if attempt.reason == OVERSIZE and call.divisible:
                    self._absence.answered(call.operation)
                    raise TooMuch
                failures += 1
                await self._wait(call.operation, attempt, failures)
        finally:
            if failures:
                self._absence.left(call.operation)
            if call.permit is not None:
                call.permit.unused()

    async def once(self, call: Call) -> Attempt:
        """One attempt, whatever comes of it, halting nothing: for `check`.

        One more if it was refused for a credential that is not in force.
        """
        while True:
            attempt = await self._attempt(call, halting=False)
            if attempt is None:
                raise AssertionError("only a halting attempt gives way to a halt")
            if not attempt.excused:
                return attempt

    # -- retry ----------------------------------------------------------------------

    async def _enter(self, call: Call) -> bool:
        if self._halts.halted and call.permit is not None:
            # Its slot, and its role as the gate's probe, are for whoever may send.
            call.permit.unused()
            call.permit = None
        return await self._halts.enter(call.operation)

    def _end(
        self, call: Call, attempt: Attempt, *, probe: bool
    ) -> Accepted | Refused | None:
        answer = attempt.answer
        match attempt.kind:
            case "accepted" | "refused" | "too_large":
                self._absence.answered(call.operation)
                if probe:
                    self._halts.proved(call.operation)
                assert answer is not None  # noqa: S101 - the kinds of an answer
                if attempt.kind == "accepted":
                    self._dated = answer.headers.get("Date"), self._clock.monotonic()
                    return Accepted(answer.status, answer.body, call.attempts)
                return Refused(answer.status, attempt.faults, call.attempts)
            case "unauthorized" | "forbidden" | "retired":
                self._absence.answered(call.operation)
                if not attempt.excused and attempt.sent >= self._halts.resumed:
                    self._halts.refused(
                        call.operation,
                        self._credential.halt
                        if attempt.kind == "unauthorized"
                        else _HALTS[attempt.kind],
                        self._advice(call.operation, attempt),
                        probe=probe,
                    )
            case "throttled" | "outage" | "unexpected":
                pass
        return None

    async def _wait(self, operation: str, attempt: Attempt, failures: int) -> None:
        pause = 0.0  # a 429 pauses the family, not the call
        if attempt.kind != "throttled":
            pause = backoff(failures, self._chance())
        if failures == 1:
            self._absence.joined(operation, attempt.sent)
        self._absence.failed(
            operation, attempt.reason, max(pause, self._family(operation).closed_for())
        )
        if pause:
            await asyncio.sleep(pause)

    def _advice(self, operation: str, attempt: Attempt) -> str:
        """Say what is wrong and what to do about it."""
        status = attempt.answer.status if attempt.answer else 0
        match attempt.kind:
            case "unauthorized":
                if not status:
                    return self._credential.cure
                return (
                    f"Klaviyo does not know the credential ({status} for {operation}): "
                    f"{self._credential.cure}"
                )
            case "forbidden":
                return (
                    f"the credential may not do {operation} ({status}), which needs "
                    f"{QUOTAS[operation].scopes}; {self._credential.scope_cure}"
                )
            case _:
                return (
                    f"Klaviyo does not serve {operation} in revision "
                    f"{self.revision.asked} ({status}): set klaviyo.api_revision to a "
                    "newer one and restart"
                )

    # -- limit ----------------------------------------------------------------------

    async def _attempt(self, call: Call, *, halting: bool) -> Attempt | None:
        """One attempt with a permit and a connection; None if it gave way to a halt."""
        while True:
            permit, call.permit = call.permit, None
            if permit is None:
                permit = await self.acquire(call.operation)
            with permit:  # cancelled in flight: the slot is freed a window later
                await self._connect(call.operation, permit)
                try:
                    if halting and self._halts.halted:
                        permit.unused()
                        return None
                    if permit.overtaken:
                        permit.unused()
                        continue
                    return await self._measure(call, permit)
                finally:
                    self._connections.release(call.operation)

    async def _connect(self, operation: str, permit: Permit) -> None:
        try:
            await self._connections.acquire(operation)
        except asyncio.CancelledError:
            permit.unused()
            raise

    async def _measure(self, call: Call, permit: Permit) -> Attempt:
        call.attempts += 1
        attempt = await self._measured(call)
        if attempt.answer is None and attempt.kind == "unauthorized":
            permit.unused()  # not sent: nothing to log in with
        elif attempt.answer is None:
            permit.failed()
        else:
            permit.answered(
                attempt.answer.status,
                attempt.answer.headers,
                failure=attempt.kind in ("outage", "unexpected"),
            )
        return attempt

    def _family(self, operation: str) -> Family:
        if (known := self._families.get(operation)) is not None:
            return known
        family = self._families[operation] = self._limits.family(operation)
        used = self._metrics.quota_used
        used.labels(operation, "burst").set_function(lambda: family.used(BURST))
        used.labels(operation, "steady").set_function(lambda: family.used(STEADY))
        return family
