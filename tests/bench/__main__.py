"""All figures of contract 9 of the forward direction, or the parts that are named.

    python -m tests.bench [path encode latency memory growth quota]

One table, and `.cache/bench.json` with machine and versions. A part measures itself and
its yard-stick in turn in this call: ratios hold on a noisy machine, the rest does not.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Final

from tests.bench import encode, path
from tests.bench.report import FILE, Figure, note, show, write

PARTS: Final[Mapping[str, Callable[[], list[Figure]]]] = {
    "encode": encode.measure,
    "path": path.measure,
}


def main() -> bool:
    """Measure, print, write; true if everything is as the contract asks."""
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
