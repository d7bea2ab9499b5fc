"""How much of Klaviyo's quota a backlog really uses, in the official windows.

    python -m tests.bench.quota [--latency 0.15] [--windows 2] [--replicas 3]

Two backlogs at once (orders and customers) on a real Kafka, through the built program.
Counted are whole server windows of 60 s from the second one on. Printed are the useful
rows against the quota of each endpoint, how many requests took them, and repeats.
"""

import argparse
import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack

from pipeline.demo.shop import Made
from pipeline.sandbox import Sandbox
from tests.brokers.apache import find
from tests.flow.rig import Rig

WINDOW = 60  # s
FULL = 0.98  # of the quota
ROWS = {
    "POST /api/profile-import": 750,
    "POST /api/events": 3500,
    "POST /api/event-bulk-create-jobs": 150_000,
}  # useful rows a minute at most
LINES = 9  # with the order itself 10 events a record


def backlog(windows: int) -> Iterator[Made]:
    """More than all windows can carry."""
    events = (windows + 3) * (ROWS["POST /api/events"] + 155_000)
    for number in range(events // (LINES + 1)):
        order = {
            "id": f"O-{number}",
            "total": "10.00",
            "customer": {"id": f"B-{number}"},
            "lines": [
                {"id": str(n), "sku": "S1", "quantity": 1, "price": "1.00"}
                for n in range(LINES)
            ],
        }
        message = {"type": "order.placed", "order": order}
        yield Made("shop.orders", b"%d" % number, json.dumps(message).encode())
    for number in range((windows + 2) * ROWS["POST /api/profile-import"]):
        message = {"type": "customer.updated", "customer": {"id": f"C-{number}"}}
        yield Made("shop.customers", b"%d" % number, json.dumps(message).encode())


async def main(latency: float, windows: int, replicas: int) -> bool:
    """Print a table; true if each operation used >= 98 % and nothing was answered 429."""
    async with Sandbox() as sandbox:
        with find() as broker:
            rig = Rig(broker.bootstrap, sandbox)
            rig.set(latency=latency, keep_events=1000)
            await rig.create_topics()
            await rig.send(backlog(windows))
            async with AsyncExitStack() as stack:
                services = [
                    await stack.enter_async_context(rig.service())
                    for _ in range(replicas)
                ]
                for service in services:
                    while not await service.metric("records_consumed_total"):
                        await asyncio.sleep(0.5)
                # Until the shares of the first assignments have settled.
                wait = 0 if replicas == 1 else WINDOW
                first = int((sandbox.now() + wait) // WINDOW) + 1
                end = (first + windows) * WINDOW
                print(f"counting {windows} windows, done in {end - sandbox.now():.0f} s")
                while sandbox.now() < end + 1:
                    await asyncio.sleep(0.5)
                codes = [await service.terminate() for service in services]
    good = not any(codes) and not sandbox.state.events.duplicates
    for operation, quota in ROWS.items():
        minutes = sandbox.ledger.minutes[operation]
        counted = [minutes[first + index] for index in range(windows)]
        rows = sum(count.rows for count in counted)
        requests = sum(count.accepted for count in counted)
        throttled = sum(count.throttled for count in minutes.values())
        used = rows / (quota * windows)
        good = good and used >= FULL and not throttled
        print(
            f"{operation}: {rows} rows in {requests} requests, {used:.1%} of the quota,"
            f" {throttled} answers 429"
        )
    print(f"sent twice: {sandbox.state.events.duplicates} events")
    print(
        f"requests of one customer in flight together: {sandbox.ledger.violation_count}"
    )
    return good


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--replicas", type=int, default=1)
    chosen = parser.parse_args()
    raise SystemExit(
        not asyncio.run(main(chosen.latency, chosen.windows, chosen.replicas))
    )
