"""What happens while Klaviyo refuses the credential: everything waits, one call probes.

A 401, 403 or 410 is nobody's record's fault, and sending more only makes it worse. So the
first one halts all calls. One waiting call at a time is let through as the probe: at once
when the credential changed, else after 5 s growing to 60 s. The first success ends the
halt.

A missing scope (403) or a retired endpoint (410) concerns one operation: only a call of
that operation can prove that it is mended, so those probe first.
"""

import asyncio
import math
from collections import Counter
from typing import Final

from pipeline.clock import Clock
from pipeline.klaviyo.auth import Credential
from pipeline.observe.health import Halt, Health

__all__ = ["Halts"]

FIRST: Final = 5.0  # s until the first probe
GROWTH: Final = 1.5
LONGEST: Final = 60.0  # s between probes
_CREDENTIAL: Final = ("unauthorized", "needs_authorisation")  # whatever the operation


class Halts:
    """Who may send while the credential is in doubt."""

    def __init__(self, health: Health, credential: Credential, clock: Clock) -> None:
        self._health = health
        self._credential = credential
        self._clock = clock
        self.resumed = -math.inf  # monotonic s of the last end of a halt
        self._open: dict[str, Halt] = {}  # operation -> why it is refused
        self._waiting: Counter[str] = Counter()
        self._probing = False
        self._next = 0.0  # monotonic s of the next probe
        self._delay = FIRST
        self._changed = asyncio.Event()

    @property
    def halted(self) -> bool:
        """Whether calls must wait."""
        return bool(self._open)

    async def enter(self, operation: str) -> bool:
        """Wait until a call may go; True makes it the probe, which must `leave()`."""
        if not self._open:
            return False
        self._waiting[operation] += 1
        try:
            while self._open:
                if not self._probing and self._fit(operation):
                    return await self._become_probe()
                changed = self._changed
                await changed.wait()
            return False
        finally:
            self._waiting[operation] -= 1
            self._notify()

    def leave(self) -> None:
        """End the probe, whatever came of it; the next one waits its time."""
        self._probing = False
        self._next = self._clock.monotonic() + self._delay
        self._notify()

    def refused(self, operation: str, reason: Halt, message: str, *, probe: bool) -> None:
        """Halt: a call was answered 401, 403 or 410."""
        if not self._open:
            self._delay = FIRST
            self._next = self._clock.monotonic() + FIRST
        elif probe:
            self._delay = min(self._delay * GROWTH, LONGEST)
            self._next = self._clock.monotonic() + self._delay
        before, self._open[operation] = self._open.get(operation), reason
        if before is not None and before != reason and before not in self._open.values():
            self._health.resume(before)
        self._health.halt(reason, message)

    def proved(self, operation: str) -> None:
        """Go on: the probe was answered in earnest, so its operation is allowed."""
        if operation in self._open:
            mended = {
                each
                for each, reason in self._open.items()
                if each == operation or reason in _CREDENTIAL
            }
        else:  # nobody of the refused operations waits any more
            mended = set(self._open)
        reasons = {self._open.pop(each) for each in mended}
        for reason in reasons - set(self._open.values()):
            self._health.resume(reason)
        if not self._open:
            self.resumed = self._clock.monotonic()
        self._next = self._clock.monotonic()  # the next refused operation need not wait
        self._notify()

    def _fit(self, operation: str) -> bool:
        """Whether a success of `operation` would prove something."""
        return operation in self._open or not any(self._waiting[o] for o in self._open)

    async def _become_probe(self) -> bool:
        self._probing = True
        sent = False
        try:
            await self._wait_turn()
            sent = True
        finally:
            if not sent:  # cancelled: another waiter takes the role, at the same time
                self._probing = False
        return True

    async def _wait_turn(self) -> None:
        try:
            async with asyncio.timeout(self._next - self._clock.monotonic()):
                await self._credential.wait_changed()
        except TimeoutError:
            pass

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
