"""All figures of speed, or the parts that are named.

    python -m tests.bench [path encode mapping latency ...]

One table, and `.cache/bench.json` with machine and versions. A part measures itself and
its yard-stick in turn in this call: ratios hold on a noisy machine, the rest does not.
"""

import argparse
import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from tests.bench import encode, growth, latency, mapping, memory, path, quota, reverse
from tests.bench.report import FILE, Figure, note, show, write

# Seconds the server takes, replicas, and connections of each; two whole windows each. One
# replica alone needs 73 calls a second: at 150 ms more than the 10 connections it has
# unless told.
QUOTA: Final = ((0.0, 1, 10), (0.15, 1, 20), (0.0, 3, 10), (0.15, 3, 10))


def _quota() -> list[Figure]:
    """What each endpoint carries of its quota."""
    figures: list[Figure] = []
    for latency_, replicas, connections in QUOTA:
        of = f"{replicas} of us, {latency_ * 1000:.0f} ms, {connections} connections: "
        measured = quota.measure(latency_, 2, replicas, connections)
        figures += [
            msgspec.structs.replace(each, what=of + each.what)
            for each in asyncio.run(measured)
        ]
    return figures


PARTS: Final[Mapping[str, Callable[[], list[Figure]]]] = {
    "encode": encode.measure,
    "mapping": mapping.measure,
    "path": path.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "growth": growth.measure,
    "quota": _quota,
    "reverse": reverse.measure,
}


def main() -> bool:
    """Measure, print, write; true if every bound is kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}")
    chosen: list[str] = parser.parse_args().parts or list(PARTS)
    if unknown := sorted(set(chosen) - PARTS.keys()):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    figures: list[Figure] = []
    for name in chosen:
        figures += PARTS[name]()
        write(figures)  # what was measured is not lost if a later part fails
    note(f"written to {FILE}")
    return show(figures)


if __name__ == "__main__":
    raise SystemExit(not main())
