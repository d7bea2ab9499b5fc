"""How long work is shown: one moving line on a terminal, else a plain line now and then.

On stderr, so that what a command prints can be piped.
"""

import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # slow to import, and --help needs none
    from pipeline.replay.outcome import Progress, Summary

__all__ = ["Shown", "told"]

EVERY: Final = 5.0  # s between two plain lines


class Shown:
    """Shows the progress it is called with."""

    def __init__(self) -> None:
        self._moving = sys.stderr.isatty()
        self._width = 0
        self._last = ("", time.monotonic())

    def __call__(self, progress: "Progress") -> None:
        """Show how far it is."""
        stage, shown = self._last
        now = time.monotonic()
        if self._moving:
            text = _line(progress)
            self._width = max(self._width, len(text))
            print(f"\r{text.ljust(self._width)}", end="", file=sys.stderr, flush=True)
        elif (progress.total or progress.waits) and (
            progress.stage != stage or now - shown >= EVERY
        ):
            print(_line(progress), file=sys.stderr, flush=True)
            self._last = (progress.stage, now)

    def clear(self) -> None:
        """Give the line back."""
        if self._width:
            print(f"\r{' ' * self._width}\r", end="", file=sys.stderr, flush=True)
            self._width = 0


def _line(progress: "Progress") -> str:
    part = f" {progress.read / progress.total:.0%}" if progress.total else ""
    text = f"{progress.stage}{part}"
    if progress.total:
        text += f": {progress.read} of {progress.total} read, {progress.settled} ended"
    return f"{text}; waiting: {progress.waits}" if progress.waits else text


def told(summary: "Summary") -> str:
    """Say in one line what came of it."""
    text = (
        f"{summary.sent} records: {summary.delivered} delivered, "
        f"{summary.skipped} skipped, {summary.dead_lettered} dead-lettered"
    )
    if summary.there:
        text += f" ({summary.there} of them were dead letters already)"
    if summary.later:
        text += f"; {summary.later} later profile changes sent after them"
    if summary.resumed:
        text += "; went on with an interrupted call"
    return text
