"""What the commands that send again have in common: connect, show, sum up, exit code."""

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import typer

from pipeline.cli.progress import Shown, told

if TYPE_CHECKING:  # slow to import, and --help needs none
    from pipeline.replay.job import Job
    from pipeline.replay.outcome import Summary
    from pipeline.settings import Settings

__all__ = ["again"]


def again(
    settings: "Settings",
    work: "Callable[[Job], Awaitable[Summary]]",
    *,
    backfill: bool = False,
    dry: bool = False,
    compare: bool = False,
) -> "Summary":
    """Do it to its end, or to the first Ctrl-C; exit 1 if it did not come to its end."""
    import uvloop

    from pipeline.app import stop_on_signal
    from pipeline.errors import SettingsError
    from pipeline.replay.outcome import Dry
    from pipeline.replay.start import opened

    if compare and not dry:
        raise SettingsError("--diff belongs to --dry-run: add it.")
    shown = Shown()

    def show(text: str) -> None:
        shown.clear()
        typer.echo(text)

    async def run() -> "Summary":
        async with opened(
            settings,
            report=shown,
            stop=stop_on_signal(),
            backfill=backfill,
            dry=Dry(show, compare) if dry else None,
        ) as job:
            return await work(job)

    try:
        summary = uvloop.run(run())
    finally:
        shown.clear()
    if dry:
        print(f"dry run, nothing was sent; it would be {told(summary)}", file=sys.stderr)
    else:
        typer.echo(told(summary))
    if summary.interrupted:
        typer.echo("interrupted; call it again to go on", err=True)
        raise typer.Exit(1)
    return summary
