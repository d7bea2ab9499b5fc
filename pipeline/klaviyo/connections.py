"""How many calls are on the wire at a time."""

import asyncio
from collections import defaultdict

__all__ = ["Connections"]


class Connections:
    """At most so many in all, and for one operation one fewer.

    An endpoint that hangs keeps each of its calls for 30 s: it must not have the last.
    """

    def __init__(self, most: int) -> None:
        self._all = asyncio.Semaphore(most)
        self._own: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(max(1, most - 1))
        )

    async def acquire(self, operation: str) -> None:
        """Wait for one; whoever got it releases it."""
        own = self._own[operation]
        await own.acquire()
        try:
            await self._all.acquire()
        except asyncio.CancelledError:
            own.release()
            raise

    def release(self, operation: str) -> None:
        """Give it back."""
        self._all.release()
        self._own[operation].release()
