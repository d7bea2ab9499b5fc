"""The table of faults: in colours and with progress on a terminal, plain lines else."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rich.console import Console
from rich.table import Table

from tests.faults.scenario import INVARIANTS, Scenario

__all__ = ["End", "Report", "Result"]

End: TypeAlias = Literal["holds", "BROKEN", "not run"]

_SHOWN = {"holds": "green", "BROKEN": "bold red", "not run": "yellow"}


@dataclass(frozen=True)
class Result:
    """How one scenario ended."""

    scenario: Scenario
    end: End
    seen: str
    seconds: float


class Report:
    """Says what goes on, and the table at the end."""

    def __init__(self, total: int) -> None:
        self._console = Console(highlight=False, width=None if _terminal() else 160)
        self._total = total
        self._results: list[Result] = []
        self._under_way: list[str] = []

    def begun(self, scenario: Scenario) -> None:
        self._under_way.append(scenario.name)
        if not _terminal():
            self._console.print(f"{scenario.number} {scenario.name}: begun")

    def ended(self, result: Result) -> None:
        self._results.append(result)
        self._under_way.remove(result.scenario.name)
        count = f"[{len(self._results)}/{self._total}]"
        scenario, style = result.scenario, _SHOWN[result.end]
        line = f"{count} {scenario.number} {scenario.name}: "
        self._console.print(line, end="", markup=False)
        self._console.print(f"[{style}]{result.end}[/], {result.seconds:.0f} s")
        if result.end == "BROKEN":
            self._console.print(result.seen, markup=False)
        if _terminal() and self._under_way:
            self._console.print(
                f"    under way: {', '.join(self._under_way)}", style="dim"
            )

    def show(self) -> bool:
        """Print the table; true if nothing broke."""
        results: Sequence[Result] = sorted(
            self._results, key=lambda each: each.scenario.number
        )
        if _terminal():
            table = Table("#", "fault", "invariant", "result", "seen", "s")
            for each in results:
                table.add_row(
                    str(each.scenario.number),
                    each.scenario.what,
                    each.scenario.invariant,
                    f"[{_SHOWN[each.end]}]{each.end}[/]",
                    each.seen.splitlines()[0] if each.seen else "",
                    f"{each.seconds:.0f}",
                )
            self._console.print(table)
        else:
            for each in results:
                seen = each.seen.splitlines()[0] if each.seen else ""
                print(
                    f"{each.scenario.number:2} | {each.scenario.what} | "
                    f"{each.scenario.invariant} | {each.end} | {seen}"
                )
        for name, meaning in INVARIANTS.items():
            print(f"{name} {meaning}")
        ends = [each.end for each in results]
        print(", ".join(f"{ends.count(end)} {end}" for end in dict.fromkeys(ends)))
        return "BROKEN" not in ends


def _terminal() -> bool:
    return sys.stdout.isatty()
