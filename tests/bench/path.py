"""The whole forward direction without limits: CPU of 1,000 orders.

    python -m tests.bench.path [--records 200000] [--rounds 3]

Ours and the hand-written limit read the same topic of the same real Kafka in turn, each
in a process of its own, and post to the same kind of counting sink. CPU counts from the
first call (made before anything is read) to the end of the process: joining the group,
commits and the stop are in it, starting the interpreter is not.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

import msgspec

from tests.bench import child
from tests.bench.child import Child, Sink
from tests.bench.feed import orders, rows
from tests.bench.report import Figure, note, show
from tests.bench.topic import filled
from tests.brokers.apache import find

__all__ = ["Cost", "cost", "measure"]

MOST: Final = 1.5  # x the limit's CPU
LONGEST: Final = 900.0  # s that one run may take
LOOK: Final = 0.02  # s between two looks at the sink


class Cost(msgspec.Struct, frozen=True):
    """What one run cost, all its processes together."""

    cpu: float  # s, from the first call to the end
    wall: float  # s, from the first row to the last
    halves: tuple[float, float]  # MiB, most memory in the first half of the rows, second
    sink: float  # part of a core the sink used meanwhile

    @property
    def peak(self) -> float:
        """Most memory in MiB."""
        return max(self.halves)


def measure(records: int = 200_000, rounds: int = 3) -> list[Figure]:
    """CPU, speed and memory of both."""
    ours: list[Cost] = []
    echoing: list[Cost] = []
    sticks: list[Cost] = []
    with find() as broker:
        note(f"path: {records} orders into Kafka")
        topic = filled(broker, orders(records, records // 2))

        def limit(url: str) -> list[Child]:
            return [child.limit(broker.bootstrap, topic, url, records)]

        def pipeline(url: str) -> list[Child]:
            return [child.pipeline(broker.bootstrap, topic, url)]

        def echo(url: str) -> list[Child]:
            return [child.pipeline(broker.bootstrap, topic, url, echo=True)]

        for number in range(rounds):
            sticks.append(cost(limit, rows(records)))
            ours.append(cost(pipeline, rows(records)))
            echoing.append(cost(echo, rows(records)))
            note(
                f"path: round {number + 1}: limit {sticks[-1].cpu:.2f} s of CPU, "
                f"ours {ours[-1].cpu:.2f} s"
            )
    us, told, stick = (
        min(each, key=lambda cost: cost.cpu) for each in (ours, echoing, sticks)
    )
    thousand = records / 1000
    return [
        Figure(
            "path",
            "CPU of 1,000 orders",
            "ms",
            us.cpu * 1000 / thousand,
            stick.cpu * 1000 / thousand,
            most=MOST,
        ),
        Figure(
            "path",
            "the same, told to the reverse direction",
            "ms",
            told.cpu * 1000 / thousand,
            stick.cpu * 1000 / thousand,
        ),
        Figure("path", "orders a second", "/s", records / us.wall, records / stick.wall),
        Figure("path", "most memory", "MiB", us.peak, stick.peak),
        Figure("path", "the sink's part of a core", "", us.sink, stick.sink),
    ]


def cost(start: Callable[[str], Sequence[Child]], expected: int) -> Cost:
    """Run children against a sink of their own until `expected` rows have come."""
    with Sink() as sink, ExitStack() as stack:
        processes = [stack.enter_context(each) for each in start(sink.url)]
        deadline = time.monotonic() + LONGEST
        before = began = None
        most = [0, 0]
        while (told := sink.told()).rows < expected:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{told.rows} of {expected} rows in {LONGEST:.0f} s")
            if before is None and told.calls - told.requests >= len(processes):
                before = sum(each.cpu() for each in processes)
            if began is None and told.rows:
                began = time.monotonic(), told.cpu
            half = told.rows * 2 >= expected
            most[half] = max(most[half], *(each.rss() for each in processes), 0)
            time.sleep(LOOK)
        wall = time.monotonic() - began[0] if began else LOOK
        cpu = sum(each.finish() for each in processes)
        if before is None:
            raise RuntimeError("rows came before each process had made its first call")
        after = sink.told()
        if after.rows != expected:
            raise RuntimeError(f"{after.rows} rows came where {expected} are right")
        busy = (after.cpu - began[1]) / wall if began else 0.0
        first, second = (size / 2**20 for size in most)
        return Cost(cpu - before, wall, (first, second), busy)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    raise SystemExit(not show(measure(**vars(parser.parse_args()))))
