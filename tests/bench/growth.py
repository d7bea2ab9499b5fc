"""CPU of 1,000 orders as things grow: flat is good.

    python -m tests.bench.growth [--records 1000000]

The yard-stick of each row is ours too, at 100,000 records by 10,000 customers on four
partitions with one replica. What joining, first use and stop cost, whatever the number of
records, is measured with ten records and taken off.
"""

import argparse
import uuid
from functools import partial
from typing import Final

from tests.bench import child
from tests.bench.child import Child
from tests.bench.feed import orders, rows
from tests.bench.path import cost
from tests.bench.report import Figure, note, show
from tests.bench.topic import filled
from tests.brokers.apache import Apache, find

__all__ = ["measure"]

RECORDS: Final = 100_000
CUSTOMERS: Final = 10_000
PARTITIONS: Final = 4
FEW: Final = 10  # records of the run that costs nothing but itself
FLAT: Final = 1.3  # x the usual run: below that it is noise


def measure(records: int = 1_000_000) -> list[Figure]:
    """CPU of 1,000 orders in ms beside the usual run; `records` is the longest run."""
    with find() as broker:
        fixed = _run(broker, FEW)

        def per_thousand(cpu: float, count: int, replicas: int = 1) -> float:
            return (cpu - fixed * replicas) * 1000 / (count / 1000)

        usual = per_thousand(_run(broker), RECORDS)
        figures = [
            Figure("growth", "fixed cost of a run", "ms", fixed * 1000),
            Figure("growth", "the usual run", "ms", usual),
        ]

        def add(what: str, value: float) -> None:
            figures.append(Figure("growth", what, "ms", value, usual, most=FLAT))

        for count in (1_000, 10_000, records):
            if count != RECORDS:
                cpu = _run(broker, count)
                add(f"{count} records", per_thousand(cpu, count))
        for customers in (10, 1_000, 100_000, records):
            count = max(RECORDS, customers)
            cpu = _run(broker, count, customers)
            add(f"{customers} customers", per_thousand(cpu, count))
        for partitions in (1, 12):
            cpu = _run(broker, partitions=partitions)
            add(f"{partitions} partitions", per_thousand(cpu, RECORDS))
        for replicas in (2, 3):
            cpu = _run(broker, partitions=12, replicas=replicas)
            add(f"{replicas} replicas", per_thousand(cpu, RECORDS, replicas))
    return figures


def _run(
    broker: Apache,
    records: int = RECORDS,
    customers: int = CUSTOMERS,
    partitions: int = PARTITIONS,
    replicas: int = 1,
) -> float:
    """CPU seconds of all replicas."""
    note(f"growth: {records=} {customers=} {partitions=} {replicas=}")
    topic = filled(broker, orders(records, customers), partitions)
    group = uuid.uuid4().hex

    def start(url: str) -> list[Child]:
        one = partial(child.pipeline, broker.bootstrap, topic, url, group)
        return [one() for _ in range(replicas)]

    return cost(start, rows(records)).cpu


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=1_000_000)
    raise SystemExit(not show(measure(**vars(parser.parse_args()))))
