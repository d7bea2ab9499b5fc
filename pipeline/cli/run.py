"""`run`: the service."""

from typing import Annotated, Literal

import typer

from pipeline.cli.options import Options

__all__ = ["run"]


def run(
    context: typer.Context,
    only: Annotated[
        Literal["forward", "reverse"] | None,
        typer.Option(help="Run this direction alone."),
    ] = None,
    *,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what waits to be sent now, send nothing."),
    ] = False,
    diff: Annotated[
        bool,
        typer.Option("--diff", help="With --dry-run: what would change in profiles."),
    ] = False,
) -> None:
    """Carry changes to and from Klaviyo until SIGTERM; serves probes and metrics."""
    if dry_run or diff:
        from pipeline.cli.again import again
        from pipeline.errors import SettingsError

        if only == "reverse":
            raise SettingsError(
                "--dry-run shows what would be sent to Klaviyo, and the reverse "
                "direction sends nothing there: leave out --only reverse."
            )
        # Beside a running service: it joins no group and commits nothing.
        again(
            Options.of(context).settings(),
            lambda job: job.pending(),
            dry=dry_run,
            compare=diff,
        )
        return
    settings = Options.of(context).settings(service=True)

    from pipeline import app

    app.run(settings, only)
