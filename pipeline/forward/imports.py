"""Bulk profile imports: a job is noted down, started, followed to its end.

A job works on its own time and Klaviyo promises no order between two of them. So a
customer's next change waits for the end of the job, also over a crash: before a job
starts, all that ended before it is committed, and the job stands in the ledger; whoever
owns the partitions next waits for its end before it hands out anything.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from pipeline.errors import PipelineError
from pipeline.kafka.format import TooNew
from pipeline.klaviyo.call import Refused
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.family import Permit
from pipeline.klaviyo.jobs import Jobs
from pipeline.observe.health import Health
from pipeline.records import DELIVERED, Dead, Item, Outcome, Partition
from schemas import bulk_profiles

if TYPE_CHECKING:  # stages know each other's shapes, only flow.py joins them
    from pipeline.forward.ledger import Entry, Ledger, Unfinished

__all__ = ["Imports"]

AGAIN: Final = 2.0  # s until Kafka is asked again for what it did not take or tell


class Imports:
    """Carries groups of profile updates by jobs."""

    def __init__(
        self, client: Client, jobs: Jobs, ledger: "Ledger", health: Health
    ) -> None:
        self._client = client
        self._jobs = jobs
        self._ledger = ledger
        self._health = health
        self._log = structlog.get_logger("forward")

    async def send(
        self,
        items: Sequence[Item],
        permit: Permit,
        commit: Callable[[], Awaitable[bool]],
        taken: Callable[[Sequence[Item]], None],
    ) -> Sequence[Outcome | None]:
        """Outcomes by index; None for an item that has to be sent again.

        `taken` is called when Klaviyo has the job. What the job could not store goes by
        single call then, which says why.
        """
        try:
            entry = await self._ledger.open(_rows(items)) if await commit() else None
        except PipelineError as error:
            self._health.away("job ledger", str(error))
            entry = None
        if entry is None:
            permit.unused()
            await asyncio.sleep(AGAIN)  # meanwhile others go by single calls
            return [None] * len(items)
        self._health.back("job ledger")
        return await self._run(items, permit, entry, taken)

    async def _run(
        self,
        items: Sequence[Item],
        permit: Permit,
        entry: "Entry",
        taken: Callable[[Sequence[Item]], None],
    ) -> Sequence[Outcome | None]:
        # Nothing here keeps the body: a job takes long, and many are under way.
        answer = await self._client.import_profiles(_body(items), permit)
        if isinstance(answer, Refused):
            # As a whole, for the rows it names. If none, halves find them.
            self._ledger.close(entry)
            named = {bulk_profiles.place(fault.pointer) for fault in answer.faults}
            rows = [row for row in named if row is not None and row < len(items)]
            for row in rows or range(len(items) if len(items) == 1 else 0):
                items[row].single()
            if not rows and len(items) > 1:
                for item in items:
                    item.largest = (len(items) + 1) // 2
            return [None] * len(items)
        job, accepted = answer
        taken(items)
        await self._ledger.started(entry, job)
        ended = await self._jobs.end(job)
        if accepted.attempts > 1:
            # An attempt that was not answered may have started a job as well.
            await self._jobs.quiet()
        self._ledger.close(entry)
        unknown = ended.lost or max(ended.failed, default=0) >= len(items)
        outcomes: list[Outcome | None] = [DELIVERED] * len(items)
        for row in range(len(items)) if unknown else ended.failed:
            items[row].single()
            outcomes[row] = None
        return outcomes

    async def resume(
        self, partitions: Mapping[Partition, Collection[int]]
    ) -> dict[Partition, set[int]]:
        """Wait for the jobs that were left behind; offsets that have ended by then.

        Raises `TooNew`.
        """
        ended = {partition: set(offsets) for partition, offsets in partitions.items()}
        left = await self._left(partitions)
        if not left:
            return ended
        self._log.info("waiting for import jobs of the last owner", entries=len(left))
        self._health.away("import jobs", "those of the last owner have to end first")
        try:
            if any(each.job is None for each in left):
                await self._jobs.quiet()
            for each in left:
                if each.job is None:
                    continue
                outcome = await self._jobs.end(each.job)
                if not outcome.lost:
                    ended[each.partition].update(
                        offset for row, offset in each.rows if row not in outcome.failed
                    )
            await self._ledger.forget(left)
        finally:  # also when the partitions go meanwhile
            self._health.back("import jobs")
        return ended

    async def _left(self, partitions: Collection[Partition]) -> "list[Unfinished]":
        while True:
            try:
                left = await self._ledger.unfinished(partitions)
            except TooNew:
                raise
            except PipelineError as error:
                self._health.away("job ledger", str(error))
                await asyncio.sleep(AGAIN)
            else:
                self._health.back("job ledger")
                return left


def _body(items: Sequence[Item]) -> bytes:
    return bulk_profiles.body([item.row for item in items])


def _rows(items: Sequence[Item]) -> dict[Partition, list[tuple[int, int]]]:
    """By partition, which row ends which offset; empty where rows end none.

    What is dead already still needs its letter: it is no end that a job could bring.
    """
    rows: dict[Partition, list[tuple[int, int]]] = {}
    for index, item in enumerate(items):
        for ticket, _ in item.parts:
            record = ticket.record
            mine = rows.setdefault((record.topic, record.partition), [])
            if ticket.left == 1 and not isinstance(ticket.outcome, Dead):
                mine.append((index, record.offset))
    return rows
