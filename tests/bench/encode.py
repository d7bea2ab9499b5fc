"""Decode + plan + encode: CPU of an order, without Kafka and without HTTP.

    python -m tests.bench.encode [--records 20000]

Ours is the planner and the bulk request; the yard-stick is what the hand-written limit
does for the same. Orders with properties that only this shop knows stand beside plain
ones: their bytes must be looked into.
"""

import argparse
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from pipeline.forward.plan import Planner
from pipeline.records import Record
from schemas import bulk_events
from schemas.commands import CreateEvent
from schemas.event import Context, Plan
from tests.bench import limit
from tests.bench.feed import orders
from tests.bench.report import Figure, note, show

__all__ = ["measure"]

ROUNDS: Final = 5  # of both in turn; the fastest counts, as noise only adds
MOST: Final = 1.5  # x the limit's


def measure(records: int = 20_000) -> list[Figure]:
    """Two figures, in microseconds an order."""
    note(f"encode: {records} orders, {ROUNDS} times")
    return [
        _compare("decode + plan + encode", records, own=False),
        _compare("the same, with own properties", records, own=True),
    ]


def _compare(what: str, records: int, *, own: bool) -> Figure:
    # As many customers: nothing is known of one already, as over a long backlog.
    values = list(orders(records, records, own=own))
    wrapped = [Record("t", 0, n, 1793527200000, None, v) for n, v in enumerate(values)]
    best = {"ours": 1e9, "limit": 1e9}
    for _ in range(ROUNDS):
        best["limit"] = min(best["limit"], _timed(lambda: limit.bodies(values)))
        best["ours"] = min(best["ours"], _timed(lambda: _bodies(wrapped)))
    us = {name: seconds / records * 1e6 for name, seconds in best.items()}
    return Figure("encode", what, "µs", us["ours"], us["limit"], most=MOST)


def _timed(bodies: Callable[[], Iterator[bytes]]) -> float:
    gc.collect()
    started = time.process_time()
    for _ in bodies():
        pass
    return time.process_time() - started


def _bodies(records: Sequence[Record]) -> Iterator[bytes]:
    """As the forward direction does it, with nothing in between."""
    planner = Planner(Context(default_country="US"))
    persons: list[bytes] = []
    rows: list[bytes] = []
    events = 0
    for record in records:
        plan = planner.plan(record)
        assert isinstance(plan, Plan)
        made = [each for each in plan.commands if isinstance(each, CreateEvent)]
        if events + len(made) > bulk_events.ROWS:
            yield bulk_events.body(persons, rows)
            persons, rows, events = [], [], 0
        persons.append(bulk_events.person(made[0]))
        rows.append(bulk_events.rows(made))
        events += len(made)
    yield bulk_events.body(persons, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=20_000)
    raise SystemExit(not show(measure(**vars(parser.parse_args()))))
