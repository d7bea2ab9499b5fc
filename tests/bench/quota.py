"""How much of Klaviyo's quota a backlog really uses, in the official windows.

    python -m tests.bench.quota [--latency 0.15] [--windows 2] [--replicas 3]
                                [--connections 10] [--row 5000] [--buffer 64]

Two backlogs at once (orders and customers) on a real Kafka, through the built program.
All four endpoints carry at the same time; whole server windows of 60 s are counted.
Per endpoint: the useful rows against what its quota allows, how full its requests are;
then what was sent twice, every 429, and what it cost.

A request of an import holds 10,000 rows or 5 MB, so its quota is counted in rows of
`--row` bytes: at 5,000 that is 2,500 rows a second, at 300 it is 25,000, where not the
quota but the machine is the limit.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from pipeline.demo.shop import Made
from pipeline.sandbox import Sandbox
from tests.bench.child import cpu, rss
from tests.bench.report import Figure, note, show
from tests.brokers.apache import find
from tests.flow.rig import Rig
from tests.flow.service import Service

__all__ = ["measure"]

WINDOW: Final = 60  # s
FULL: Final = 0.98  # of the quota, and of a request
WARM: Final = 20.0  # s from the first call to the first window that counts
# s more with replicas: a larger share waits for a window to pass, and the next one still
# shows it (98 % of it, then 99.5 %): what was sent unevenly comes free unevenly.
GROWN: Final = 130.0
LINES: Final = 9  # with the order itself 10 events a record
ROWS, BYTES = 10_000, 5_000_000  # of an import request
FIELDS: Final = 50  # custom fields of a customer


class Endpoint(msgspec.Struct, frozen=True):
    """One endpoint's quota a minute, and what fits one request."""

    name: str
    operation: str
    requests: int
    rows: int = 1


def endpoints(row: int) -> list[Endpoint]:
    """The four that carry the forward direction; `row` is a customer's, in bytes."""
    most = min(ROWS, BYTES // row)
    return [
        Endpoint("single events", "POST /api/events", 3500),
        Endpoint("bulk events", "POST /api/event-bulk-create-jobs", 150, 1000),
        Endpoint("single profiles", "POST /api/profile-import", 750),
        Endpoint("bulk import", "POST /api/profile-bulk-import-jobs", 150, most),
    ]


class _Clock:
    """The sandbox's time; `zero` puts the bounds of its windows where they suit us."""

    def __init__(self) -> None:
        self.zero = time.monotonic()
        self.now = time.time

    def monotonic(self) -> float:
        return time.monotonic() - self.zero


def orders(count: int) -> Iterator[Made]:
    """Orders of ten events each, every one of another customer."""
    lines = [
        {"id": str(n), "sku": "S1", "quantity": 1, "price": "1.00"} for n in range(LINES)
    ]
    order = {"id": "O-%", "total": "10.00", "customer": {"id": "B-%"}, "lines": lines}
    made = json.dumps({"type": "order.placed", "order": order}).encode()
    for number in range(count):
        key = b"%d" % number
        yield Made("shop.orders", key, made.replace(b"%", key))


def customers(count: int, row: int) -> Iterator[Made]:
    """Customers whose rows in an import have about `row` bytes, never more."""
    # As it is sent: {"type":"profile","attributes":{...,"properties":{...}}},
    frame = 90
    each = max(0, row - frame) // FIELDS - len('"field_00":"",')
    fields = {f"field_{n:02}": "x" * each for n in range(FIELDS)} if each > 0 else {}
    customer = {"id": "C-%", "custom_fields": fields}
    made = json.dumps({"type": "customer.updated", "customer": customer}).encode()
    for number in range(count):
        key = b"%d" % number
        yield Made("shop.customers", key, made.replace(b"%", key))


async def measure(
    latency: float = 0.0,
    windows: int = 2,
    replicas: int = 1,
    connections: int = 10,
    row: int = BYTES // 1000,
    buffer: int = 64,
    counting: Callable[[], Awaitable[None]] | None = None,
) -> list[Figure]:
    """Fill, run, count; `counting` is awaited before the services start."""
    quota = endpoints(row)
    wait = WARM + (GROWN if replicas > 1 else 0.0)
    minutes = windows + 1.2 + wait / WINDOW
    clock = _Clock()
    async with Sandbox(clock=clock) as sandbox:
        with find() as broker:
            rig = Rig(broker.bootstrap, sandbox, partitions=4)
            rig.set(latency=latency, keep_events=1000, keep_requests=200_000)
            await rig.create_topics()
            events, imports = (
                sum(each.requests * each.rows for each in pair) * minutes
                for pair in (quota[:2], quota[2:])
            )
            note(f"quota: {events / 10:.0f} orders, {imports:.0f} customers into Kafka")
            await rig.send(orders(int(events) // (LINES + 1)))
            await rig.send(customers(int(min(imports, 900_000)), row))
            if counting is not None:
                await counting()
            async with AsyncExitStack() as stack:
                services = [
                    await stack.enter_async_context(
                        rig.service(
                            throttle__concurrent_connections=str(connections),
                            deliver__buffer_bytes=f"{buffer} MiB",
                        )
                    )
                    for _ in range(replicas)
                ]
                while not sandbox.ledger.statuses:
                    await asyncio.sleep(0.1)
                # The first window that counts begins when all is warm.
                bound = int((sandbox.now() + wait) // WINDOW) + 1
                clock.zero -= bound * WINDOW - (sandbox.now() + wait)
                note(f"quota: counting {windows} windows in {wait:.0f} s")
                used, begun = 0.0, sandbox.now
                while begun() < bound * WINDOW:
                    await asyncio.sleep(0.2)
                used = -_cpu(services)
                ours = -time.process_time()
                while begun() < (bound + windows) * WINDOW:
                    await asyncio.sleep(0.2)
                used += _cpu(services)
                ours += time.process_time()
                memory = max(rss(service.pid) for service in services)
                codes = [await service.terminate() for service in services]
    figures = [
        figure
        for each in quota
        for figure in _carried(sandbox, each, range(bound, bound + windows))
    ]
    seconds = windows * WINDOW
    # Replicas that start together may meet at GET /api/accounts, one call a second.
    throttled = sum(
        statuses.get(429, 0)
        for operation, statuses in sandbox.ledger.statuses.items()
        if operation != "GET /api/accounts"
    )
    repeated = sandbox.state.events.duplicates
    together = sandbox.ledger.violation_count
    return [
        *figures,
        Figure("quota", "answers 429", "", throttled, most=0),
        Figure("quota", "events sent twice", "", repeated, most=0),
        Figure("quota", "writes of a customer together", "", together, most=0),
        Figure("quota", "bad exits", "", sum(map(bool, codes)), most=0),
        Figure("quota", "CPU of the services", "cores", used / seconds),
        Figure("quota", "CPU of the local Klaviyo", "cores", ours / seconds),
        Figure("quota", "memory of the largest", "MiB", memory / 2**20),
    ]


def _carried(sandbox: Sandbox, endpoint: Endpoint, windows: range) -> Iterator[Figure]:
    """Its rows against its quota, and how full its requests were."""
    minutes = sandbox.ledger.minutes.get(endpoint.operation, {})
    counts = [minutes[each] for each in windows if each in minutes]
    rows = sum(count.rows for count in counts)
    requests = sum(count.accepted for count in counts)
    quota = endpoint.requests * endpoint.rows * len(windows)
    note(f"quota: {endpoint.name}: {rows} rows in {requests} requests")
    yield Figure("quota", endpoint.name, "rows", rows, quota, least=FULL)
    if endpoint.rows > 1:
        mean = rows / max(1, requests)
        what = f"{endpoint.name}, rows a request"
        yield Figure("quota", what, "rows", mean, endpoint.rows, least=FULL)


def _cpu(services: list[Service]) -> float:
    return sum(cpu(service.pid) for service in services)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--row", type=int, default=BYTES // 1000)
    parser.add_argument("--buffer", type=int, default=64)
    raise SystemExit(not show(asyncio.run(measure(**vars(parser.parse_args())))))
