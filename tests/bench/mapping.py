"""What mapping costs: CPU per order of 20 fields and 3 lines, beside one plain path.

    python -m tests.bench.mapping

The plain path is the library's own search of `a.b.c`, untouched: the yard-stick for the
machine. "Mapping" is what comes on top of reading the same order in our own shape: the
whole way from the record's bytes to the event, both ways, and their difference.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import jmespath
import msgspec

from pipeline.demo import foreign
from schemas.envelope import decode
from schemas.mapping import Mapped
from tests.bench.report import Figure, note, show
from tests.shops import WEB_ORDER

MOST = 300  # microseconds of CPU an order
ORDERS = 5_000
ROUNDS = 5  # the best counts: the machine is shared


def cpu(work: Callable[[], Any]) -> float:
    """Microseconds of CPU of one call, the best of some rounds."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(ORDERS):
            work()
        rounds.append((time.process_time() - start) / ORDERS * 1e6)
    return min(rounds)


def measure() -> list[Figure]:
    """What mapping one order costs, beside a plain path and our own shape."""
    note(f"mapping: {ORDERS} orders, {ROUNDS} times")
    lines = [*WEB_ORDER["line_items"], WEB_ORDER["line_items"][0] | {"id": 7}]
    theirs = json.dumps(WEB_ORDER | {"line_items": lines}).encode()
    of = foreign.mappings().of("web.orders")
    made = decode(theirs, (), None, of)
    assert isinstance(made, Mapped)
    assert len(of[0].fields) == 16  # one of them fills an address of five
    ours = msgspec.json.encode(made.event)
    path, document = jmespath.compile("a.b.c"), {"a": {"b": {"c": 1}}}
    plain = cpu(lambda: path.search(document))
    mapped = cpu(lambda: decode(theirs, (), None, of))
    read = cpu(lambda: decode(ours, ()))
    return [
        Figure("mapping", "one plain path, by the library", "µs", plain),
        Figure("mapping", "an order in our own shape, read", "µs", read),
        Figure("mapping", "mapping a foreign one", "µs", mapped - read, most=MOST),
    ]


if __name__ == "__main__":
    raise SystemExit(not show(measure()))
