"""Profile imports followed to their end; nothing of them is settled before.

One look a moment at the list of the youngest jobs serves all that are waited for: the
calls that show a single job have the same quota as those that start one.
"""

import asyncio
from typing import Final

import msgspec
import structlog

from pipeline.clock import Clock
from pipeline.klaviyo.client import Client, ImportJob
from schemas import bulk_profiles

__all__ = ["Ended", "Jobs"]

FIRST: Final = 0.2  # s from the start of a job to the first look
PART: Final = 0.25  # of a job's age passes between two looks
SLOWEST: Final = 5.0  # s between two looks
PATIENCE: Final = 900.0  # s after which a job counts as lost
SHOWS: Final = 30.0  # s until a job that was just accepted must be there to be seen


class Ended(msgspec.Struct, frozen=True):
    """How a job ended: by row what failed, or, if `lost`, nothing is known."""

    failed: frozenset[int] = frozenset()
    lost: bool = False  # cancelled, vanished, or not ended in `PATIENCE`


_LOST: Final = Ended(lost=True)


class _Watch(msgspec.Struct):
    since: float  # monotonic s
    ended: "asyncio.Future[ImportJob | None]"  # None: there is no such job, or no end
    waiters: int = 0


class Jobs:
    """Any number of callers wait, one task looks."""

    def __init__(self, client: Client, clock: Clock, patience: float = PATIENCE) -> None:
        self._client = client
        self._clock = clock
        self._patience = patience
        self._watched: dict[str, _Watch] = {}
        self._looking: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("klaviyo")

    async def end(self, job: str) -> Ended:
        """Wait until the job has ended."""
        watch = self._watched.get(job)
        if watch is None:
            future = asyncio.get_running_loop().create_future()
            watch = self._watched[job] = _Watch(self._clock.monotonic(), future)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_often())
            self._looking.add_done_callback(self._looked)
        watch.waiters += 1
        try:
            found = await asyncio.shield(watch.ended)
        finally:
            watch.waiters -= 1
            if not watch.waiters:
                self._watched.pop(job, None)
        if found is None or found.attributes.status != "complete":
            self._log.warning("an import job was lost; its rows go by single calls")
            return _LOST
        if not found.attributes.failed_count:
            return Ended()
        pointers = await self._client.import_errors(job)
        rows = {bulk_profiles.place(pointer) for pointer in pointers} - {None}
        if len(rows) < found.attributes.failed_count:
            return _LOST  # some failed, and it is not said which
        return Ended(frozenset(row for row in rows if row is not None))

    async def quiet(self) -> None:
        """Wait until all jobs that the account has under way now have ended."""
        jobs = [job.id for job in await self._client.working_jobs() if not job.ended]
        await asyncio.gather(*map(self.end, jobs))

    async def _look_often(self) -> None:
        while self._watched:
            ages = [self._clock.monotonic() - w.since for w in self._watched.values()]
            await asyncio.sleep(min(SLOWEST, max(FIRST, PART * min(ages))))
            await self._look()

    async def _look(self) -> None:
        waited = {
            job: watch for job, watch in self._watched.items() if not watch.ended.done()
        }
        if not waited:
            return
        there = {job.id: job for job in await self._client.import_jobs()}
        for job, watch in waited.items():
            # Not among the 100 youngest any more: it is asked for by itself.
            found = there.get(job) or await self._client.import_job(job)
            age = self._clock.monotonic() - watch.since
            gone = found is None and age > min(SHOWS, self._patience)
            if found is not None and found.ended:
                watch.ended.set_result(found)
            elif gone or age > self._patience:
                watch.ended.set_result(None)

    def _looked(self, looking: "asyncio.Task[None]") -> None:
        if looking.cancelled() or looking.exception() is None:
            return
        error = looking.exception()
        for watch in self._watched.values():
            if error is not None and not watch.ended.done():
                watch.ended.set_exception(error)
