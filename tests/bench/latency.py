"""Idle: one change each half second, from produce to the request's arrival.

    python -m tests.bench.latency [--changes 60]

Ours beside the bare loop (consume one, post one), both at the same time on the same
topic, each with a counting sink of its own: what disturbs one disturbs the other.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import Producer

from tests.bench import child
from tests.bench.child import Child, Sink
from tests.bench.feed import change
from tests.bench.report import Figure, note, show
from tests.bench.topic import filled
from tests.brokers.apache import Apache, find

__all__ = ["measure"]

EVERY: Final = 0.5  # s between two changes
WARM: Final = 10  # changes that do not count: connections, first looks
PATIENCE: Final = 60.0  # s for anything to arrive
P50, P99 = 2.0, 10.0  # ms above the bare loop
IDLE: Final = 2.0  # % of a core


def measure(changes: int = 60) -> list[Figure]:
    """Latency of both in milliseconds, and what ours costs meanwhile."""
    note(f"latency: {changes} changes, one each {EVERY} s")
    with find() as broker, Sink() as near, Sink() as far:
        topic = filled(broker, (), partitions=1)
        count = WARM + changes
        with (
            child.pipeline(broker.bootstrap, topic, near.url) as ours,
            child.bare(broker.bootstrap, topic, far.url, count),
        ):
            sent, busy = _feed(broker, topic, count, (near, far), ours)
            mine, bare = (_latencies(sent, sink.told().arrivals) for sink in (near, far))
    return [
        Figure("latency", "p50", "ms", _rank(mine, 0.5), _rank(bare, 0.5), above=P50),
        Figure("latency", "p99", "ms", _rank(mine, 0.99), _rank(bare, 0.99), above=P99),
        Figure("latency", "CPU meanwhile", "% of a core", busy, most=IDLE),
    ]


def _feed(
    broker: Apache, topic: str, count: int, sinks: Sequence[Sink], ours: Child
) -> tuple[list[float], float]:
    """When each change was written, and the part of a core ours used, in percent."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0})
    sent: list[float] = []
    cpu = started = 0.0
    for number in range(count):
        sent.append(time.monotonic())
        producer.produce(topic, change(number))
        producer.flush()
        if number == 0:  # both have joined once it has come
            _await(sinks, 1)
        if number + 1 == WARM:
            _await(sinks, WARM)
            cpu, started = ours.cpu(), time.monotonic()
        time.sleep(EVERY)
    _await(sinks, count)
    return sent, (ours.cpu() - cpu) / (time.monotonic() - started) * 100


def _await(sinks: Sequence[Sink], rows: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while any(sink.told().rows < rows for sink in sinks):
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {rows} changes came in {PATIENCE:.0f} s")
        time.sleep(0.1)


def _latencies(sent: Sequence[float], arrived: Sequence[float]) -> list[float]:
    """In ms, sorted; changes arrive in their order, one in a request."""
    pairs = list(zip(sent, arrived, strict=True))[WARM:]
    return sorted((there - here) * 1000 for here, there in pairs)


def _rank(values: Sequence[float], part: float) -> float:
    return values[min(int(len(values) * part), len(values) - 1)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--changes", type=int, default=60)
    raise SystemExit(not show(measure(**vars(parser.parse_args()))))
