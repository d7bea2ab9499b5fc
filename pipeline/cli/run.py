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
) -> None:
    """Carry changes to and from Klaviyo until SIGTERM; serves probes and metrics."""
    settings = Options.of(context).settings(service=True)

    from pipeline import app  # noqa: PLC0415

    app.run(settings, only)
