"""Which waiting items go together in one request, and when.

One batcher per kind of item takes what waits at the moment a permit is free: no timer, no
linger. When little waits, a change goes out at once; at a backlog requests fill up by
themselves. Only an asynchronous job is worth a moment's wait: see `_early`.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import msgspec

from pipeline.forward.routes import Route
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.family import Permit
from pipeline.observe.metrics import Metrics
from pipeline.records import Item
from schemas import bulk_events, bulk_profiles
from schemas import klaviyo as wire
from schemas.commands import CreateEvent, UpsertProfile

if TYPE_CHECKING:  # stages know each other's shapes, only flow.py joins them
    from pipeline.forward.lanes import Group, Lanes

__all__ = ["Batcher", "Parcel"]

FEW: Final = 10  # waiting items that single calls may carry although bulk could
MISSES: Final = 8  # items too large for what is left after which a request is full
APART: Final = 1.0  # s from one job to the next that carries fewer rows
LOOK: Final = 0.05  # s between two looks whether enough have come meanwhile


class Parcel:
    """What one request of a route can hold: rows and bytes, counted exactly.

    `served` is the revision the rows are encoded for.
    """

    def __init__(self, route: Route, served: str) -> None:
        self.full = False
        self._route = route
        self._served = served
        self._rows = 0
        self._most = route.rows
        self._bytes = bulk_events.EMPTY if route.kind == "event" else bulk_profiles.EMPTY
        self._misses = 0
        self._ids: set[tuple[str, str]] = set()
        self._person = b""  # whose events were put in last

    def add(self, item: Item) -> Item | None:
        """Put the item in, or so many events of it as fit; their rest stays.

        What is in now; None if nothing fits, or not beside what is in already.
        """
        if self._rows >= item.largest:
            return None
        put: Item | None = item
        most = self._route.bytes
        if item.kind == "event":
            put = self._add_events(item, most)
        elif most is not None:
            put = self._add_profile(item, most)
        if put is not None:
            self._rows += len(put.commands)
            self._most = min(self._most, item.largest)
            self.full = self.full or self._rows >= self._most
        return put

    def _add_events(self, item: Item, most: int | None) -> Item | None:
        events = cast("list[CreateEvent]", item.commands)
        room = self._most - self._rows
        if most is None:  # a single call; its body is made when it is sent
            return item if len(events) <= room else item.split(room)
        some = events if len(events) <= room else events[:room]
        names = {(event.metric, event.unique_id) for event in some}
        if len(names) < len(some) or not names.isdisjoint(self._ids):
            some = self._fresh(some)
            if not some:
                return None
        row = item.row if some is events and item.row else bulk_events.rows(some)
        person = item.person or bulk_events.person(events[0])
        entry = 1
        if person != self._person:
            entry += bulk_events.ENTRY + len(person)
        size = len(row) + entry
        while not self._rows and self._bytes + size > most and len(some) > 1:
            some = some[: len(some) // 2]  # one record for several requests
            row = bulk_events.rows(some)
            size = len(row) + entry
        if not self._fits(size, most):
            return None
        put = item if len(some) == len(events) else item.split(len(some))
        put.row, put.person, item.person, self._person = row, person, person, person
        self._ids |= names
        self._bytes += size
        return put

    def _fresh(self, events: Sequence[CreateEvent]) -> list[CreateEvent]:
        """The first events up to a repeat, which would fail the whole request."""
        names = set(self._ids)
        some = []
        for event in events:
            name = (event.metric, event.unique_id)
            if name in names:
                break
            names.add(name)
            some.append(event)
        return some

    def _add_profile(self, item: Item, most: int) -> Item | None:
        if not item.row:
            update = item.command
            assert isinstance(update, UpsertProfile)  # noqa: S101  so says its kind
            item.row = wire.profile(update, self._served)
        if len(item.row) > bulk_profiles.LARGEST:
            item.single()  # Klaviyo says what is wrong with it
            return None
        size = len(item.row) + 1
        if not self._fits(size, most):
            return None
        self._bytes += size
        return item

    def _fits(self, size: int, most: int) -> bool:
        if not self._rows or self._bytes + size <= most:
            return True
        self._misses += 1
        self.full = self._misses >= MISSES
        return False


class _Line(msgspec.Struct):
    """A route and how many requests of it may still start."""

    route: Route
    slots: asyncio.Semaphore
    rows: int = 0  # of its last request
    next: float = 0.0  # loop's s; a job that carries fewer starts then


Carry: TypeAlias = Callable[[Route, "Group", Permit], Coroutine[Any, Any, Sequence[Item]]]


class Batcher:
    """Composes requests for all routes; `carry` sends one and returns what to send anew.

    Each route may have `connections` requests under way. They do not share these: an
    endpoint that is away keeps its own requests waiting, and the others go on. How many
    are on the wire at a time is the session's business.
    """

    def __init__(
        self,
        lanes: "Lanes",
        client: Client,
        carry: Carry,
        connections: int,
        metrics: Metrics,
    ) -> None:
        self._lanes = lanes
        self._client = client
        self._carry = carry
        self._connections = connections
        self._metrics = metrics
        self._tasks: set[asyncio.Task[Sequence[Item]]] = set()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, *routes: Route) -> None:
        """Compose the requests of these routes for ever; the smallest route first."""
        lines = [_Line(r, asyncio.Semaphore(r.jobs or self._connections)) for r in routes]
        while True:
            # Neither a slot nor a permit is held while waiting for the other, and the
            # items are chosen as late as possible.
            line = await self._choose(lines)
            await line.slots.acquire()
            permit = await self._client.acquire(line.route.operation)
            parcel = Parcel(line.route, self._client.served)
            group = self._lanes.take(line.route.kind, parcel)
            if not group.items:
                permit.unused()
                line.slots.release()
                continue
            line.rows = group.rows
            line.next = asyncio.get_running_loop().time() + APART
            operation = line.route.operation
            self._metrics.batch_size.labels(operation).observe(line.rows)
            task = asyncio.create_task(self._carry(line.route, group, permit))
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, group, permit, line.slots))

    async def _choose(self, lines: Sequence[_Line]) -> _Line:
        """The route that can go now: a small one for little, the largest for a crowd.

        When only the other kind of permit is free, it takes what waits all the same.
        """
        lanes = self._lanes
        while True:
            crowd = lanes.waiting(lines[-1].route.kind) > FEW
            for line in reversed(lines) if crowd else lines:
                if (
                    lanes.ready(line.route.kind)
                    and not line.slots.locked()
                    and self._client.free_now(line.route.operation)
                    and not self._early(line)
                ):
                    return line
            waits = [asyncio.create_task(self._may_go(line)) for line in lines]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                await asyncio.gather(*waits, return_exceptions=True)

    async def _may_go(self, line: _Line) -> None:
        await self._lanes.some(line.route.kind)
        async with line.slots:
            pass
        await self._client.ready(line.route.operation)
        await asyncio.sleep(min(self._early(line), LOOK))

    def _early(self, line: _Line) -> float:
        """Seconds until a job may start that would carry fewer rows than the last one.

        While jobs are under way the buffer is theirs, and what waits is little: their
        quota would go for next to nothing. Single calls go on meanwhile.
        """
        if not line.route.jobs or self._lanes.waiting(line.route.kind) >= line.rows:
            return 0.0
        return max(0.0, line.next - asyncio.get_running_loop().time())

    def _ended(
        self,
        group: "Group",
        permit: Permit,
        slots: asyncio.Semaphore,
        task: asyncio.Task[Sequence[Item]],
    ) -> None:
        """Give everything back; in a callback, as a task cancelled early never runs."""
        self._tasks.discard(task)
        slots.release()
        permit.unused()  # only if the call never took it over
        again: Sequence[Item] = ()
        if not task.cancelled():
            if error := task.exception():
                # A bug: its items would stay open for ever. Better a restart than that.
                self.fail(error)
            else:
                again = task.result()
        self._lanes.release(group, again)

    def fail(self, error: BaseException) -> None:
        """End the flow with an error that no record is to blame for."""
        if not self.failed.done():
            self.failed.set_exception(error)

    async def abandon(self) -> None:
        """Cancel the requests in flight; their items are neither settled nor lost."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
