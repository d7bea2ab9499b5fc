"""When the next call may go: both server windows, the pace, the gate, the ceiling.

One `Family` per operation, since Klaviyo limits per endpoint. A call passes when every
bound lets it through:

    gate        the family is not paused by a 429 or an outage      (gate.py)
    windows     burst and steady, and a daily one if announced      (occupancy.py)
    remainder   what the server says is left for everybody          (remainder.py)
    pace        an AsyncLimiter, so that a backlog flows evenly
    ceiling     the user's own bound over all operations

Waiters are served in the order in which they came. Only the first of them looks at the
bounds; so there is one timer per family however many wait, and none while calls flow
freely.

Pure but for the clock: no I/O, no metrics; `session` reads `Family.used`.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Final, Self

import msgspec
from aiolimiter import AsyncLimiter

from pipeline.clock import Clock
from pipeline.klaviyo.gate import Gate
from pipeline.klaviyo.headers import number, rate_limits, retry_after
from pipeline.klaviyo.occupancy import Occupancy
from pipeline.klaviyo.portion import Portion
from pipeline.klaviyo.quotas import Quota
from pipeline.klaviyo.remainder import STEADY, Remainder

__all__ = ["BURST", "STEADY", "Ceiling", "Family", "Permit"]

BURST: Final = 1  # s; Klaviyo's short window
PACE: Final = 4.0  # s of the steady rate go at once; > 2 s, which a remainder holds back
BEHIND: Final = 0.005  # s; others look at the ceiling that much later, and find it taken
_TICK: Final = 0.001  # s; uvloop's timers are no finer
_NEVER_FULL: Final = 1440  # a day's limit above this many minutes' cannot be reached
_TOO_MANY, _TIMEOUT, _SERVER = 429, 408, 500  # statuses


class Permit:
    """The right to send one call. End it exactly once; more endings do nothing.

    As a context manager it ends itself when its holder is cancelled.
    """

    __slots__ = ("_ended", "_family", "closings", "probe", "sent", "windows")

    def __init__(
        self,
        family: "Family",
        windows: tuple[Occupancy, ...],
        sent: float,
        *,
        probe: bool,
    ) -> None:
        self._family = family
        self._ended = False
        self.closings = family.closings  # of the gate, until now
        self.windows = windows  # those it holds a slot of
        self.sent = sent  # monotonic s
        self.probe = probe  # of the gate

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.released()

    @property
    def overtaken(self) -> bool:
        """Whether the gate closed since: give it back `unused()` and acquire anew."""
        return self.closings != self._family.closings

    def answered(
        self, status: int, headers: Mapping[str, str], *, failure: bool | None = None
    ) -> None:
        """Take in an answer. `failure`: it counts as an outage; None: by its status."""
        if self._end():
            if failure is None:
                failure = status >= _SERVER or status == _TIMEOUT
            self._family.answered(self, status, headers, failure=failure)

    def failed(self) -> None:
        """End without an answer: time-out, reset, no connection."""
        if self._end():
            self._family.failed(self)

    def released(self) -> None:
        """Give up; the call may have been sent. Says nothing about the server."""
        if self._end():
            self._family.released(self)

    def unused(self) -> None:
        """Give the slots back at once: nothing was sent."""
        if self._end():
            self._family.unused(self)

    def _end(self) -> bool:
        ended, self._ended = self._ended, True
        return not ended


class Ceiling:
    """The user's own bound: at most `limit` calls in any `seconds`, all in all."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self.window = Occupancy(limit, seconds)

    def set_share(self, *portions: Portion) -> None:
        """Take as much of it as each of these has; one call at least."""
        # It bounds the deployment, however much of the account's quota that may use.
        pieces = (msgspec.structs.replace(portion, whole=1.0) for portion in portions)
        self.window.limit = max(1, min(each.calls(self._limit) for each in pieces))


class Family:
    """One operation's bounds and waiters."""

    def __init__(
        self,
        quota: Quota,
        clock: Clock,
        *,
        portions: tuple[Portion, ...],
        ceiling: Ceiling | None,
        chance: Callable[[], float],
        wake_all: Callable[[], None],
        burst: float = 1.0,
        spare: bool = False,
        first: bool = False,
    ) -> None:
        """`burst` is our part of that window, `spare` says that others come first.

        `first` is served before other families when they wait for the ceiling.
        """
        self.first = first
        self._clock = clock
        self._chance = chance
        self._portions = portions
        self._burst = burst
        self._spare = spare
        self._ceiling = ceiling
        self._wake_all = wake_all if ceiling else self.wake
        self._gate = Gate()
        self._remainder = Remainder()
        self._in_flight = 0
        self._turn = asyncio.Lock()  # first come, first served
        self._waiting = 0
        self._sleeper: asyncio.Future[None] | None = None
        self._told = ""  # the last RateLimit-Limit, as it came
        self.limits = {BURST: quota.burst, STEADY: quota.steady}  # of the account
        self._windows = {
            seconds: Occupancy(self._ours(seconds, calls), seconds)
            for seconds, calls in self.limits.items()
        }
        self._taken = tuple(self._windows.values()) + (
            (ceiling.window,) if ceiling else ()
        )
        self._pace = self._bucket()
        self._paid = 0  # calls that the pace has let through and that were not sent

    # -- for those who send ------------------------------------------------------

    async def acquire(self) -> Permit:
        """Wait for the right to send one call; cancelling it takes nothing."""
        self._waiting += 1
        try:
            async with self._turn:
                await self._until_free()
                if self._paid:
                    self._paid -= 1
                else:
                    await self._pace.acquire()  # does not wait: `_free_at` saw capacity
                return self._take()
        finally:
            self._waiting -= 1

    async def free(self) -> None:
        """Return when `acquire()` would succeed at once, nobody else waiting.

        For the one task that composes requests for this operation, to do so as late as
        possible; it must call `acquire()` before it awaits anything else.
        """
        while True:
            async with self._turn:
                await self._until_free()
            if not self._waiting:
                return

    @property
    def closings(self) -> int:
        """How often the gate has closed."""
        return self._gate.closings

    def free_now(self) -> bool:
        """Whether `acquire()` would succeed at once."""
        now = self._clock.monotonic()
        return not self._waiting and self._free_at(now) <= now

    def closed_for(self) -> float:
        """Return the seconds until the gate lets a call through; 0 when it does."""
        now = self._clock.monotonic()
        at = self._gate.free_at(now)
        return 0.0 if at == math.inf else at - now

    def used(self, seconds: int) -> float:
        """Return the part in use, 0 to 1, of the window of that length."""
        window = self._windows[seconds]
        window.free_at(self._clock.monotonic())  # lets go of what is over
        return window.used / window.limit

    # -- for Permit ------------------------------------------------------------------

    def answered(
        self, permit: Permit, status: int, headers: Mapping[str, str], *, failure: bool
    ) -> None:
        """Learn from an answer."""
        now = self._ended(permit)
        if status == _TOO_MANY:
            pause = retry_after(
                headers.get("Retry-After"), headers.get("Date"), self._clock.now()
            )
            self._gate.throttled(now, pause, self._chance(), probe=permit.probe)
        elif failure:
            self._gate.failed(now, self._chance(), probe=permit.probe)
        else:
            self._gate.succeeded(now, probe=permit.probe)
        told = headers.get("RateLimit-Limit")
        if told is not None and told != self._told:
            self._told = told
            self._resize(rate_limits(told))
        remaining = number(headers.get("RateLimit-Remaining"))
        reset = number(headers.get("RateLimit-Reset"))
        if remaining is not None and reset is not None:
            self._remainder.answered(
                remaining, reset, sent=permit.sent, now=now, in_flight=self._in_flight
            )
        self._wake_all()

    def failed(self, permit: Permit) -> None:
        """Count a call that got no answer."""
        now = self._ended(permit)
        self._gate.failed(now, self._chance(), probe=permit.probe)
        self._wake_all()

    def released(self, permit: Permit) -> None:
        """Let go of a call whose holder gave up."""
        self._ended(permit)
        self._gate.gave_up(probe=permit.probe)
        self._wake_all()

    def unused(self, permit: Permit) -> None:
        """Let go of a call that was not sent."""
        for window in permit.windows:
            window.give_back()
        self._in_flight -= 1
        self._remainder.give_back()
        self._gate.gave_up(probe=permit.probe)
        self._paid += 1
        self._wake_all()

    # -- for Limits ------------------------------------------------------------------

    def set_share(self, *portions: Portion) -> None:
        """Use another part of the account's quota from now on: what each of these has."""
        self._portions = portions
        self._fit()

    def wake(self) -> None:
        """Let the first waiter look again: something changed."""
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    # -- within --------------------------------------------------------------------

    async def _until_free(self) -> None:
        while (at := self._free_at(now := self._clock.monotonic())) > now:
            loop = asyncio.get_running_loop()
            self._sleeper = sleeper = loop.create_future()
            timer = (
                loop.call_later(max(at - now, _TICK), self.wake)
                if at < math.inf
                else None
            )
            try:
                await sleeper
            finally:
                self._sleeper = None
                if timer is not None:
                    timer.cancel()

    def _free_at(self, now: float) -> float:
        share = min(portion.size for portion in self._portions)
        at = max(self._gate.free_at(now), self._remainder.free_at(now, share))
        if self._spare:
            at = max(at, self._remainder.spare_at(now, self.limits[STEADY]))
        for window in self._windows.values():
            at = max(at, window.free_at(now))
        if self._ceiling and (free := self._ceiling.window.free_at(now)) > now:
            at = max(at, free if self.first else free + BEHIND)
        if self._paid and self._pace.has_capacity(self._pace.max_rate):
            self._paid = 0  # what it was paid with has flowed back by itself
        if at <= now and not self._paid and not self._pace.has_capacity():
            # Capacity for one call drains in at most this time; what drains beyond it
            # stays for the next call, so that the mean pace is right whatever the timer.
            at = now + self._pace.time_period / self._pace.max_rate + _TICK
        return at

    def _take(self) -> Permit:
        for window in self._taken:
            window.take()
        self._in_flight += 1
        self._remainder.take()
        return Permit(self, self._taken, self._clock.monotonic(), probe=self._gate.take())

    def _ended(self, permit: Permit) -> float:
        now = self._clock.monotonic()
        for window in permit.windows:
            window.end(now)
        self._in_flight -= 1
        return now

    def _ours(self, seconds: int, calls: int) -> int:
        most = calls * (self._burst if seconds == BURST else 1.0)
        return max(1, min(portion.calls(most) for portion in self._portions))

    def _resize(self, told: Mapping[int, int]) -> None:
        """Follow the announced limits, down and up, at once.

        A plain number speaks of the steady window only. When it could never be reached
        at the known burst, the burst must be at least as large: the server has no limits
        worth the name.
        """
        limits = {**self.limits, **told}
        if BURST not in told and limits[STEADY] > limits[BURST] * STEADY:
            limits[BURST] = limits[STEADY]
        self.limits = {
            seconds: calls
            for seconds, calls in limits.items()
            if seconds <= STEADY or calls < limits[STEADY] * _NEVER_FULL
        }
        self._fit()

    def _fit(self) -> None:
        """Make windows and pace fit the limits and our share of them."""
        for seconds, calls in self.limits.items():
            if seconds in self._windows:
                self._windows[seconds].limit = self._ours(seconds, calls)
            else:
                ours = self._ours(seconds, calls)
                window = self._windows[seconds] = Occupancy(ours, seconds)
                # What is known of it yet: the calls of the last minute.
                window.recall(self._windows[STEADY].used, self._clock.monotonic())
        for seconds in self._windows.keys() - self.limits.keys():
            del self._windows[seconds]  # it can never be full any more
        ceiling = (self._ceiling.window,) if self._ceiling else ()
        self._taken = (*self._windows.values(), *ceiling)
        self._pace = self._bucket()
        self._paid = 0
        self.wake()

    def _bucket(self) -> AsyncLimiter:
        """Make a new one each time: an AsyncLimiter keeps the rate it was made with."""
        steady, burst = self._windows[STEADY].limit, self._windows[BURST].limit
        rate = steady / STEADY
        at_once = max(2.0, min(float(burst), PACE * rate))
        return AsyncLimiter(at_once, at_once / rate)
