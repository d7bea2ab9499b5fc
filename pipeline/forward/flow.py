r"""What happens to a message, on one page.

    source -> plan -> lanes -> batch -> deliver -> checkpoint
                 \___________________________\-> dead letters -> checkpoint
                                               \-> audit, of a few, later

A record gets a ticket when it is read and keeps it until it has ended as delivered,
skipped or dead-lettered; the checkpoint commits only below the first open ticket.
Nothing here settles a ticket because of an error or a cancellation: what did not end is
read again.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from pipeline.clock import Clock
from pipeline.forward.audit import Audit
from pipeline.forward.batch import Batcher, Carry
from pipeline.forward.checkpoint import Checkpoint
from pipeline.forward.commits import Commits
from pipeline.forward.consent import Consents
from pipeline.forward.dead_letters import DeadLetters
from pipeline.forward.deletions import Deletions
from pipeline.forward.deliver import Deliver
from pipeline.forward.facts import Facts
from pipeline.forward.flood import Flood
from pipeline.forward.imports import Imports
from pipeline.forward.lanes import Group, Lanes
from pipeline.forward.plan import Planner
from pipeline.forward.routes import ROUTES, Route
from pipeline.forward.source import POLL, Source
from pipeline.forward.tally import Tally
from pipeline.kafka.consumer import Reader
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.family import Permit
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import (
    Dead,
    Delivered,
    Item,
    Outcome,
    Partition,
    Record,
    Ticket,
)
from schemas.event import Plan

if TYPE_CHECKING:  # OpenTelemetry is an extra, and off
    from pipeline.forward.sent import Sent
    from pipeline.observe.tracing import Tracing

__all__ = ["DRAIN_BUDGET", "STOP_BUDGET", "Flow"]

ENDS: Final = frozenset({"suppress", "erase"})  # the kinds of a customer's end
TURN: Final = 1000  # rows, a full request, or records until the batchers have their turn
COMMIT_EVERY: Final = 1.0  # s; bounds what a crash sends again
STOP_BUDGET: Final = 6.0  # s for what is in flight at a stop; the whole stop takes <= 10
FULL_LOOK: Final = 0.1  # s; the topic that is told what was sent is slower than Klaviyo
UNANSWERED: Final = 1.0  # s until a write counts as done for all that we can know
DRAIN_BUDGET: Final = 20.0  # s; well under membership.REVOKE_BUDGET


class Flow:
    """The forward direction of one process."""

    def __init__(
        self,
        *,
        planner: Planner,
        client: Client,
        deliver: Deliver,
        dead_letters: DeadLetters,
        imports: Imports | None,
        deletions: Deletions,
        facts: Sequence[Facts],
        consents: Consents | None,
        sent: "Sent | None",
        flood: Flood,
        audit: Audit,
        connections: int,
        health: Health,
        metrics: Metrics,
        clock: Clock,
        tracing: "Tracing | None" = None,
    ) -> None:
        self._planner = planner
        self._deliver = deliver
        self._dead_letters = dead_letters
        self._imports = imports
        self._deletions = deletions
        self._facts = facts
        self._consents = consents
        self._sent = sent
        self._resuming: asyncio.Task[None] | None = None
        self._flood = flood
        self._audit = audit
        self._health = health
        self._metrics = metrics
        self.checkpoint = Checkpoint()
        self._commits = Commits(self.checkpoint, sent)
        self._tally = Tally(metrics, clock)
        self._lanes = Lanes()
        carry = self._carry if tracing is None else self._traced(tracing)
        self._batcher = Batcher(self._lanes, client, carry, connections, metrics)
        self._letters: set[asyncio.Task[None]] = set()
        self._held: list[Record] = []  # read, but not admitted: a flood halts the flow
        self._unread: list[Record] = []  # read, but their schemas are not known yet
        self._log = structlog.get_logger("forward")

    # -- the way of a record -----------------------------------------------------------

    async def run(self, consumer: Reader, source: Source, stop: asyncio.Event) -> None:
        """Until `stop` is set: then what is in flight ends, within `STOP_BUDGET`.

        Raises what the source raises at start (`OffsetsMissing`, `OffsetsLost`).
        """
        self._consumer = self._commits.consumer = consumer
        self._source = source
        reader = asyncio.create_task(self._read(stop))
        tasks = [reader, asyncio.create_task(self._commit_often())]
        tasks.append(asyncio.create_task(self._audit.run()))
        tasks += [asyncio.create_task(each.run()) for each in self._facts]
        tasks += [
            asyncio.create_task(self._batcher.run(*routes)) for routes in self._routes()
        ]
        try:
            await asyncio.wait(
                [*tasks, self._batcher.failed], return_when=asyncio.FIRST_COMPLETED
            )
            await self._drain(STOP_BUDGET)
            for task in (*tasks, self._batcher.failed):
                if task.done():
                    task.result()  # a bug, or a source that cannot be read, ends the run
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._abandon()
            await asyncio.gather(*(each.close() for each in self._facts))

    def _routes(self) -> Iterator[list[Route]]:
        """The routes that this run may need, those for one kind together."""
        for routes in ROUTES:
            if needed := [route for route in routes if self._needed(route)]:
                yield needed

    def _needed(self, route: Route) -> bool:
        if route.kind in ("consent", "late"):
            return self._consents is not None
        if route.kind in ENDS:
            return route.kind == self._deletions.kind
        known = route.since <= self._deliver.served
        return known and (self._imports is not None or not route.jobs)

    async def _read(self, stop: asyncio.Event) -> None:
        read = 0  # since the batchers had their turn
        while not stop.is_set():
            if self._sent is not None and self._sent.full:
                await asyncio.sleep(FULL_LOOK)
                continue
            records = await self._source.poll()
            if self._held and not self._health.halted:
                records, self._held = [*self._held, *records], []
            self._unread = records
            while not await self._planner.ready(self._unread):
                if stop.is_set():
                    return
            records, self._unread = self._unread, []
            self._tally.consumed(records)
            for position, record in enumerate(records):
                if not self._admit(record):
                    self._held = records[position:]
                    break
            read += len(records)
            if len(records) < POLL or max(read, self._lanes.rows) >= TURN:
                read = 0
                await asyncio.sleep(0)

    def _admit(self, record: Record) -> bool:
        """Plan it and queue what it asks for; false if a flood stops it here."""
        if self.checkpoint.passed(record):
            return True
        planned = self._planner.plan(record)
        for facts in self._facts:
            if isinstance(planned, Plan):
                planned = facts.admitted(planned)
        if self._flood.over(bad=isinstance(planned, Dead)):
            return False
        ticket = self.checkpoint.open(record)
        if ticket is None:
            return True
        if not isinstance(planned, Plan):
            ticket.outcome = planned
            self._end([ticket])
            return True
        self._tally.planned(planned)
        if planned.commands:
            self.checkpoint.weigh(ticket, planned.commands)
            self._lanes.add(ticket, planned.commands)
        else:  # nothing but parts that were skipped
            self._end([ticket])
        return True

    async def _carry(self, route: Route, group: Group, permit: Permit) -> list[Item]:
        again: list[Item] = []
        # Klaviyo may have done what it has not answered, or a job a part of its rows.
        telling = asyncio.get_running_loop().call_later(
            UNANSWERED, self._tell, group.items
        )
        try:
            outcomes = await self._sending(route, group, permit)
        finally:
            telling.cancel()
        ended: list[Ticket] = []
        delivered: list[Item] = []
        for item, outcome in zip(group.items, outcomes, strict=True):
            if outcome is None:
                again.append(item)
            elif isinstance(outcome, Dead) and len(item.parts) > 1:
                again += item.halves()  # one bad record must cost one record
            else:
                if isinstance(outcome, Delivered):
                    delivered.append(item)
                ended += [part[0] for part in item.parts if part[0].settle(outcome)]
        self._delivered(delivered, bulk=route.rows > 1)
        self._end(ended)
        self._source.freed()
        return again

    async def _sending(
        self, route: Route, group: Group, permit: Permit
    ) -> Sequence[Outcome | None]:
        if route.jobs and self._imports:
            return await self._imports.send(
                group.items, permit, self._commits.now, self._taken
            )
        if route.kind in ENDS:
            return await self._deletions.send(group.items, permit)
        if route.kind in ("consent", "late") and self._consents:
            return await self._consents.send(group.items, permit)
        return await self._deliver.send(group.items, permit, bulk=route.rows > 1)

    def _taken(self, items: Sequence[Item]) -> None:
        """A job has these: they weigh less until it ends."""
        for item in items:
            item.row = b""
            for ticket, _ in item.parts:
                ticket.lighten()
        self._source.freed()

    def _tell(self, items: Sequence[Item]) -> None:
        """The reverse direction hears of what these ask for."""
        if self._sent is not None:
            for item in items:
                self._sent.note(item.commands)

    def _traced(self, tracing: "Tracing") -> Carry:
        """Carry, and the spans know of the records."""

        async def traced(route: Route, group: Group, permit: Permit) -> Sequence[Item]:
            parts = (part for item in group.items for part in item.parts)
            with tracing.carrying(ticket.record for ticket, _ in parts):
                return await self._carry(route, group, permit)

        return traced

    def _delivered(self, items: Sequence[Item], *, bulk: bool) -> None:
        self._audit.delivered(items, bulk=bulk)
        self._tell(items)

    def _end(self, tickets: Sequence[Ticket]) -> None:
        well: list[Ticket] = []
        for ticket in tickets:
            if isinstance(ticket.outcome, Dead):
                letter = asyncio.create_task(self._bury(ticket, ticket.outcome))
                self._letters.add(letter)
                letter.add_done_callback(self._buried)
            else:
                well.append(ticket)
        self._tally.ended(well)
        self.checkpoint.close(*well)

    async def _bury(self, ticket: Ticket, dead: Dead) -> None:
        await self._dead_letters.write(ticket.record, dead)
        self._tally.ended([ticket])
        self.checkpoint.close(ticket)
        self._source.freed()

    def _buried(self, letter: asyncio.Task[None]) -> None:
        self._letters.discard(letter)
        if not letter.cancelled() and (error := letter.exception()):
            self._batcher.fail(error)  # its ticket would stay open for ever

    # -- offsets and assignments -------------------------------------------------------

    def assigned(self, partitions: Mapping[Partition, Iterable[int]]) -> None:
        """The consumer owns these from now on, at their committed offsets.

        With each come the offsets above it that ended already.
        """
        if self._consents is not None:
            self._consents.moved()
        if self._imports is None and not self._facts:
            self.checkpoint.assign(partitions)
            return
        self._resuming = asyncio.create_task(self._resume(partitions))
        self._resuming.add_done_callback(self._resumed)

    async def _resume(self, partitions: Mapping[Partition, Iterable[int]]) -> None:
        held: dict[Partition, Collection[int]] = {
            partition: list(ended) for partition, ended in partitions.items()
        }
        if self._imports is not None:
            held = dict(await self._imports.resume(held))
        for facts in self._facts:
            await facts.refresh()
        self.checkpoint.assign(held)

    def _resumed(self, resuming: asyncio.Task[None]) -> None:
        if not resuming.cancelled() and (error := resuming.exception()):
            self._batcher.fail(error)

    async def revoked(self) -> None:
        """All partitions go: end what is in flight, commit, forget the rest.

        A commit after the checkpoint has forgotten them would be of an assignment that
        is no longer ours.
        """
        try:
            await self._drain(DRAIN_BUDGET)
        finally:  # also when the consumer has waited long enough
            self._lanes.clear()
            self._held.clear()
            self._unread.clear()
            self._audit.revoked()
            self.checkpoint.revoke()
            await self._abandon()

    async def _drain(self, budget: float) -> None:
        """End what is in flight, in this order.

        (1) hand out only the rest of records that were begun, (2) let what is in flight
        end, (3) abandon what does not, (4) commit what has ended, that above an open
        record included.
        """
        deadline = asyncio.get_running_loop().time() + budget
        if self._resuming is not None:
            self._resuming.cancel()
        self._lanes.finish()
        try:
            async with asyncio.timeout(budget):
                await self._lanes.finished()
                if self._letters:
                    await asyncio.wait(self._letters)
        except TimeoutError:
            self._log.warning(
                "not all ended in time; the rest is read again", budget=budget
            )
        self._lanes.clear()
        await self._abandon()
        await self._commits.last(deadline)

    async def _abandon(self) -> None:
        """Cancel what is in flight: an abandoned item is neither settled nor lost."""
        await self._batcher.abandon()
        letters = list(self._letters)
        for letter in letters:
            letter.cancel()
        await asyncio.gather(*letters, return_exceptions=True)

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY)
            self._health.beat("commit")
            self._tally.state(self.checkpoint, self._lanes.in_flight, self._consumer)
            await self._commits.now()
