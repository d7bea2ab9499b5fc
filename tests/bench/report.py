"""Figures, as a table for people and as JSON for programs."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

__all__ = ["FILE", "Figure", "note", "show", "write"]

FILE: Final = Path(__file__).parent.parent.parent / ".cache" / "bench.json"
_LIBRARIES: Final = ("aiohttp", "aiokafka", "msgspec", "phonenumbers", "uvloop")


class Figure(msgspec.Struct, frozen=True):
    """One measured value beside its yard-stick; and its bound, if any."""

    part: str
    what: str
    unit: str
    ours: float
    stick: float | None = None  # the yard-stick's value, in the same unit
    most: float | None = None  # ours must not be above: a ratio if there is a stick
    least: float | None = None  # nor below
    above: float | None = None  # ours must not be above the stick by more

    @property
    def ratio(self) -> float | None:
        """Ours as a multiple of the yard-stick."""
        return self.ours / self.stick if self.stick else None

    @property
    def good(self) -> bool:
        """Whether it keeps its bound; true where it has none."""
        value = self.ours if self.ratio is None else self.ratio
        return (
            (self.most is None or value <= self.most)
            and (self.least is None or value >= self.least)
            and (self.above is None or self.ours - (self.stick or 0.0) <= self.above)
        )

    @property
    def must(self) -> str:
        """The condition, for people."""
        times = "" if self.stick is None else " x"
        if self.most is not None:
            return f"<= {self.most:g}{times}"
        if self.least is not None:
            return f">= {self.least:g}{times}"
        return "" if self.above is None else f"<= +{self.above:g} {self.unit}"


def note(text: str) -> None:
    """Say what goes on; not part of the result."""
    print(text, file=sys.stderr, flush=True)


def show(figures: Sequence[Figure]) -> bool:
    """Print the table; true if all figures are good."""
    table = Table("part", "figure", "ours", "yard-stick", "ratio", "must", "")
    for figure in figures:
        ratio = figure.ratio
        table.add_row(
            figure.part,
            figure.what,
            f"{figure.ours:,.4g} {figure.unit}",
            "" if figure.stick is None else f"{figure.stick:,.4g} {figure.unit}",
            "" if ratio is None else f"{ratio:.2f} x",
            figure.must,
            ("good" if figure.good else "[red]not reached[/]") if figure.must else "",
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return all(figure.good for figure in figures)


def write(figures: Sequence[Figure]) -> None:
    """Write all figures with machine and versions to `FILE`."""
    FILE.parent.mkdir(exist_ok=True)
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("klaviyo-pipeline", *_LIBRARIES)},
        },
        "figures": [
            {**msgspec.structs.asdict(each), "ratio": each.ratio, "good": each.good}
            for each in figures
        ],
    }
    FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.machine()).strip()
