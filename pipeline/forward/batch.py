"""Which waiting items go together in one request, and when.

One batcher per route takes what waits at the moment a permit is free: no timer, no
linger. When little waits, a change goes out at once; at a backlog requests fill up by
themselves.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from pipeline.klaviyo.client import Client
from pipeline.klaviyo.limits import Permit
from pipeline.observe.metrics import Metrics
from pipeline.records import Item, Kind
from schemas import bulk_events, bulk_profiles
from schemas import klaviyo as wire
from schemas.commands import CreateEvent, UpsertProfile

if TYPE_CHECKING:  # stages know each other's shapes, only flow.py joins them
    from pipeline.forward.lanes import Group, Lanes

__all__ = ["Batcher", "Parcel", "Route"]

FEW: Final = 10  # waiting items that single calls may carry although bulk could
MISSES: Final = 8  # items too large for what is left after which a request is full


class Route(msgspec.Struct, frozen=True):
    """An endpoint that can carry items: which kind, and how many in one request."""

    operation: str
    kind: Kind
    rows: int = 1
    bytes: int | None = None  # of a bulk request
    since: str = ""  # the first revision that has it
    jobs: int | None = None  # asynchronous: so many may be under way, whatever the wire


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
        self._last: CreateEvent | None = None  # whose profile was encoded last
        self._person = b""

    def add(self, item: Item) -> bool:
        """Put the item in; false if it does not fit, or not beside what is in already."""
        if self._rows >= item.largest:
            return False
        match item.command, self._route.bytes:
            case CreateEvent() as event, int() as most:
                if not self._add_event(item, event, most):
                    return False
            case UpsertProfile() as update, int() as most:
                if not self._add_profile(item, update, most):
                    return False
            case _:
                pass  # a single call; its body is made when it is sent
        self._rows += 1
        self._most = min(self._most, item.largest)
        self.full = self.full or self._rows >= self._most
        return True

    def _add_event(self, item: Item, event: CreateEvent, most: int) -> bool:
        name = (event.metric, event.unique_id)
        if name in self._ids:  # a repeat inside a request fails the whole of it
            return False
        if not item.row:
            item.row = bulk_events.row(event)
        size = len(item.row) + 1
        last = self._last
        same = (
            last is not None
            and event.identity is last.identity
            and event.profile is last.profile
        )
        person = self._person if same else bulk_events.person(event)
        if person != self._person:
            size += bulk_events.ENTRY + len(person)
        if not self._fits(size, most):
            return False
        item.person, self._person, self._last = person, person, event
        self._ids.add(name)
        self._bytes += size
        return True

    def _add_profile(self, item: Item, update: UpsertProfile, most: int) -> bool:
        if not item.row:
            item.row = wire.profile(update, self._served)
        if len(item.row) > bulk_profiles.LARGEST:
            item.single()  # Klaviyo says what is wrong with it
            return False
        size = len(item.row) + 1
        if not self._fits(size, most):
            return False
        self._bytes += size
        return True

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
            operation = line.route.operation
            self._metrics.batch_size.labels(operation).observe(len(group.items))
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
