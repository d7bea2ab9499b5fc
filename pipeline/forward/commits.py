"""Tells Kafka how far the records have ended, after the reverse direction was told.

The order matters: what Kafka knows is not read again, so by then whoever looks for
changes in Klaviyo must know that these were ours.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from pipeline.kafka.consumer import Reader

if TYPE_CHECKING:  # stages know each other's shapes, only flow.py joins them
    from pipeline.forward.checkpoint import Checkpoint
    from pipeline.forward.sent import Sent

__all__ = ["Commits"]

TRIES: Final = 3  # of the last commit: a rebalance must not wait on for no use
AGAIN: Final = 0.5  # s between two of them


class Commits:
    """One commit at a time, of what has ended since the one before."""

    consumer: Reader
    """Who commits; needed as soon as a record was read."""

    def __init__(self, checkpoint: "Checkpoint", sent: "Sent | None") -> None:
        self._checkpoint = checkpoint
        self._sent = sent
        self._one = asyncio.Lock()  # an older commit must not land after a newer one

    async def now(self) -> bool:
        """True if Kafka knows of all that has ended, the reverse direction before it."""
        checkpoint, sent = self._checkpoint, self._sent
        async with self._one:
            epoch, marks = checkpoint.epoch, checkpoint.settled()
            if not marks:
                return True
            done = False
            try:
                told = sent is None or await sent.told()
                # Meanwhile the partitions may have gone, and come back.
                if told and checkpoint.epoch == epoch:
                    done = await self.consumer.commit(marks)
            finally:  # a job that waits here may be cancelled
                if not done and checkpoint.epoch == epoch:
                    checkpoint.unsettled(marks)
            return done

    async def last(self, deadline: float) -> None:
        """Commit before the partitions go: what is refused now is sent again by others.

        No try begins after `deadline`, in the loop's seconds, but for the first.
        """
        now = asyncio.get_running_loop().time
        for _ in range(TRIES - 1):
            if await self.now() or now() + AGAIN > deadline:
                return
            await asyncio.sleep(AGAIN)
        await self.now()
