"""A loop whose clock jumps to the next timer instead of waiting for it.

A `sleep` in it takes no time: it says how much passes before what comes next.

`run(main())` runs a coroutine in it, `@virtual` a test; `LoopClock()` is its clock.
Sockets between tasks of the same loop work: loopback data is there as soon as it is sent,
so time jumps only when no socket is ready. Threads do not work: time would jump past.

When nothing is left that could ever happen, the loop raises `Stuck` instead of hanging.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
START: Final = 1_795_392_000.0  # Unix s of monotonic 0: 2026-11-23T00:00:00Z
_NEVER: Final = 7 * 86_400.0  # s; a timer beyond a week is none


class Stuck(Exception):
    """Every task waits and no timer is set."""


class _Selector(selectors.DefaultSelector):
    """Polls; where the loop would block, time passes instead."""

    def __init__(self, loop: "VirtualLoop") -> None:
        super().__init__()
        self._loop = loop

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or timeout > _NEVER:
            raise Stuck
        self._loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with its own time, in seconds from 0."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Seconds since the loop was made, jumps included."""
        return self.now


class LoopClock:
    """The time of the running loop, as `pipeline.clock.Clock`."""

    def monotonic(self) -> float:
        """Seconds since the loop was made."""
        return asyncio.get_running_loop().time()

    def now(self) -> float:
        """Unix seconds, from `START` on."""
        return START + self.monotonic()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in a new virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make an asynchronous test a plain one that runs in a virtual loop."""

    @wraps(test)
    def plain(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return plain
