"""Memory while a lag drains without limits.

    python -m tests.bench.memory [--records 1000000]

Flat means: the second half of the way holds no more than the first.
"""

import argparse
from typing import Final

from tests.bench import child
from tests.bench.feed import orders, rows
from tests.bench.path import cost
from tests.bench.report import Figure, note, show
from tests.bench.topic import filled
from tests.brokers.apache import find

__all__ = ["measure"]

MOST: Final = 200.0  # MiB
FLAT: Final = 1.1  # x the first half's most


def measure(records: int = 1_000_000) -> list[Figure]:
    """Most memory in MiB, and whether it grows."""
    note(f"memory: {records} orders of lag")
    with find() as broker:
        topic = filled(broker, orders(records, records // 2))
        spent = cost(
            lambda url: [child.pipeline(broker.bootstrap, topic, url)], rows(records)
        )
    first, second = spent.halves
    return [
        Figure("memory", f"RSS, {records} records of lag", "MiB", spent.peak, most=MOST),
        Figure("memory", "second half : first half", "MiB", second, first, most=FLAT),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=1_000_000)
    raise SystemExit(not show(measure(**vars(parser.parse_args()))))
